"""Rows whose own columns stayed, and lead to another tenant now: nothing follows them unasked."""

import json
from functools import partial

import pytest
from django.db import connection, models
from django.db.models import Value
from django.test.utils import isolate_apps

from tests.testapp.models import Document, Folder, Office, Organization, Reply, Thread, Visit
from vault_fields.fields import CompanionField, EncryptedTextField, context_from
from vault_fields.fields.groups import group_of
from vault_fields.rows.backfill import encrypt_column
from vault_fields.rows.rekey import reencrypt_group, rekey_group
from vault_fields.rows.rewriting import convert_column
from vault_fields.stored import companion as companion_format
from vault_fields.testing import assert_vault_calls

END = "organization__workos_id"
NOTHING = {"redirected": 0, "moved": 0, "failed": 0, "rekeyed": 0, "reencrypted": 0}


def run(model, name="body", work=rekey_group, **options):
    """What became of the rows, without what is nothing; and the problems."""
    problems = []
    report = work(group_of(model._meta.get_field(name)), on_problem=problems.append, **options)
    counts = {each: getattr(report, each) for each in NOTHING}
    return {each: count for each, count in counts.items() if count}, problems


def context(row, column="body_keys"):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {row._meta.db_table}")
        return dict(companion_format.decode(cursor.fetchone()[0]).context)


@pytest.fixture
def document(organization):
    return Document.objects.create(organization=organization, body="text")


def rename(workos_id="org_evil") -> None:
    Organization.objects.update(workos_id=workos_id)


@isolate_apps("tests.testapp")
def declared(key_context, table="testapp_document", **options):
    """The documents under another declaration."""

    class Declared(models.Model):
        organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
        body = EncryptedTextField(key_context=key_context, former_labels=["testapp.Document.body"], **options)

        class Meta:
            app_label = "testapp"
            db_table = table

    return Declared


@pytest.mark.parametrize("work", [rekey_group, partial(rekey_group, rewrap=True), reencrypt_group])
def test_a_row_behind_the_relation_that_changed_is_told_of_and_not_followed(document, stored, work) -> None:
    before = stored(document, "body", "body_keys")
    rename()
    with assert_vault_calls():
        counts, (problem,) = run(Document, work=work)
    assert counts == {"redirected": 1}
    assert f"testapp.Document.body (pk={document.pk}): the columns of the row are those of the value" in problem
    assert "organization_id is 'org_evil' now, and was 'org_1'." in problem
    assert stored(document, "body", "body_keys") == before
    assert Document.objects.get().body == "text"


def test_who_accepts_it_has_them_followed_there_and_back(document) -> None:
    for name in ("org_evil", "org_1"):
        rename(name)
        assert run(Document, dry_run=True)[0] == {"redirected": 1}
        assert run(Document, dry_run=True, accept_redirected=True)[0] == {"rekeyed": 1}
        assert run(Document, accept_redirected=True) == ({"rekeyed": 1}, [])
        assert context(document) == {"organization_id": name, "purpose": "documents"}
    rename("org_evil")
    rename("org_1")
    assert run(Document) == ({}, []), "it leads to where it did"


@pytest.fixture
def reply(organization):
    return Reply.objects.create(thread=Thread.objects.create(organization=organization), text="text")


@pytest.mark.parametrize("step", ["the end", "a row on the way"])
def test_every_row_on_a_path_of_several_relations_counts(reply, other_organization, step) -> None:
    if step == "the end":
        Organization.objects.filter(workos_id="org_1").update(workos_id="org_evil")
    else:
        Thread.objects.update(organization=other_organization)
    assert run(Reply, "text")[0] == {"redirected": 1}
    assert run(Reply, "text", reencrypt_group)[0] == {"redirected": 1}
    assert run(Reply, "text", accept_redirected=True)[0] == {"rekeyed": 1}
    assert run(Reply, "text")[0] == {}


def test_each_of_the_two_needs_its_own_word(reply, organization, other_organization, execute) -> None:
    """A row that was moved is not redirected, wherever its new parent leads."""
    elsewhere = Thread.objects.create(organization=other_organization)
    execute("UPDATE testapp_reply SET thread_id = %s", elsewhere.pk)
    assert run(Reply, "text", accept_redirected=True)[0] == {"moved": 1}
    assert run(Reply, "text", accept_moved=True)[0] == {"reencrypted": 1}
    Organization.objects.filter(workos_id="org_2").update(workos_id="org_evil")
    assert run(Reply, "text", accept_moved=True)[0] == {"redirected": 1}


def test_the_same_table_at_the_end(organization, other_organization) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO testapp_folder (id, organization_id, parent_id, region) VALUES (1000, %s, 1000, '')",
            [organization.pk],
        )
    folder = Folder.objects.create(organization=organization, parent_id=1000, text="text")
    Folder.objects.filter(pk=1000).update(organization=other_organization)
    counts, (problem,) = run(Folder, "text")
    assert (counts, f"(pk={folder.pk})" in problem) == ({"redirected": 1}, True)


def test_the_primary_key_of_what_is_related_by_another_column(organization, execute) -> None:
    Visit.objects.create(organization=organization, report="text")
    execute("UPDATE testapp_organization SET id = id + 1000")
    assert run(Visit, "report")[0] == {"redirected": 1}


def test_a_child_whose_context_starts_in_the_table_of_its_parent(organization) -> None:
    with isolate_apps("tests.testapp"):

        class Declared(Office):
            secret = EncryptedTextField(key_context={"organization_id": END})

            class Meta:
                app_label = "testapp"
                db_table = "testapp_branch"

    row = Declared.objects.create(organization=organization, secret="text")
    rename()
    assert run(Declared, "secret")[0] == {"redirected": 1}
    assert run(Declared, "secret", accept_redirected=True)[0] == {"rekeyed": 1}
    assert context(row, "secret_keys") == {"organization_id": "org_evil"}
    assert Declared.objects.get().secret == "text"


@context_from("organization_id")
def by_function(row):
    return {"organization_id": row.organization.workos_id}


def test_what_a_function_makes_of_the_same_columns(organization) -> None:
    made = declared(by_function)
    row = made.objects.create(organization=organization, body="text")
    rename()
    assert run(made)[0] == {"redirected": 1}
    assert run(made, work=reencrypt_group)[0] == {"redirected": 1}
    assert run(made, accept_redirected=True)[0] == {"rekeyed": 1}
    assert context(row) == {"organization_id": "org_evil"}


def test_a_function_whose_columns_were_moved_needs_the_word_for_that(organization, other_organization, execute) -> None:
    made = declared(by_function)
    made.objects.create(organization=organization, body="text")
    execute("UPDATE testapp_document SET organization_id = %s", other_organization.pk)
    assert run(made, accept_redirected=True)[0] == {"moved": 1}
    assert run(made, accept_moved=True)[0] == {"reencrypted": 1}


@pytest.mark.parametrize(
    ("key_context", "expected"),
    [
        ({"organization_id": END, "purpose": Value("other")}, {"rekeyed": 1}),
        ({"organization_id": END}, {"rekeyed": 1}),
        ({"organization_id": END, "purpose": "organization__workos_id"}, {"reencrypted": 1}),
        ({"organization_id": "organization_id"}, {"rekeyed": 1}),
        ({"organization_id": Value("all")}, {"moved": 1}),
    ],
    ids=["a constant", "an item less", "an item more", "the row's own column", "nothing that stayed"],
)
def test_what_the_declaration_alone_changes_is_followed(document, key_context, expected) -> None:
    assert run(declared(key_context))[0] == expected


@pytest.mark.parametrize(
    "key_context",
    [
        {"organization_id": END, "purpose": Value("other")},
        {"organization_id": END, "purpose": END},
        {"organization_id": "organization__region"},
    ],
    ids=["a constant", "an item more", "another path"],
)
def test_no_declaration_covers_what_changed_behind_a_relation(document, key_context) -> None:
    rename()
    made = declared(key_context)
    assert run(made)[0] == {"redirected": 1}
    assert sum(run(made, accept_redirected=True)[0].values()) == 1
    assert made.objects.get().body == "text"


def test_a_relation_that_leads_nowhere_is_no_redirection(document, organization, execute) -> None:
    with connection.constraint_checks_disabled():
        execute("DELETE FROM testapp_organization")
        counts, (problem,) = run(Document, accept_redirected=True)
        organization.save(force_insert=True)
    assert counts == {"failed": 1}
    assert "'organization' is not set" in problem


def test_a_companion_that_says_another_context_is_rekeyed_for_nobody(document, execute, stored) -> None:
    """Redirected or not is told before the Vault is asked, of what nobody has proved; acting on it is not."""
    (keys,) = stored(document, "body_keys")
    forged = json.dumps(json.loads(keys) | {"context": {"organization_id": "org_2", "purpose": "documents"}})
    execute("UPDATE testapp_document SET body_keys = %s", "".join(forged.split()))
    assert run(Document)[0] == {"redirected": 1}
    assert run(Document, accept_redirected=True)[0] == {"failed": 1}


@pytest.fixture
def pair(organization, execute):
    """A companion of two fields, one of which is still plain in a row that was redirected."""

    with isolate_apps("tests.testapp"):

        class Pair(models.Model):
            organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
            subject = EncryptedTextField(
                key_context={"organization_id": END}, keys_field="vault_keys", null=True, migrating=True
            )
            text = EncryptedTextField(key_context={"organization_id": END}, keys_field="vault_keys", null=True)
            title = models.CharField(max_length=100, default="")
            vault_keys = CompanionField()

            class Meta:
                app_label = "testapp"
                db_table = "testapp_letter"

    row = Pair.objects.create(organization=organization, text='"text"')
    execute("UPDATE testapp_letter SET subject = 'plain'")
    rename()
    return row


@pytest.mark.parametrize("options", [{}, {"dry_run": True}])
def test_encrypting_a_neighbour_takes_no_value_to_another_tenant(pair, options) -> None:
    problems = []
    report = encrypt_column(pair._meta.get_field("subject"), on_problem=problems.append, **options)
    assert (report.written, report.left_alone) == (0, [pair.pk])
    assert "organization_id is 'org_evil' now, and was 'org_1'" in problems[0]
    assert context(pair, "vault_keys") == {"organization_id": "org_1"}
    assert run(type(pair), "text", accept_redirected=True)[0] == {"rekeyed": 1}
    assert encrypt_column(pair._meta.get_field("subject"), on_problem=pytest.fail, **options).written == 1


def test_converting_values_takes_none_to_another_tenant(pair) -> None:
    problems = []
    report = convert_column(pair._meta.get_field("text"), str.upper, on_problem=problems.append)
    assert (report.written, report.failed) == (0, 1)
    assert "--accept-redirected" in problems[0]
    assert type(pair).objects.get().text == '"text"'


def test_what_is_saved_is_for_the_tenant_that_the_row_has_then(document) -> None:
    rename()
    loaded = Document.objects.get()
    loaded.body = "new"
    loaded.save()
    assert context(document)["organization_id"] == "org_evil"
    assert run(Document)[0] == {}
