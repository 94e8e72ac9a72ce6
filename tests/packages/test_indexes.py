"""Packages and the columns of indexes: caches hold hashes and no value, and copies of rows are found as rows are."""

import pytest
import reversion
from auditlog.models import LogEntry
from auditlog.registry import auditlog
from cachalot.settings import cachalot_settings
from cacheops import invalidate_all
from cacheops.redis import redis_client
from django.core.cache import cache
from import_export.resources import ModelResource
from reversion.models import Version

from tests.packages.models import Found, FoundAndCompared
from tests.testapp.models import Contact, Organization
from vault_fields.checks.packages import check_packages

SECRET = "078-05-1120"


@pytest.fixture
def cacheops(transactional_db):
    """Nothing is cached in a transaction that wrote."""
    invalidate_all()
    yield lambda: b"".join(key + bytes(redis_client.get(key) or b"") for key in redis_client.keys("q:*"))
    invalidate_all()


@pytest.fixture
def cachalot(transactional_db, settings):
    settings.CACHEOPS_ENABLED = False
    cache.clear()
    cachalot_settings.load()
    yield lambda: b"".join(key.encode() + value for key, value in cache._cache.items())
    cachalot_settings.unload()
    cache.clear()


def found(organization, number):
    return [row.number for row in Found.objects.filter(organization=organization, number=number)]


def lookups_are_cached(kept) -> None:
    organization = Organization.objects.create(workos_id="org_1")
    row = Found.objects.create(organization=organization, number=SECRET, history={})
    for _ in range(2):
        assert found(organization, SECRET) == [SECRET]
        assert Found.objects.get(organization=organization, number__in=[SECRET]) == row
        assert found(organization, "219-09-9999") == []
    assert b"$vf$" in kept()
    assert SECRET.encode() not in kept()
    row.number = "219-09-9999"
    row.save()
    assert (found(organization, SECRET), found(organization, "219-09-9999")) == ([], ["219-09-9999"])


def test_cacheops_keeps_what_a_lookup_found_and_not_what_was_looked_for(cacheops) -> None:
    lookups_are_cached(cacheops)


def test_cachalot_keeps_what_a_lookup_found_and_not_what_was_looked_for(cachalot) -> None:
    lookups_are_cached(cachalot)


def test_a_hash_is_no_change_of_a_row_that_nobody_changed(organization) -> None:
    FoundAndCompared.objects.create(organization=organization, number=SECRET)
    row = FoundAndCompared.objects.get()
    assert row.get_dirty_fields() == {}
    row.name = "Ada"
    assert row.get_dirty_fields() == {"name": ""}
    row.save()
    assert row.get_dirty_fields() == {}


def test_records_of_simple_history_are_found_too(organization) -> None:
    row = FoundAndCompared.objects.create(organization=organization, number=SECRET)
    row.number = "219-09-9999"
    row.save()
    row.number = SECRET
    row.save()
    records = FoundAndCompared.records.filter(organization=organization, number=SECRET)
    assert [record.number for record in records] == [SECRET, SECRET]
    hashes = set(FoundAndCompared.records.values_list("number_index", flat=True))
    assert len(hashes) == 2
    assert row.number_index not in hashes, "another label: the two tables cannot be joined by their hashes"


def test_an_audit_log_that_leaves_out_what_the_check_names_has_no_hash(organization) -> None:
    def hints():
        return [message.hint for message in check_packages(None) if message.obj is Contact]

    auditlog.register(Contact, exclude_fields=["ssn", "ssn_keys", "email", "email_keys"])
    (hint,) = hints()
    names = ["ssn", "ssn_keys", "ssn_index", "email", "email_keys", "email_index"]
    assert all(repr(name) in hint for name in names)
    auditlog.unregister(Contact)
    auditlog.register(Contact, exclude_fields=names)
    try:
        assert hints() == []
        contact = Contact.objects.create(organization=organization, ssn=SECRET, plain="a")
        contact.ssn, contact.plain = "219-09-9999", "b"
        contact.save()
        logged = str([entry.changes for entry in LogEntry.objects.all()])
        assert "plain" in logged
        assert "index" not in logged
    finally:
        auditlog.unregister(Contact)


def test_a_version_that_is_given_back_is_found(organization) -> None:
    reversion.register(Contact)
    try:
        with reversion.create_revision():
            contact = Contact.objects.create(organization=organization, ssn=SECRET)
        contact.ssn = "219-09-9999"
        contact.save()
        (version,) = Version.objects.get_for_object(contact)
        assert SECRET not in version.serialized_data
        version.revision.revert()
    finally:
        reversion.unregister(Contact)
    assert Contact.objects.get(organization=organization, ssn=SECRET) == contact
    assert not Contact.objects.filter(organization=organization, ssn="219-09-9999").exists()


def test_imported_rows_are_found(organization) -> None:
    class Contacts(ModelResource):
        class Meta:
            model = Contact
            exclude = ["ssn_keys", "ssn_index", "email_keys", "email_index"]

    Contact.objects.create(organization=organization, ssn=SECRET)
    exported = Contacts().export()
    assert exported.headers == ["id", "organization", "ssn", "email", "plain"]
    Contact.objects.all().delete()
    assert not Contacts().import_data(exported, raise_errors=True).has_errors()
    assert Contact.objects.get(organization=organization, ssn=SECRET).ssn == SECRET
    assert not [message for message in check_packages(None) if message.obj is Contacts]
