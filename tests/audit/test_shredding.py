from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection

from tests.testapp.models import Letter, Organization, Patient, Setting
from vault_fields.audit.places import Rows, places, stored_keys, tables
from vault_fields.audit.shredding import prove_shredded
from vault_fields.audit.versions import Usage, versions_in_use
from vault_fields.backends.base import BaseVault
from vault_fields.embedded.objects import StoredObjects
from vault_fields.exceptions import VaultUnavailable
from vault_fields.vaults import vaults

NOW = timedelta(0)


@pytest.fixture
def rows(organization: Organization, other_organization: Organization) -> None:
    """Five values of the first organization (one NULL beside), two of the other one, and one of neither."""
    Patient.objects.create(organization=organization, ssn="1", notes="", history=[])
    Patient.objects.create(organization=other_organization, ssn="2", notes=None, history={})
    Letter.objects.create(organization=organization, subject="a", text={"b": 1})
    Letter.objects.create(organization=organization, subject=None, text=None)
    Setting.objects.create(tenant="x", kind="y", value="z")


@pytest.fixture
def default():
    vault = vaults["default"]
    yield vault
    # One vault in memory serves all tests.
    vaults.reset()


def item(organization: Organization) -> tuple[str, str]:
    return "organization_id", str(organization.pk)


def test_destroyed_key_is_proven_to_be_gone_and_all_else_to_open(default, rows, organization: Organization) -> None:
    default.service.keks.destroy(*item(organization), after=NOW)

    report = prove_shredded(default, *item(organization), places())

    assert (report.unreadable, report.readable, report.others) == (5, 0, 3)
    assert report.proven
    assert str(report) == (
        "5 values of this key are unreadable, 0 still open, and 0 are refused by a key that can come back. Of the "
        "values of other keys 3 open, 0 are refused because of a key of their own. 0 values do not "
        "open for other reasons, or were altered. 0 values say that they are in other vaults, which were not asked. "
        "Unverified, because their keys are refused: 5, which were counted by their own claim."
    )


def test_key_that_is_still_there_is_no_proof(default, rows, organization: Organization) -> None:
    report = prove_shredded(default, *item(organization), places())

    assert (report.unreadable, report.readable, report.proven) == (0, 5, False)


def test_pending_destruction_is_proven_already(default, rows, organization: Organization) -> None:
    """Past the cache of data keys, which was full of them."""
    for patient in Patient.objects.all():
        assert patient.ssn
    default.service.keks.destroy(*item(organization), after=timedelta(days=30))

    assert prove_shredded(default, *item(organization), places()).proven


def test_others_that_are_revoked_themselves_do_not_spoil_it(
    default, rows, organization: Organization, other_organization: Organization
) -> None:
    for each in (organization, other_organization):
        default.service.keks.destroy(*item(each), after=NOW)

    report = prove_shredded(default, *item(organization), places())

    assert (report.unreadable, report.others, report.refused_otherwise, report.proven) == (5, 1, 2, True)


def test_value_of_another_that_hangs_on_the_key_is_a_loss(
    default, rows, organization: Organization, other_organization: Organization, execute
) -> None:
    """Whoever wrote another tenant's context into a companion does not get it counted as that tenant's."""
    default.service.keks.destroy(*item(organization), after=NOW)
    execute(
        "UPDATE testapp_letter SET vault_keys = REPLACE(vault_keys, %s, %s)",
        f'"context":{{"organization_id":"{organization.pk}"}}',
        f'"context":{{"organization_id":"{other_organization.pk}"}}',
    )

    report = prove_shredded(default, *item(organization), places())

    assert (report.broken, report.proven) == (2, False)


def test_damaged_rows_are_no_proof(default, rows, organization: Organization, execute) -> None:
    default.service.keks.destroy(*item(organization), after=NOW)
    execute("UPDATE testapp_setting SET value_keys = 'damaged'")

    report = prove_shredded(default, *item(organization), places())

    assert (report.broken, report.proven) == (1, False)


def test_other_blob_that_does_not_open_is_no_proof(default, rows, organization: Organization, execute) -> None:
    default.service.keks.destroy(*item(organization), after=NOW)
    execute('UPDATE testapp_setting SET value_keys = REPLACE(value_keys, \'"keys":"V\', \'"keys":"X\')')

    assert prove_shredded(default, *item(organization), places()).broken == 1


def test_objects_of_the_vault_are_tried_too(default, rows, organization: Organization) -> None:
    objects = StoredObjects(default.service)
    objects.create("secret", "value", dict([item(organization)]))
    objects.create("another", "value", {"organization_id": "other"})
    default.service.keks.destroy(*item(organization), after=NOW)

    report = prove_shredded(default, *item(organization), places())

    assert (report.unreadable, report.others, report.proven) == (6, 4, True)


def test_values_of_other_vaults_are_counted_and_not_tried(default, rows, organization: Organization, execute) -> None:
    execute("UPDATE testapp_setting SET value_keys = REPLACE(value_keys, '\"default\"', '\"another\"')")
    default.service.keks.destroy(*item(organization), after=NOW)

    report = prove_shredded(default, *item(organization), places())

    assert (report.elsewhere, report.proven) == (1, True)


def test_vault_that_fails_proves_nothing(default, rows, organization: Organization) -> None:
    with default.fail_with(VaultUnavailable("away")), pytest.raises(VaultUnavailable):
        prove_shredded(default, *item(organization), places())


def test_vault_that_is_not_embedded_is_asked_just_the_same(
    default, rows, organization: Organization, other_organization: Organization
) -> None:
    """Of what it hands out nothing can be read, so that all refusals count alike."""

    class Remote(BaseVault):
        def _create(self, context):
            raise NotImplementedError  # Abstract in the base class; never asked here.

        _rekey = _create

        def _decrypt(self, encrypted_keys, deadline):
            return default._decrypt(encrypted_keys, deadline)

    default.service.keks.destroy(*item(organization), after=NOW)
    default.service.keks.disable(*item(other_organization))

    report = prove_shredded(Remote("default"), *item(organization), places())

    assert (report.unreadable, report.refused_otherwise, report.others, report.proven) == (5, 2, 1, True)


def test_data_key_that_rows_share_is_asked_for_once(default, organization: Organization) -> None:
    Patient.objects.bulk_create([Patient(organization=organization, ssn=str(number)) for number in range(20)])
    default.calls.clear()

    assert prove_shredded(default, *item(organization), places()).readable == 40
    assert default.calls["decrypt"] == 1


# Tables and versions.


def test_tables_are_those_that_routers_allow_in_each_database(settings) -> None:
    class Nowhere:
        def allow_migrate(self, db, app_label, model_name=None, **hints):
            return model_name != "patient"

    everywhere = {group.model for _, group in tables()}
    settings.DATABASE_ROUTERS = [Nowhere()]

    assert everywhere - {group.model for _, group in tables(["default"])} == {Patient}


def test_rows_are_read_a_page_at_a_time(default, rows, django_assert_num_queries) -> None:
    patients = [place for place in places() if isinstance(place, Rows) and place.group.model is Patient]
    assert len(patients) == 3

    with django_assert_num_queries(9):
        assert sum(row.values for row in stored_keys(patients, batch_size=1)) == 5


def test_values_are_counted_by_the_version_that_they_hang_on(default, rows, organization: Organization) -> None:
    kek = default.service.keks.rotate(*item(organization))
    Patient.objects.create(organization=organization, ssn="new", notes=None, history=None)
    StoredObjects(default.service).create("secret", "value", dict([item(organization)]))

    assert versions_in_use(default, kek.id, places()) == Usage(Counter({1: 5, 2: 2}))


def test_rows_that_hang_on_no_key_of_the_vault_are_not_counted(
    default, rows, organization: Organization, execute
) -> None:
    kek = default.service.keks.get(*item(organization))
    execute("UPDATE testapp_patient SET ssn_keys = 'damaged', notes_keys = REPLACE(notes_keys, 'default', 'other')")
    execute('UPDATE testapp_patient SET history_keys = REPLACE(history_keys, \'"keys":"V\', \'"keys":"X\')')

    assert connection.vendor
    assert versions_in_use(default, kek.id, places()) == Usage(Counter({1: 2}))
