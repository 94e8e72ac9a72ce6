"""A partial write that meets others: each time faster ones, rows that go, and what a companion opens."""

import pytest
from django.core import serializers
from django.db import DatabaseError, connection, transaction

from tests.testapp.models import Document, Letter, Patient, Thread
from vault_fields.exceptions import KeyContextError
from vault_fields.fields import updatefields
from vault_fields.fields.barerows import StoredColumns


@pytest.fixture
def letter(organization):
    created = Letter.objects.create(organization=organization, subject="s", text=[0])
    return Letter(pk=created.pk)


def before_each_lock(monkeypatch, act) -> None:
    """Let ``act`` run each time before rows are locked, as long as it is not what locks them."""
    of = StoredColumns.of
    acting = []

    def patched(self, instances, *, lock=False):
        if lock and not acting:
            acting.append(True)
            act()
            acting.clear()
        return of(self, instances, lock=lock)

    monkeypatch.setattr(StoredColumns, "of", patched)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("named", [["organization"], ["organization", "subject"]])
def test_after_some_attempts_others_have_to_wait(letter, other_organization, monkeypatch, named) -> None:
    row = Letter.objects.get()
    row.organization = other_organization
    row.subject = "moved"
    writes = []

    def write_again() -> None:
        writes.append(len(writes) + 1)
        other = Letter.objects.get()
        other.text = writes[:]
        other.save(update_fields=["text"])

    before_each_lock(monkeypatch, write_again)
    row.save(update_fields=named)
    monkeypatch.undo()
    assert writes == list(range(1, updatefields.ATTEMPTS + 1))
    stored = Letter.objects.get()
    assert (stored.organization, stored.text) == (other_organization, writes)
    assert stored.subject == ("moved" if "subject" in named else "s")
    assert row.subject == "moved"


@pytest.mark.django_db(transaction=True)
def test_an_unchanged_value_that_is_named_is_written_again_under_the_new_key(
    letter, other_organization, monkeypatch
) -> None:
    row = Letter.objects.get()
    assert row.subject == "s"

    def encrypt_again() -> None:
        other = Letter.objects.get()
        other.subject = other.text = None
        other.save()
        other.subject, other.text = "theirs", ["theirs"]
        other.save()

    before_each_lock(monkeypatch, encrypt_again)
    row.save(update_fields=["subject"])
    monkeypatch.undo()
    stored = Letter.objects.get()
    assert (stored.subject, stored.text) == ("s", ["theirs"])


@pytest.mark.parametrize("save", [
    lambda row: row.save(update_fields=["subject"]),
    lambda row: Letter.objects.bulk_update([row], ["subject"]),
], ids=["save", "bulk_update"])  # fmt: skip
@pytest.mark.parametrize("known", [True, False])
def test_a_row_that_is_gone_is_djangos_affair(letter, organization, save, known) -> None:
    row = Letter.objects.get() if known else Letter(pk=letter.pk, organization=organization, subject="x")
    row.subject = "new"
    Letter.objects.all().delete()
    try:
        with transaction.atomic():
            assert save(row) == 0
    except DatabaseError as error:
        assert "did not affect any rows" in str(error)  # noqa: PT017 - bulk_update() only counts.
    assert row.subject == "new"
    assert not Letter.objects.exists()


def test_a_companion_is_not_written_by_itself(letter, stored) -> None:
    before = stored(letter, "subject", "text", "vault_keys")
    row = Letter.objects.get()
    row.vault_keys = "nonsense"
    row.save(update_fields=["vault_keys"])
    assert stored(letter, "subject", "text", "vault_keys") == before
    Letter.objects.bulk_update([row], ["vault_keys"])
    loaded = Letter.objects.get()
    assert (loaded.subject, loaded.text) == ("s", [0])


def test_the_same_row_twice_is_written_once(letter) -> None:
    row = Letter.objects.get()
    row.subject = "new"
    Letter.objects.bulk_update([row, row], ["subject"])
    assert (Letter.objects.get().subject, row.subject, row.text) == ("new", "new", [0])


def test_a_named_column_is_written_and_no_other(letter, django_assert_num_queries) -> None:
    row = Letter.objects.get()
    row.subject = "new"
    statements = []
    with connection.execute_wrapper(lambda execute, sql, *rest: (statements.append(sql), execute(sql, *rest))[1]):
        row.save(update_fields=["subject"])
    written = [sql for sql in statements if sql.startswith("UPDATE") and "1 = 0" not in sql]
    assert len(written) == 1
    assert "subject" in written[0]
    assert "vault_keys" not in written[0]
    assert "text" not in written[0]


def test_an_upsert_has_to_update_all_values_of_a_companion(letter, organization) -> None:
    row = Letter(pk=letter.pk, organization=organization, subject="new")
    options = {} if connection.vendor == "mysql" else {"unique_fields": ["id", "organization"]}
    with pytest.raises(KeyContextError, match="add text to update_fields"):
        Letter.objects.bulk_create([row], update_conflicts=True, update_fields=["subject"], **options)
    assert (Letter.objects.get().subject, Letter.objects.get().text) == ("s", [0])


def test_set_back_to_the_stored_tenant_after_a_rollback_it_can_be_saved(
    patient, organization, other_organization
) -> None:
    row = Patient.objects.get()
    row.organization = other_organization
    with transaction.atomic():
        row.save()
        transaction.set_rollback(True)
    row.organization = organization
    row.ssn = "new"
    row.save(update_fields=["ssn"])
    assert (Patient.objects.get().ssn, Patient.objects.get().notes) == ("new", "")


def test_a_context_whose_end_is_gone_leads_nowhere(organization, other_organization) -> None:
    from vault_fields.fields.groups import group_of
    from vault_fields.fields.pathends import PathEnds

    group = group_of(Document._meta.get_field("body"))
    ends = PathEnds(group, None, [(organization.pk,), (other_organization.pk,)])
    assert ends.lead_to("organization_id", str(organization.pk), organization.workos_id)
    assert not ends.lead_to("organization_id", str(other_organization.pk), organization.workos_id)
    assert not ends.lead_to("organization_id", "999", organization.workos_id)
    assert not ends.lead_to("organization_id", None, organization.workos_id)
    assert not ends.lead_to("purpose", "1", "documents")
    type(organization).objects.filter(pk=organization.pk).update(workos_id="")
    assert not PathEnds(group, None).lead_to("organization_id", str(organization.pk), organization.workos_id)
    assert Thread._meta.get_field("organization").null is False


def test_a_key_in_a_spelling_that_its_column_does_not_take_is_looked_for_all_the_same(letter, organization) -> None:
    columns = StoredColumns(Letter, ["subject"], "default")
    row = Letter(pk="x" * 3, organization=organization)
    with pytest.raises(ValueError, match="expected a number"):
        columns.of([row])
    assert columns.of([Letter(pk=float(letter.pk))])


@pytest.mark.parametrize("moved", [False, True], ids=["in place", "moved"])
@pytest.mark.parametrize("deferred", [["text"], ["text", "vault_keys"]], ids=",".join)
def test_what_is_deferred_stays_so_and_is_not_written_over_what_others_wrote(
    letter, other_organization, deferred, moved
) -> None:
    row = Letter.objects.defer(*deferred).get()
    row.subject = "mine"
    if moved:
        row.organization = other_organization
    row.save()
    assert row.get_deferred_fields() == set(deferred)
    other = Letter.objects.get()
    other.text = ["other"]
    other.save()
    row.subject = "mine again"
    row.save()
    assert Letter.objects.values_list("subject", "text").get() == ("mine again", ["other"])
    assert (row.subject, row.text) == ("mine again", ["other"])


def test_a_context_that_is_deferred_stays_so(organization, other_organization) -> None:
    Document.objects.create(organization=organization, body="b")
    for write in (Document.save, lambda row: Document.objects.bulk_update([row], ["body"])):
        Document.objects.update(organization=organization)
        Document.objects.update(body="b")
        row = Document.objects.defer("organization").get()
        row.body = "mine"
        write(row)
        assert row.get_deferred_fields() == {"organization_id"}
        other = Document.objects.get()
        other.organization = other_organization
        other.save()
        row.save()
        assert Document.objects.values_list("organization", "body").get() == (other_organization.pk, "mine")
        row = Document.objects.defer("organization").get()
        row.body = "again"
        row.save()
        assert row.organization == other_organization


def test_serializing_a_value_loads_no_other(letter) -> None:
    row = Letter.objects.only("title").get()
    serializers.serialize("json", [row], fields=["subject"])
    assert "text" in row.get_deferred_fields()
