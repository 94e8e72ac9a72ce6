"""A context that stands outside of the row, as the schema of the connection does: noted and compared on every read."""

import pickle
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
from django.core.checks import Error
from django.db import connection, models, transaction
from django.db.models import Value
from django.test.utils import isolate_apps

from tests.testapp.models import Organization
from vault_fields.checks.context import check_context
from vault_fields.exceptions import KeyContextError, KeyContextMismatch
from vault_fields.fields import EncryptedTextField, context_from
from vault_fields.fields.groups import group_of
from vault_fields.rows.rekey import reencrypt_group, rekey_group
from vault_fields.stored import companion
from vault_fields.testing import assert_vault_calls

_tenant = ContextVar("tenant", default="a")


def tenant():
    return _tenant.get()


@contextmanager
def of(name):
    token = _tenant.set(name)
    try:
        yield
    finally:
        _tenant.reset(token)


@isolate_apps("tests.testapp")
def declared(key_context):
    class Declared(models.Model):
        organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
        body = EncryptedTextField(key_context=key_context, former_labels=["testapp.Document.body"])

        class Meta:
            app_label = "testapp"
            db_table = "testapp_document"

    return Declared


Document = declared({"tenant": tenant})
FIELD = Document._meta.get_field("body")


@pytest.fixture
def document(organization):
    return Document.objects.create(organization=organization, body="text")


def context(row):
    with connection.cursor() as cursor:
        cursor.execute("SELECT body_keys FROM testapp_document WHERE id = %s", [row.pk])
        return dict(companion.decode(cursor.fetchone()[0]).context)


READS = {
    "instances": lambda: [row.body for row in Document.objects.all()],
    "only": lambda: [row.body for row in Document.objects.only("body")],
    "defer": lambda: [row.body for row in Document.objects.defer("body")],
    "values_list": lambda: list(Document.objects.values_list("body", flat=True)),
    "F": lambda: [row.alias for row in Document.objects.annotate(alias=models.F("body"))],
    "raw": lambda: [row.body for row in Document.objects.raw("SELECT id, body FROM testapp_document")],
    "iterator": lambda: [row.body for row in Document.objects.iterator()],
    "refresh": lambda: [_refreshed(row).body for row in Document.objects.all()],
}


def _refreshed(row):
    row.refresh_from_db()
    return row


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_every_read_compares(document, read) -> None:
    assert read() == ["text"]
    for name in ("b", "", None):
        with of(name), assert_vault_calls(), pytest.raises(KeyContextMismatch, match="tenant of the row differs"):
            read()


def test_what_counts_is_where_the_row_was_read(document) -> None:
    """Rows are shown and sent when the tenant's place was left; rows that were read elsewhere open nowhere."""
    row = Document.objects.get()
    with of("b"):
        assert row.body == "text"
        foreign = Document.objects.get()
    with pytest.raises(KeyContextMismatch):
        foreign.body  # noqa: B018
    # A pickle has no place but that where it is loaded.
    copy = Document.objects.get()
    copy.__dict__["body"] = pickle.loads(pickle.dumps(copy.__dict__["body"]))
    with of("b"), pytest.raises(KeyContextMismatch):
        copy.body  # noqa: B018
    assert copy.body == "text"


def test_a_row_that_is_saved_elsewhere_is_encrypted_for_there(document) -> None:
    row = Document.objects.get()
    with assert_vault_calls(cold=True):
        row.save()
    with of("b"):
        row.pk = None
        with assert_vault_calls(decrypt=1, create=1, cold=True):
            row.save()
        assert context(row) == {"tenant": "b"}
        assert Document.objects.get(pk=row.pk).body == "text"
    assert context(document) == {"tenant": "a"}
    with pytest.raises(KeyContextMismatch):
        Document.objects.get(pk=row.pk).body  # noqa: B018


def test_where_no_tenant_is_nothing_is_written(document) -> None:
    with of(None):
        says = r"needs 'tenant', and tenant\(\) gives nothing: there is no tenant"
        with pytest.raises(KeyContextError, match=says), transaction.atomic():
            Document(organization_id=document.organization_id, body="x").save()
        assert Document.objects.count() == 1


def test_moved_rows_are_asked_about_and_get_new_keys(document) -> None:
    group = group_of(FIELD)
    with of("b"):
        problems = []
        for work in (rekey_group, reencrypt_group):
            report = work(group, on_problem=problems.append)
            assert (report.moved, report.written) == (1, 0)
        assert "tenant of the row differs from that of the value" in problems[0]
        report = rekey_group(group, accept_moved=True, on_problem=pytest.fail)
        assert (report.reencrypted, report.rekeyed) == (1, 0)
        assert Document.objects.get().body == "text"
        assert rekey_group(group, on_problem=pytest.fail).written == 0


@pytest.mark.parametrize(
    ("key_context", "opens"),
    [
        ({"tenant": tenant, "organization_id": "organization_id"}, True),
        ({"tenant": tenant, "kind": Value("x")}, True),
        ({"other": tenant}, False),
        ({"tenant": Value("a")}, True),
        (["organization_id"], False),
    ],
    ids=["a column more", "a constant more", "another name", "a constant", "a column"],
)
def test_other_declarations_compare_what_they_have_in_common(document, key_context, opens) -> None:
    row = declared(key_context).objects.get()
    if opens:
        assert row.body == "text"
    else:
        with pytest.raises(KeyContextMismatch):
            row.body  # noqa: B018


def test_an_item_that_is_added_is_compared_once_it_is_there(organization) -> None:
    before = declared(["organization_id"]).objects.create(organization=organization, body="text")
    both = declared({"organization_id": "organization_id", "tenant": tenant})
    with of("b"):
        assert both.objects.get(pk=before.pk).body == "text"
    row = both.objects.get()
    row.body = "new"
    row.save()
    with of("b"), pytest.raises(KeyContextMismatch, match="tenant of the row"):
        both.objects.get().body  # noqa: B018


def test_what_cannot_name_a_tenant_is_refused() -> None:
    with pytest.raises(TypeError, match=r"is an attribute path, Value\(…\) or a function, not 7"):
        EncryptedTextField(key_context={"tenant": 7})
    field = declared({"tenant": lambda: "a", "x" * 121: tenant})._meta.get_field("body")
    found = {(type(message), message.id) for message in check_context(field)}
    assert found == {(Error, "vault_fields.E003"), (Error, "vault_fields.E005")}
    assert list(check_context(FIELD)) == []


@context_from("organization_id")
def of_columns(row):
    return {"tenant": str(row.organization_id)}


def test_a_function_of_columns_is_none_of_these(organization) -> None:
    made = declared(of_columns)
    made.objects.create(organization=organization, body="text")
    with of(None):
        assert made.objects.get().body == "text"
