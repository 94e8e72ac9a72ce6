"""Rows follow their key context, moved ones only on somebody's word; and rows get new keys."""

import json
import uuid
from functools import partial
from unittest import mock

import pytest
from django.db import connection, models
from django.test import override_settings
from django.test.utils import CaptureQueriesContext, isolate_apps

from tests.testapp.models import Document, Legacy, Letter, Organization, Patient, Setting, Token
from vault_fields.exceptions import KeyContextMismatch, VaultUnavailable
from vault_fields.fields import EncryptedTextField
from vault_fields.fields.groups import group_of
from vault_fields.rows.rekey import reencrypt_group, rekey_group
from vault_fields.rows.walk import StoredRows
from vault_fields.stored import companion as companion_format
from vault_fields.vaults import vaults


def group(model, name):
    return group_of(model._meta.get_field(name))


DOCUMENTS, SSNS, LETTERS = group(Document, "body"), group(Patient, "ssn"), group(Letter, "text")


def cost(work, *args, **options):
    """The report, the problems and the calls."""
    problems = []
    before = vaults["default"].calls.copy()
    report = work(*args, on_problem=problems.append, **options)
    return report, problems, dict(vaults["default"].calls - before)


@pytest.fixture
def documents(organization):
    """Many rows that share a data key, and one that has its own."""
    Document.objects.bulk_create(Document(organization=organization, body=f"text {number}") for number in range(10))
    Document.objects.create(organization=organization, body="text 10")
    return [f"text {number}" for number in range(11)]


def bodies():
    return list(Document.objects.order_by("pk").values_list("body", flat=True))


def pairs(table="testapp_document", columns="body, body_keys"):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM {table} ORDER BY id")
        return list(cursor.fetchall())


def test_rows_that_are_current_cost_nothing_and_stay(documents) -> None:
    before = pairs()
    report, problems, calls = cost(rekey_group, DOCUMENTS)
    assert (problems, calls, pairs()) == ([], {}, before)
    assert str(report) == (
        "testapp.Document.body_keys: of 11 rows with encrypted values, 0 rekeyed, 0 re-encrypted, 0 moved and left "
        "alone, 0 redirected and left alone, 0 failed. Nothing was changed."
    )


def test_a_context_that_changed_behind_a_relation_rewrites_the_companions_only(documents, organization) -> None:
    before = pairs()
    Organization.objects.update(workos_id="renamed")
    with CaptureQueriesContext(connection) as queries:
        report, problems, calls = cost(rekey_group, DOCUMENTS, accept_redirected=True, batch_size=4)
    # Ten rows share a key across three batches.
    assert (report.rekeyed, report.reencrypted, problems, calls) == (11, 0, [], {"rekey": 2})
    assert sum("testapp_organization" in query["sql"] for query in queries) == 3
    for (value, keys), (old_value, old_keys) in zip(pairs(), before, strict=True):
        new, old = companion_format.decode(keys), companion_format.decode(old_keys)
        assert value == old_value
        assert new.key_id == old.key_id == value.split("$")[3]
        assert (new.context["organization_id"], old.context["organization_id"]) == ("renamed", "org_1")
        assert new.encrypted_keys != old.encrypted_keys
    # The keys of the old context are not needed any more.
    vaults["default"].revoke("organization_id", "org_1")
    try:
        assert bodies() == documents
    finally:
        vaults["default"].restore("organization_id", "org_1")
    assert cost(rekey_group, DOCUMENTS)[2] == {}


def test_a_dry_run_counts_and_asks_nobody(documents, organization) -> None:
    before = pairs()
    Organization.objects.update(workos_id="renamed")
    report, problems, calls = cost(rekey_group, DOCUMENTS, accept_redirected=True, dry_run=True)
    assert (report.rekeyed, problems, calls, pairs()) == (11, [], {}, before)
    assert "11 would be rekeyed, 0 would be re-encrypted" in str(report)


def test_moved_rows_are_reported_and_left_alone(patient, organization, other_organization, move) -> None:
    other = Patient.objects.create(organization=organization, ssn="stays")
    move(Patient, other_organization, patient.pk)
    before = pairs("testapp_patient", "ssn, ssn_keys")
    report, problems, calls = cost(rekey_group, SSNS)
    assert (report.moved, report.written, calls) == (1, 0, {})
    assert problems == [
        (
            f"testapp.Patient.ssn (pk={patient.pk}): organization_id of the row differs from that of the value; it was "
            "left alone. If the row was moved on purpose, add --accept-moved."
        )
    ]
    assert pairs("testapp_patient", "ssn, ssn_keys") == before
    assert Patient.objects.get(pk=other.pk).ssn == "stays"


def test_accepted_rows_get_a_new_data_key(organization, other_organization, move) -> None:
    """The old one still encrypts the rows that stayed, which the other tenant's keys must not open."""
    Patient.objects.bulk_create(Patient(organization=organization, ssn=str(number)) for number in range(6))
    moved = list(Patient.objects.order_by("pk").values_list("pk", flat=True))[:3]
    move(Patient, other_organization, *moved)
    with pytest.raises(KeyContextMismatch):
        Patient.objects.get(pk=moved[0]).ssn  # noqa: B018
    before = pairs("testapp_patient", "ssn, ssn_keys")
    vaults["default"].purge()
    report, problems, calls = cost(rekey_group, SSNS, accept_moved=True)
    assert (report.reencrypted, report.rekeyed, problems, calls) == (3, 0, [], {"decrypt": 1, "create": 1})
    after = pairs("testapp_patient", "ssn, ssn_keys")
    assert after[3:] == before[3:]
    key_ids = {value.split("$")[3] for value, _ in after}
    assert len(key_ids) == 2
    assert [patient.ssn for patient in Patient.objects.order_by("pk")] == [str(number) for number in range(6)]


def test_all_values_of_a_companion_go_together(organization, other_organization, move) -> None:
    Letter.objects.create(organization=organization, subject="", text={"a": None})
    Letter.objects.create(organization=organization, subject=None, text=None)
    Letter.objects.create(organization=organization, subject=None, text=[])
    move(Letter, other_organization)
    report, problems, calls = cost(rekey_group, LETTERS, accept_moved=True)
    assert (report.encrypted, report.reencrypted, problems, calls["create"]) == (2, 2, [], 1)
    values = [(letter.subject, letter.text) for letter in Letter.objects.order_by("pk")]
    assert values == [("", {"a": None}), (None, None), (None, [])]


def test_a_row_whose_context_is_missing_is_reported_and_the_others_go_on(db, execute) -> None:
    for tenant in ("a", "b"):
        Setting.objects.create(tenant=tenant, value="x")
    with mock.patch.object(group(Setting, "value").source, "function", lambda row: {"tenant": row.pk}):
        report, problems, calls = cost(rekey_group, group(Setting, "value"))
    assert (report.failed, report.written, calls) == (2, 0, {})
    assert "testapp.Setting.value (pk=" in problems[0]


def test_values_that_do_not_belong_to_their_companion_are_reported(organization, execute) -> None:
    good, empty, odd, broken = [Patient.objects.create(organization=organization, ssn="x") for _ in range(4)]
    execute("UPDATE testapp_patient SET ssn_keys = NULL WHERE id = %s", empty.pk)
    execute("UPDATE testapp_patient SET ssn = %s WHERE id = %s", "$vf$1$other$" + "A" * 40, odd.pk)
    execute("UPDATE testapp_patient SET ssn_keys = 'cut' WHERE id = %s", broken.pk)
    for work, options in ((rekey_group, {"accept_moved": True}), (reencrypt_group, {})):
        report, problems, _ = cost(work, SSNS, **options)
        assert report.failed == 3
        for row, reason in ((empty, "is empty"), (odd, "different data keys"), (broken, "is not JSON")):
            assert any(f"testapp.Patient.ssn (pk={row.pk})" in problem and reason in problem for problem in problems)
    assert Patient.objects.get(pk=good.pk).ssn == "x"


def test_a_companion_that_was_tampered_with_is_not_proved_anew(organization, execute, stored) -> None:
    document = Document.objects.create(organization=organization, body="x")
    (keys,) = stored(document, "body_keys")
    forged = json.loads(keys)
    forged["context"]["organization_id"] = "forged"
    forged = json.dumps(forged, separators=(",", ":"), ensure_ascii=False)
    execute("UPDATE testapp_document SET body_keys = %s", forged)
    assert cost(rekey_group, DOCUMENTS)[0].redirected == 1
    report, problems, _ = cost(rekey_group, DOCUMENTS, accept_redirected=True)
    assert (report.failed, report.written) == (1, 0)
    assert problems == [f"testapp.Document.body (pk={document.pk}): the companion does not belong to its data key."]
    assert stored(document, "body_keys") == (forged,)


def test_a_revoked_key_stops_its_own_rows_only(documents, organization, other_organization) -> None:
    Document.objects.create(organization=other_organization, body="theirs")
    vaults["default"].revoke("organization_id", "org_1")
    try:
        report, problems, _ = cost(reencrypt_group, DOCUMENTS)
    finally:
        vaults["default"].restore("organization_id", "org_1")
    assert (report.failed, report.reencrypted) == (11, 1)
    assert all("VAULTS['default']" in problem for problem in problems)


def test_a_vault_that_is_away_ends_it(documents) -> None:
    Organization.objects.update(workos_id="renamed")
    with (
        vaults["default"].fail_with(VaultUnavailable("Away.")),
        pytest.raises(VaultUnavailable, match=r"testapp\.Document\.body \(pk=\d+\): Away\."),
    ):
        cost(rekey_group, DOCUMENTS, accept_redirected=True)
    assert cost(rekey_group, DOCUMENTS, accept_redirected=True)[0].rekeyed == 11


def test_every_row_gets_a_new_key_shared_by_as_many_as_may(documents, other_organization, monkeypatch) -> None:
    for number in range(4):
        Document.objects.create(organization=other_organization, body=f"other {number}")
    monkeypatch.setattr(vaults["default"], "max_rows_per_key", 8)
    before = pairs()
    vaults["default"].purge()
    report, problems, calls = cost(reencrypt_group, DOCUMENTS, batch_size=3)
    # One shared key and five of single rows; then 11 rows of one context and 4 of the other.
    assert (report.reencrypted, problems, calls) == (15, [], {"decrypt": 6, "create": 3})
    assert bodies() == [*documents, "other 0", "other 1", "other 2", "other 3"]
    old, new = {value.split("$")[3] for value, _ in before}, {value.split("$")[3] for value, _ in pairs()}
    assert (len(old), len(new), old & new) == (6, 3, set())


def test_reencrypting_launders_no_moved_row(patient, organization, other_organization, move) -> None:
    move(Patient, other_organization, patient.pk)
    report, problems, _ = cost(reencrypt_group, SSNS)
    assert (report.moved, report.reencrypted) == (1, 0)
    assert "vault_rekey testapp.Patient --accept-moved" in problems[0]


def test_values_that_are_bound_to_their_row_are_still_bound(db, execute) -> None:
    tokens = [Token.objects.create(tenant=uuid.UUID(int=number), secret=str(number)) for number in range(3)]
    report, problems, _ = cost(reencrypt_group, group(Token, "secret"))
    assert (report.reencrypted, problems) == (3, [])
    assert [Token.objects.get(pk=token.pk).secret for token in tokens] == ["0", "1", "2"]


def test_what_is_still_plain_in_a_migrating_column_is_no_business_of_it(organization, execute) -> None:
    execute("INSERT INTO testapp_legacy (organization_id, text) VALUES (%s, 'plain')", organization.pk)
    Legacy.objects.create(organization=organization, text="sealed")
    report, problems, _ = cost(reencrypt_group, group(Legacy, "text"))
    assert (report.encrypted, report.reencrypted, problems) == (1, 1, [])
    assert list(Legacy.objects.order_by("pk").values_list("text", flat=True)) == ["plain", "sealed"]


@pytest.mark.parametrize("work", [partial(rekey_group, accept_redirected=True), reencrypt_group])
def test_a_value_that_was_written_meanwhile_is_not_overwritten(work, documents, monkeypatch) -> None:
    if work is not reencrypt_group:
        Organization.objects.update(workos_id="renamed")
    first = Document.objects.order_by("pk").first()
    write, done = StoredRows.write, []

    def write_after_another(self, names, changes):
        if not done:
            done.append(True)
            first.body = "written meanwhile"
            first.save()
            Document.objects.filter(body__isnull=False).last().delete()
        return write(self, names, changes)

    monkeypatch.setattr(StoredRows, "write", write_after_another)
    report, problems, _ = cost(work, DOCUMENTS)
    assert problems == []
    assert bodies() == ["written meanwhile", *documents[1:10]]
    # The row that was written meanwhile was current already for the one, and is written again by the other.
    assert report.written == (10 if work is reencrypt_group else 9)


@isolate_apps("tests.testapp")
def test_a_declaration_with_another_column_gives_new_keys(organization, other_organization, db) -> None:
    """Rows that share a key may differ in the new column."""
    Patient.objects.bulk_create(
        Patient(organization=organization, ssn=str(number), name=f"n{number % 2}") for number in range(4)
    )

    class Renewed(models.Model):
        organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
        name = models.CharField(max_length=100)
        ssn = EncryptedTextField(key_context=["organization_id", "name"], former_labels=["testapp.Patient.ssn"])

        class Meta:
            app_label = "testapp"
            db_table = "testapp_patient"

    vaults["default"].purge()
    report, problems, calls = cost(rekey_group, group(Renewed, "ssn"))
    assert (report.reencrypted, report.rekeyed, problems) == (4, 0, [])
    assert calls == {"decrypt": 1, "create": 2}
    assert [row.ssn for row in Renewed.objects.order_by("pk")] == ["0", "1", "2", "3"]


@isolate_apps("tests.testapp")
def test_a_declaration_that_starts_elsewhere_needs_somebodys_word(organization, db) -> None:
    """Nothing of the row can be compared with what the companion says."""
    Patient.objects.create(organization=organization, ssn="x", name="n")

    class Renewed(models.Model):
        name = models.CharField(max_length=100)
        ssn = EncryptedTextField(key_context=["name"], former_labels=["testapp.Patient.ssn"])

        class Meta:
            app_label = "testapp"
            db_table = "testapp_patient"

    assert cost(rekey_group, group(Renewed, "ssn"))[0].moved == 1
    assert cost(rekey_group, group(Renewed, "ssn"), accept_moved=True)[0].reencrypted == 1
    assert Renewed.objects.get().ssn == "x"


TWO_VAULTS = {alias: {"BACKEND": "vault_fields.backends.memory.InMemoryVault"} for alias in ("default", "old")}


@isolate_apps("tests.testapp")
def test_another_vault_cannot_rekey_so_it_reencrypts(organization, db) -> None:
    class Former(models.Model):
        organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
        body = EncryptedTextField(key_context=["organization_id"], vault="old", former_labels=["testapp.Document.body"])

        class Meta:
            app_label = "testapp"
            db_table = "testapp_document"

    class Current(models.Model):
        organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
        body = EncryptedTextField(key_context=["organization_id"], former_labels=["testapp.Former.body"])

        class Meta:
            app_label = "testapp"
            db_table = "testapp_document"

    with override_settings(VAULTS=TWO_VAULTS):
        Former.objects.bulk_create(Former(organization=organization, body=str(number)) for number in range(3))
        report, problems, calls = cost(rekey_group, group(Current, "body"))
        assert (report.reencrypted, problems, calls) == (3, [], {"create": 1})
        assert {companion_format.decode(keys).vault for _, keys in pairs()} == {"default"}
        assert [row.body for row in Current.objects.order_by("pk")] == ["0", "1", "2"]


def test_a_vault_that_is_gone_is_named(organization, execute, stored) -> None:
    patient = Patient.objects.create(organization=organization, ssn="x")
    (keys,) = stored(patient, "ssn_keys")
    execute("UPDATE testapp_patient SET ssn_keys = %s", keys.replace('"vault":"default"', '"vault":"gone"'))
    report, problems, _ = cost(rekey_group, SSNS)
    assert report.failed == 1
    assert "the vault 'gone', which settings.VAULTS does not name" in problems[0]
