"""Packages that keep former rows: in them values are encrypted, and they come back."""

import pytest
from django.db import connection

from tests.packages.models import Article, Recorded
from vault_fields.exceptions import KeyContextMismatch, KeyRevoked
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults

SECRET = "078-05-1120"


@pytest.fixture
def article(organization):
    return Article.objects.create(organization=organization, name="Ada", ssn="first", history={"a": "first"})


def test_a_revision_of_wagtail_is_encrypted_and_gives_values_back(article) -> None:
    draft = Article.objects.get()
    draft.ssn, draft.history = SECRET, {"a": SECRET}
    revision = draft.save_revision()
    revision.refresh_from_db()
    assert SECRET not in str(revision.content)
    assert revision.content["ssn"].startswith("$vf$")
    assert Article.objects.get().ssn == "first"
    assert revision.as_object().history == {"a": SECRET}
    revision.publish()
    assert (Article.objects.get().ssn, Article.objects.get().history) == (SECRET, {"a": SECRET})


def test_a_revision_of_wagtail_opens_for_its_own_tenant_only(article, other_organization) -> None:
    revision = article.save_revision()
    vaults["default"].revoke("organization_id", str(article.organization_id))
    with pytest.raises(KeyRevoked):
        _ = revision.as_object().ssn
    vaults["default"].restore("organization_id", str(article.organization_id))
    revision.content["organization"] = other_organization.pk
    with pytest.raises(KeyContextMismatch):
        _ = revision.as_object().ssn


def test_records_of_simple_history_are_encrypted_under_their_own_label(organization) -> None:
    with assert_vault_calls(create=2):
        row = Recorded.objects.create(organization=organization, ssn=SECRET, history=[SECRET])
    row.ssn = "second"
    row.save()
    newer, older = row.records.all()
    assert (older.ssn, newer.ssn) == (SECRET, "second")
    assert older.instance.history == [SECRET]
    assert [change.field for change in newer.diff_against(older).changes] == ["ssn"]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT ssn, history FROM {type(newer)._meta.db_table}")
        assert all(text.startswith("$vf$") for stored in cursor.fetchall() for text in stored)
