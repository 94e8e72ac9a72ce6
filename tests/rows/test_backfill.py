"""Encrypting and decrypting a column, past migrations: what is written, what it costs, what is refused."""

import json
import uuid
from contextlib import contextmanager

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from tests.testapp.models import Legacy, Organization, Patient, Token
from vault_fields.exceptions import DecryptionError, EnvelopeError, KeyContextMismatch, ValueRefused, VaultRefused
from vault_fields.fields.groups import group_of
from vault_fields.rows.backfill import decrypt_column, encrypt_column
from vault_fields.rows.walk import StoredRows
from vault_fields.vaults import vaults

TEXT, DATA = Legacy._meta.get_field("text"), Legacy._meta.get_field("data")


@pytest.fixture
def insert(db, execute):
    def run(organization, *texts, column="text"):
        for text in texts:
            execute(f"INSERT INTO testapp_legacy (organization_id, {column}) VALUES (%s, %s)", organization.pk, text)
        return list(Legacy.objects.order_by("pk").values_list("pk", flat=True))

    return run


def calls():
    return vaults["default"].calls.copy()


def texts():
    return list(Legacy.objects.order_by("pk").values_list("text", flat=True))


def test_a_thousand_rows_of_a_context_cost_one_data_key(organization, insert) -> None:
    insert(organization, *map(str, range(1000)))
    before = calls()
    report = encrypt_column(TEXT, batch_size=100)
    assert calls() - before == {"create": 1}
    assert str(report) == "testapp.Legacy.text: encrypted 1,000 of 1,000 rows; the others needed nothing."
    assert texts() == list(map(str, range(1000)))


def test_rows_of_many_contexts_share_keys_from_batch_to_batch(insert, db) -> None:
    organizations = [Organization.objects.create(workos_id=f"org_{number}") for number in range(5)]
    for number in range(30):
        insert(organizations[number % 5], str(number))
    before = calls()
    encrypt_column(TEXT, batch_size=2)
    assert calls() - before == {"create": 5}


def test_nothing_is_encrypted_under_a_key_that_was_disabled_meanwhile(organization, other_organization, insert) -> None:
    insert(organization, "1", "2", "3", "4")
    insert(other_organization, "5", "6")
    vault, problems = vaults["default"], []

    @contextmanager
    def disabling(title, count):
        yield lambda done: vault.revoke("organization_id", str(organization.pk))

    try:
        report = encrypt_column(TEXT, batch_size=2, progress=disabling, on_problem=problems.append)
    finally:
        vault.restore("organization_id", str(organization.pk))
    assert (report.written, len(report.left_alone), len(problems)) == (4, 2, 2)
    assert all("The key for the context item 'organization_id' is disabled" in problem for problem in problems)


def test_a_key_serves_no_more_rows_than_its_vault_allows(organization, insert, monkeypatch) -> None:
    monkeypatch.setattr(vaults["default"], "max_rows_per_key", 4)
    insert(organization, *"abcdefghij")
    before = calls()
    encrypt_column(TEXT, batch_size=3)
    assert calls() - before == {"create": 3}
    companions = list(Legacy.objects.values_list("text_keys", flat=True))
    assert sorted(companions.count(keys) for keys in set(companions)) == [2, 4, 4]


def test_running_again_writes_nothing_and_asks_for_nothing(organization, insert) -> None:
    insert(organization, "a", None, "b")
    encrypt_column(TEXT)
    before, stored_before = calls(), list(Legacy.objects.values_list("text_keys"))
    assert encrypt_column(TEXT).written == 0
    assert calls() == before
    assert list(Legacy.objects.values_list("text_keys")) == stored_before


def test_back_again(organization, insert, stored) -> None:
    pks = insert(organization, "a", "", None, " b ")
    encrypt_column(TEXT)
    vaults["default"].purge()
    before = calls()
    assert str(decrypt_column(TEXT, batch_size=2)) == (
        "testapp.Legacy.text: decrypted 3 of 4 rows; the others needed nothing."
    )
    assert calls() - before == {"decrypt": 1}
    assert [stored(Legacy(pk=pk), "text", "text_keys") for pk in pks] == [
        ("a", None),
        ("", None),
        (None, None),
        (" b ", None),
    ]


def test_json_comes_back_as_its_text(organization, insert, stored) -> None:
    (pk,) = insert(organization, '{ "a" : [1.0, "\\u00e9", null] }', column="data")
    encrypt_column(DATA)
    assert Legacy.objects.get().data == {"a": [1.0, "é", None]}
    decrypt_column(DATA)
    assert stored(Legacy(pk=pk), "data", "data_keys") == ('{"a":[1.0,"é",null]}', None)


def write_while_the_vault_is_asked(monkeypatch, write) -> None:
    """Rows have been read by then, and not written."""
    create = vaults["default"].create_data_key

    def create_and_write(context):
        monkeypatch.undo()
        write()
        return create(context)

    monkeypatch.setattr(vaults["default"], "create_data_key", create_and_write)


def test_plaintext_that_was_written_meanwhile_is_what_is_encrypted(organization, insert, execute, monkeypatch) -> None:
    pks = insert(organization, "old", "b")
    write_while_the_vault_is_asked(
        monkeypatch, lambda: execute("UPDATE testapp_legacy SET text = 'new' WHERE id = %s", pks[0])
    )
    report = encrypt_column(TEXT)
    assert (report.examined, report.written) == (2, 2)
    assert texts() == ["new", "b"]


def test_what_new_code_encrypted_meanwhile_stays(organization, insert, monkeypatch, stored) -> None:
    pks = insert(organization, "old", "b")
    saved = {}

    def save() -> None:
        row = Legacy.objects.get(pk=pks[0])
        row.text = "new"
        row.save()
        saved["stored"] = stored(row, "text", "text_keys")

    write_while_the_vault_is_asked(monkeypatch, save)
    assert encrypt_column(TEXT).written == 1
    assert stored(Legacy(pk=pks[0]), "text", "text_keys") == saved["stored"]
    assert texts() == ["new", "b"]


def test_a_row_that_changed_its_tenant_meanwhile_is_encrypted_for_the_new_one(
    organization, other_organization, insert, execute, monkeypatch, stored
) -> None:
    (pk,) = insert(organization, "a")
    write_while_the_vault_is_asked(
        monkeypatch, lambda: execute("UPDATE testapp_legacy SET organization_id = %s", other_organization.pk)
    )
    encrypt_column(TEXT)
    assert texts() == ["a"]
    assert json.loads(stored(Legacy(pk=pk), "text_keys")[0])["row"] == {"organization_id": str(other_organization.pk)}


def test_a_row_that_went_meanwhile_stays_away(organization, insert, execute, monkeypatch) -> None:
    insert(organization, "a", "b")
    write_while_the_vault_is_asked(monkeypatch, lambda: execute("DELETE FROM testapp_legacy WHERE text = 'a'"))
    assert encrypt_column(TEXT).written == 1
    assert texts() == ["b"]


def test_a_kill_in_the_middle_of_a_batch_leaves_whole_rows(organization, insert, monkeypatch, transactional_db) -> None:
    insert(organization, *"abcdef")
    update = StoredRows._update
    batches = []

    def killed(self, names, changes) -> None:
        batches.append(changes)
        update(self, names, changes[:1] if len(batches) == 2 else changes)
        if len(batches) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(StoredRows, "_update", killed)
    with pytest.raises(KeyboardInterrupt):
        encrypt_column(TEXT, batch_size=2)
    monkeypatch.undo()
    group = group_of(TEXT)
    (batch,) = StoredRows(group, "default").batches(10)
    assert [row.envelope(TEXT) is not None for row in batch] == [True, True, False, False, False, False]
    assert encrypt_column(TEXT, batch_size=2).written == 4
    assert texts() == list("abcdef")


@pytest.mark.parametrize("text", ["$vf$1$", "$vf$1$key$AAAA", "$vf$9$from the future"])
def test_plaintext_that_begins_like_an_envelope_is_not_passed_over(organization, insert, text) -> None:
    (pk,) = insert(organization, text)
    with pytest.raises(EnvelopeError, match=rf"^testapp\.Legacy\.text \(pk={pk}\): the value begins like an encrypted"):
        encrypt_column(TEXT)


def test_a_value_beside_the_companion_of_another_is_not_passed_over(organization, insert, execute) -> None:
    insert(organization, "a")
    encrypt_column(TEXT)
    execute("UPDATE testapp_legacy SET text = %s", "$vf$1$other$" + "A" * 40)
    with pytest.raises(EnvelopeError, match=r"the value and 'text_keys' name different data keys"):
        encrypt_column(TEXT)


def test_a_value_that_cannot_be_encrypted_stops_it_and_is_not_shown(organization, insert) -> None:
    *_, pk = insert(organization, "[1]", '["secret', column="data")
    with pytest.raises(DecryptionError, match=rf"^testapp\.Legacy\.data \(pk={pk}\): ") as caught:
        encrypt_column(DATA)
    assert "secret" not in str(caught.value)


def test_a_vault_that_refuses_is_named_with_the_row(organization, insert) -> None:
    (pk,) = insert(organization, "a")
    with (
        vaults["default"].fail_with(VaultRefused("No.")),
        pytest.raises(VaultRefused, match=rf"VAULTS\['default'\]: testapp\.Legacy\.text \(pk={pk}\): No\."),
    ):
        encrypt_column(TEXT)


def test_a_moved_row_is_not_decrypted(organization, other_organization, insert, execute) -> None:
    insert(organization, "a")
    encrypt_column(TEXT)
    execute("UPDATE testapp_legacy SET organization_id = %s", other_organization.pk)
    with pytest.raises(KeyContextMismatch, match="vault_rekey"):
        decrypt_column(TEXT)


def test_a_value_that_the_database_cannot_hold_in_the_clear_is_not_decrypted(organization, stored) -> None:

    row = Legacy.objects.create(organization=organization, text="a\0b")
    if connection.vendor == "postgresql":
        with pytest.raises(ValueRefused, match=rf"^testapp\.Legacy\.text \(pk={row.pk}\): the value holds a NUL"):
            decrypt_column(TEXT)
    else:
        decrypt_column(TEXT)
        assert stored(row, "text") == ("a\0b",)
    assert Legacy.objects.get().text == "a\0b"


def test_a_field_that_is_not_migrating_is_not_encrypted_row_by_row(db) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"testapp\.Patient\.ssn is not declared with migrating=True"):
        encrypt_column(Patient._meta.get_field("ssn"))


def test_a_field_that_is_not_migrating_can_be_decrypted(patient, stored) -> None:
    decrypt_column(Patient._meta.get_field("ssn"))
    assert stored(patient, "ssn", "ssn_keys") == ("123-45-6789", None)


@pytest.mark.parametrize("dry_run", [True, False])
def test_text_that_stands_in_the_place_of_an_encrypted_value_is_counted(organization, insert, execute, dry_run) -> None:
    """It cannot be told from what a process of an earlier phase wrote there, so it is not refused."""
    pks = insert(organization, "1", "2", "3", "4")
    encrypt_column(TEXT)
    keys = TEXT.companion_name
    execute("UPDATE testapp_legacy SET text = 'put there' WHERE id = %s", pks[0])
    execute(f"UPDATE testapp_legacy SET text = 'never encrypted', {keys} = NULL WHERE id = %s", pks[1])
    execute("UPDATE testapp_legacy SET text = NULL WHERE id = %s", pks[2])

    report = encrypt_column(TEXT, dry_run=dry_run)

    assert (report.written, report.beside_keys) == (2, 1)
    assert "1 row holds text in the clear beside the keys of an encrypted value" in str(report)
    assert encrypt_column(TEXT, dry_run=dry_run).beside_keys == dry_run


def test_a_dry_run_looks_at_what_values_are_tied_to(organization, execute, monkeypatch) -> None:
    monkeypatch.setattr(Token._meta.get_field("secret"), "migrating", True)
    token = Token.objects.create(tenant=uuid.uuid4(), secret="x")
    Token.objects.create(tenant=uuid.uuid4(), secret="y")
    execute("UPDATE testapp_token SET secret = 'plain' WHERE secret_keys = %s", stored_keys_of(token))
    report = encrypt_column(Token._meta.get_field("secret"), dry_run=True)
    assert (report.written, report.examined, report.left_alone) == (1, 2, [])


def stored_keys_of(instance):
    return type(instance)._base_manager.values_list("secret_keys", flat=True).get(pk=instance.pk)
