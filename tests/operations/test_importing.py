"""``ImportField`` in real migrations, there and back, on the real database; the app is ``tests.migrated``."""

import contextlib
import json
import re
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import connection, migrations, models
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import OperationWriter
from django.test import override_settings

from tests.leaks import leaks
from tests.operations.test_encrypting import PLAIN, apply, migrate, raw  # noqa: F401 - a fixture.
from vault_fields import fields
from vault_fields.exceptions import EnvelopeError, RowsLeftAlone, VaultUnavailable
from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField
from vault_fields.importing import EncryptedModelFields, FernetEncryptedFields, Pgcrypto, Reader
from vault_fields.operations import EncryptField, ImportField
from vault_fields.rows.imports import import_column, take_back_column
from vault_fields.rows.walk import StoredRows
from vault_fields.schemachange.effects import Effect
from vault_fields.schemachange.plan import is_foreign
from vault_fields.vaults import vaults

VECTORS = Path(__file__).parents[1] / "vectors" / "imports"
KEY = Fernet.generate_key().decode()
SECRETS = ["123-45-6789", "", "👩🏽‍⚕️ الدكتور", "lines\r\n'\"\\", "long " * 5000, "987-65-4321", None, "000"]


class OldTextField(models.TextField):
    """A field as the old library has it, which decrypts what is read; here it would only be in the way."""

    def from_db_value(self, value, expression, database):
        raise AssertionError("The old library was asked.")


def encrypted(text):
    return Fernet(KEY).encrypt(text.encode()).decode()


@pytest.fixture(params=[models.TextField, models.BinaryField, OldTextField])
def old_field(request):
    return request.param


@pytest.fixture
def beside(migrate, execute):  # noqa: F811 - that fixture.
    """The table of notes with an old column, a new one, and a row for each secret, of two tenants."""

    def run(old_field=models.TextField, secrets=SECRETS, new=EncryptedTextField, **options):
        apps = migrate(PLAIN)
        tenants = [apps.get_model("migrated", "Tenant").objects.create(name=name) for name in ("a", "b")]
        options = {"null": True, "key_context": ["tenant_id"]} | options
        state = apply(
            [
                migrations.AddField("note", "ssn_old", old_field(null=True)),
                migrations.AddField("note", "ssn_keys", CompanionField()),
                migrations.AddField("note", "ssn", new(**options)),
            ],
            apps,
        )
        for number, secret in enumerate(secrets):
            stored = None if secret is None else encrypted(secret)
            stored = stored.encode() if stored and old_field is models.BinaryField else stored
            execute("INSERT INTO migrated_note (tenant_id, ssn_old) VALUES (%s, %s)", tenants[number % 2].pk, stored)
        return state.apps

    with override_settings(FIELD_ENCRYPTION_KEY=KEY):
        yield run


def operation(**options):
    return ImportField(
        "note", "ssn", **{"source": "ssn_old", "reader": EncryptedModelFields(), "batch_size": 3} | options
    )


def values(apps):
    return list(apps.get_model("migrated", "Note").objects.order_by("pk").values_list("ssn", flat=True))


def field_of(apps, name="ssn"):
    return apps.get_model("migrated", "Note")._meta.get_field(name)


def pks():
    return [pk for (pk,) in raw("SELECT id FROM migrated_note ORDER BY id")]


def run(apps, **options):
    """The import past migrations."""
    return import_column(field_of(apps), source="ssn_old", reader=EncryptedModelFields(), batch_size=3, **options)


def test_values_are_imported_and_the_old_column_stays(beside, old_field) -> None:
    apps = beside(old_field)
    before = raw("SELECT id, ssn_old FROM migrated_note ORDER BY id")
    calls = vaults["default"].calls.copy()
    apply([operation()], apps)
    # Each value was opened again, by the keys that are in memory.
    assert vaults["default"].calls - calls == {"create": 2}
    vaults["default"].purge()
    assert values(apps) == SECRETS
    assert raw("SELECT id, ssn_old FROM migrated_note ORDER BY id") == before
    assert raw("SELECT COUNT(*) FROM migrated_note WHERE ssn LIKE '$vf$1$%' AND ssn_keys IS NOT NULL") == [(7,)]


def test_back_again_empties_what_was_imported(beside, old_field) -> None:
    apps = beside(old_field)
    before = raw("SELECT * FROM migrated_note ORDER BY id")
    apply([operation()], apps)
    vaults["default"].purge()
    apply([operation()], apps, backwards=True)
    assert raw("SELECT * FROM migrated_note ORDER BY id") == before


def test_running_again_writes_nothing(beside) -> None:
    apps = beside()
    apply([operation()], apps)
    before, calls = raw("SELECT * FROM migrated_note ORDER BY id"), vaults["default"].calls.copy()
    assert str(run(apps)) == "migrated.Note.ssn: imported 0 of 8 rows; the others needed nothing."
    assert (raw("SELECT * FROM migrated_note ORDER BY id"), vaults["default"].calls) == (before, calls)


def test_an_interrupted_import_is_resumed(beside, monkeypatch) -> None:
    apps = beside()
    write, batches = StoredRows.write, []

    def write_twice(self, names, changes):
        batches.append(changes)
        if len(batches) > 2:
            raise KeyboardInterrupt
        return write(self, names, changes)

    with monkeypatch.context() as patch:
        patch.setattr(StoredRows, "write", write_twice)
        with pytest.raises(CommandError, match=r"^migrated\.Note\.ssn: interrupted\. What was written stays"):
            apply([operation()], apps, atomic=False)
    written = raw("SELECT id, ssn FROM migrated_note WHERE ssn IS NOT NULL ORDER BY id")
    assert len(written) == 6
    apply([operation()], apps, atomic=False)
    assert raw("SELECT id, ssn FROM migrated_note WHERE ssn IS NOT NULL ORDER BY id")[:6] == written
    assert values(apps) == SECRETS


def test_rows_that_do_not_open_are_told_by_key_and_the_others_imported(beside, execute) -> None:
    apps = beside()
    first, second, *_ = pks()
    execute("UPDATE migrated_note SET ssn_old = %s WHERE id = %s", "123-45-6789", first)
    foreign = Fernet(Fernet.generate_key()).encrypt(b"123-45-6789").decode()
    execute("UPDATE migrated_note SET ssn_old = %s WHERE id = %s", foreign, second)
    with pytest.raises(
        RowsLeftAlone,
        match=rf"^migrated\.Note\.ssn: 2 rows cannot be imported \(pk={first}, {second}\)\. What was written stays, "
        rf"and the migration can be run again\. The last: migrated\.Note\.ssn \(pk={second}\): EncryptedModelFields ",
    ) as caught:
        apply([operation()], apps, atomic=False)
    assert not leaks(caught.value, ["123-45-6789", KEY])
    assert values(apps) == [None, None, *SECRETS[2:]]


@pytest.mark.skipif(not connection.features.can_rollback_ddl, reason="this database commits each change of schema")
def test_an_atomic_import_that_fails_keeps_nothing(beside, execute) -> None:
    apps = beside()
    execute("UPDATE migrated_note SET ssn_old = 'x' WHERE id = %s", pks()[-1])
    with pytest.raises(RowsLeftAlone, match=r"none of it is kept"):
        apply([operation()], apps)
    assert values(apps) == [None] * 8


def test_without_on_problem_the_first_row_raises_without_the_value(beside, execute) -> None:
    apps = beside(key_context=["tenant__name"])
    apps.get_model("migrated", "Tenant").objects.update(name=models.F("pk"))
    execute("UPDATE migrated_note SET ssn_old = '123-45-6789' WHERE id = %s", pks()[1])
    with pytest.raises(Exception, match=r"\(pk=\d+\): EncryptedModelFields does not open") as caught:
        run(apps)
    assert not leaks(caught.value, ["123-45-6789", KEY])


def test_a_row_without_a_context_does_not_keep_the_others(beside) -> None:
    apps = beside(key_context=["tenant__name"])
    apps.get_model("migrated", "Tenant").objects.filter(name="a").update(name="")
    problems: list[str] = []
    report = run(apps, on_problem=problems.append)
    assert (report.written, len(report.left_alone), len(problems)) == (4, 3, 3)
    assert values(apps)[1::2] == SECRETS[1::2]
    with pytest.raises(Exception, match=r"name") as caught:
        run(apps)
    assert not leaks(caught.value, ["123-45-6789", KEY])


def test_text_that_begins_like_an_envelope_is_left_alone(beside) -> None:
    apps = beside(secrets=["$vf$1$x", "fine"])
    problems: list[str] = []
    run(apps, on_problem=problems.append)
    assert values(apps) == [None, "fine"]
    assert "the value is refused: it begins like an encrypted value" in problems[0]


def write_meanwhile(monkeypatch, write) -> None:
    """Rows have been read by then, and not written."""
    create = vaults["default"].create_data_key

    def create_and_write(context):
        monkeypatch.undo()
        write()
        return create(context)

    monkeypatch.setattr(vaults["default"], "create_data_key", create_and_write)


def test_a_value_that_somebody_wrote_meanwhile_stays(beside, monkeypatch) -> None:
    apps = beside()
    note = apps.get_model("migrated", "Note")

    def save() -> None:
        row = note.objects.order_by("pk").first()
        row.ssn = "written by the new code"
        row.save()

    write_meanwhile(monkeypatch, save)
    assert run(apps).written == 6
    assert values(apps) == ["written by the new code", *SECRETS[1:]]


def test_an_old_value_that_somebody_wrote_meanwhile_is_what_is_imported(beside, monkeypatch, execute) -> None:
    apps = beside()
    token, pk = encrypted("written by the old code"), pks()[0]
    write_meanwhile(monkeypatch, lambda: execute("UPDATE migrated_note SET ssn_old = %s WHERE id = %s", token, pk))
    assert run(apps).written == 7
    assert values(apps) == ["written by the old code", *SECRETS[1:]]


def test_two_imports_at_once_write_each_row_once(beside, monkeypatch) -> None:
    apps = beside()
    write_meanwhile(monkeypatch, lambda: run(apps))
    assert run(apps).written == 0
    assert values(apps) == SECRETS


def test_going_back_keeps_what_is_nowhere_else(beside, execute) -> None:
    apps = beside()
    apply([operation()], apps)
    note = apps.get_model("migrated", "Note")
    changed, lost, broken, *others = note.objects.order_by("pk")
    changed.ssn = "changed since"
    changed.save()
    execute("UPDATE migrated_note SET ssn_old = NULL WHERE id = %s", lost.pk)
    execute("UPDATE migrated_note SET ssn_old = 'x' WHERE id = %s", broken.pk)
    problems: list[str] = []
    report = take_back_column(
        field_of(apps), source="ssn_old", reader=EncryptedModelFields(), batch_size=1, on_problem=problems.append
    )
    assert sorted(report.left_alone) == [changed.pk, lost.pk, broken.pk]
    told = " ".join(problems)
    assert f"(pk={changed.pk}): the value differs from that of 'ssn_old'" in told
    assert f"(pk={lost.pk}): the value is not in 'ssn_old', and would be lost" in told
    assert f"(pk={broken.pk}): EncryptedModelFields does not open the old column" in told
    assert values(apps) == ["changed since", "", SECRETS[2], *[None] * len(others)]
    with pytest.raises(RowsLeftAlone, match=r"3 rows cannot be emptied again"):
        apply([operation()], apps, backwards=True)


def test_rows_written_under_a_later_name_are_emptied_too(beside, monkeypatch) -> None:
    apps = beside()
    apply([operation()], apps)
    seen: list = []
    monkeypatch.setattr("vault_fields.operations.importing.know_later_names", seen.extend)
    apply([operation()], apps, backwards=True)
    assert [field.name for field in seen] == ["ssn"]


def test_fields_that_share_a_companion_keep_theirs(migrate, execute) -> None:  # noqa: F811 - that fixture.
    apps = migrate(PLAIN)
    tenant = apps.get_model("migrated", "Tenant").objects.create(name="a")
    options = {"null": True, "key_context": ["tenant_id"], "keys_field": "both_keys"}
    apps = apply(
        [
            migrations.AddField("note", "old", models.TextField(null=True)),
            migrations.AddField("note", "both_keys", CompanionField()),
            migrations.AddField("note", "one", EncryptedTextField(**options)),
            migrations.AddField("note", "two", EncryptedJSONField(**options)),
        ],
        apps,
    ).apps
    note = apps.get_model("migrated", "Note").objects.create(tenant_id=tenant.pk, one="present")
    document = encrypted('{"a": [1, null]}')
    execute("UPDATE migrated_note SET old = %s", document)
    with override_settings(FIELD_ENCRYPTION_KEY=KEY):
        both = ImportField("note", "two", "old", EncryptedModelFields())
        apply([both], apps)
        vaults["default"].purge()
        note.refresh_from_db()
        assert (note.one, note.two) == ("present", {"a": [1, None]})
        apply([both], apps, backwards=True)
        vaults["default"].purge()
        note.refresh_from_db()
        assert (note.one, note.two) == ("present", None)
        execute("UPDATE migrated_note SET old = %s", encrypted("no JSON 123-45-6789"))
        with pytest.raises(RowsLeftAlone, match=r"the value is not JSON") as caught:
            apply([both], apps)
    assert not leaks(caught.value, ["123-45-6789"])


def test_plaintext_of_a_migrating_field_beside_it_stays_readable(migrate, execute) -> None:  # noqa: F811 - a fixture.
    apps = migrate(PLAIN)
    tenant = apps.get_model("migrated", "Tenant").objects.create(name="a")
    options = {"null": True, "key_context": ["tenant_id"], "keys_field": "both_keys"}
    apps = apply(
        [
            migrations.AddField("note", "old", models.TextField(null=True)),
            migrations.AddField("note", "both_keys", CompanionField()),
            migrations.AddField("note", "one", EncryptedTextField(migrating=True, **options)),
            migrations.AddField("note", "two", EncryptedTextField(**options)),
        ],
        apps,
    ).apps
    note = apps.get_model("migrated", "Note").objects.create(tenant_id=tenant.pk)
    execute("UPDATE migrated_note SET old = %s, one = 'in the clear'", encrypted("123-45-6789"))
    with override_settings(FIELD_ENCRYPTION_KEY=KEY):
        two = ImportField("note", "two", "old", EncryptedModelFields())
        apply([two], apps)
        vaults["default"].purge()
        note.refresh_from_db()
        assert (note.one, note.two) == ("in the clear", "123-45-6789")
        apply([EncryptField("note", "one")], apps)
        vaults["default"].purge()
        note.refresh_from_db()
        assert (note.one, note.two) == ("in the clear", "123-45-6789")
        assert raw("SELECT COUNT(*) FROM migrated_note WHERE one LIKE '$vf$1$%' AND two LIKE '$vf$1$%'") == [(1,)]
        apply([two], apps, backwards=True)
        vaults["default"].purge()
        note.refresh_from_db()
        assert (note.one, note.two) == ("in the clear", None)


def test_a_document_whose_leaves_are_encrypted_is_read_from_its_column(migrate, execute) -> None:  # noqa: F811 - a fixture.
    apps = migrate(PLAIN)
    tenant = apps.get_model("migrated", "Tenant").objects.create(name="a")
    apps = apply(
        [
            migrations.AddField("note", "ssn_keys", CompanionField()),
            migrations.AddField("note", "ssn", EncryptedJSONField(null=True, key_context=["tenant_id"])),
        ],
        apps,
    ).apps
    vector = json.loads((VECTORS / "django-fernet-encrypted-fields-json.json").read_text("utf-8"))
    (row,) = vector["rows"]
    execute("INSERT INTO migrated_note (tenant_id, data) VALUES (%s, %s)", tenant.pk, row["stored"]["text"])
    reader = FernetEncryptedFields("OLD_SECRET", leaves=True)
    settings = vector["settings"]
    with override_settings(OLD_SECRET=settings["SECRET_KEY"], SALT_KEY=settings["SALT_KEY"]):
        apply([operation(source="data", reader=reader)], apps)
        assert values(apps) == [row["value"]]
        apply([operation(source="data", reader=reader)], apps, backwards=True)
    assert values(apps) == [None]


class Fixed(Reader):
    """A reader that returns the same for every row."""

    def __init__(self, value):
        self.value = value

    def opener(self):
        return lambda stored: self.value


@pytest.mark.parametrize(("value", "read"), [(17, "17"), ("text", "text"), (b"bytes", "bytes"), (True, "True")])
def test_values_become_those_of_the_field(beside, value, read) -> None:
    apps = beside(secrets=["x"])
    apply([operation(reader=Fixed(value))], apps)
    assert values(apps) == [read]


def test_bytes_that_are_no_text_are_refused(beside) -> None:
    apps = beside(secrets=["x"])
    with pytest.raises(RowsLeftAlone, match=r"the old value is not UTF-8 text"):
        apply([operation(reader=Fixed(b"\xff"))], apps)


class StrictField(EncryptedTextField):
    """A field that takes no text with a dash."""

    def to_python(self, value):
        if "-" in value:
            raise ValueError(value)
        return value


def test_what_the_field_does_not_take_is_refused_without_the_value(beside) -> None:
    apps = beside(secrets=["123-45-6789"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EncryptedTextField, "to_python", StrictField.to_python, raising=False)
        with pytest.raises(RowsLeftAlone, match=r"the old value is none for a field of EncryptedTextField") as caught:
            apply([operation()], apps)
    assert not leaks(caught.value, ["123-45-6789", KEY])


def test_a_value_that_does_not_open_to_the_old_one_is_not_written(beside, monkeypatch) -> None:
    apps = beside(secrets=["123-45-6789", "fine"])
    seal = "vault_fields.rows.imports.seal"
    from vault_fields.fields.sealing import seal as real

    def seal_something_else(rows, *args, **options) -> None:
        real(rows, *args, **options)
        held = rows[0][0].__dict__["ssn"]
        rows[0][0].__dict__["ssn"] = rows[-1][0].__dict__["ssn"]
        assert held is not rows[0][0].__dict__["ssn"]

    monkeypatch.setattr(seal, seal_something_else)
    with pytest.raises(RowsLeftAlone, match=r"it does not open to the value of 'ssn_old'") as caught:
        apply([operation()], apps, atomic=False)
    assert not leaks(caught.value, ["123-45-6789", KEY])
    monkeypatch.undo()
    assert values(apps) == [None, "fine"]


def test_a_database_that_does_not_hold_what_was_written_ends_the_import(beside, monkeypatch) -> None:
    apps = beside(secrets=["one", "two"])
    update = StoredRows._update

    def cut(self, names, changes) -> None:
        update(self, names, [(row, [*values[:-1], values[-1][:-4]]) for row, values in changes])

    monkeypatch.setattr(StoredRows, "_update", cut)
    with pytest.raises(EnvelopeError, match=r"^migrated\.Note \(pk=\d+\): the database does not hold what was written"):
        run(apps)
    monkeypatch.undo()
    assert values(apps) == [None, None]


def test_a_vault_that_is_away_ends_the_import(beside) -> None:
    apps = beside()
    with vaults["default"].fail_with(VaultUnavailable("Away.")), pytest.raises(VaultUnavailable) as caught:
        apply([operation()], apps)
    assert not leaks(caught.value, ["123-45-6789", KEY])


def test_settings_without_the_old_key_are_told(beside) -> None:
    apps = beside()
    with override_settings(FIELD_ENCRYPTION_KEY=None), pytest.raises(ImproperlyConfigured, match=r"FIELD_ENCRYPTION"):
        apply([operation()], apps)


def test_without_rows_no_key_is_asked_for(beside) -> None:
    apps = beside(secrets=[None])
    with override_settings(FIELD_ENCRYPTION_KEY=None):
        apply([operation()], apps)
        apply([operation()], apps, backwards=True)
    assert values(apps) == [None]


@pytest.mark.parametrize("source", ["nothing", "ssn", "ssn_keys_of_note", "note"])
def test_a_source_that_is_no_old_column_is_refused(beside, source) -> None:
    with pytest.raises(FieldError, match=rf"^migrated\.Note\.{source} is no old column"):
        apply([operation(source=source)], beside())


def test_a_new_field_that_cannot_be_empty_is_refused(beside) -> None:
    apps = beside()
    field_of(apps).null = False
    with pytest.raises(FieldError, match=r"^migrated\.Note\.ssn is not null=True"):
        run(apps)


def test_a_new_field_that_writes_plaintext_is_refused(beside) -> None:
    with pytest.raises(ImproperlyConfigured, match=r'^migrated\.Note\.ssn is declared with migrating="read"'):
        apply([operation()], beside(migrating="read"))


@pytest.mark.skipif(connection.vendor != "postgresql", reason="pgcrypto is PostgreSQL's")
@pytest.mark.parametrize("atomic", [True, False])
def test_a_column_of_pgcrypto_is_imported_and_back_again(beside, execute, atomic) -> None:
    if not raw("SELECT 1 FROM pg_available_extensions WHERE name = 'pgcrypto'"):
        pytest.skip("this server has no pgcrypto")
    execute("CREATE EXTENSION IF NOT EXISTS pgcrypto")
    apps = beside(models.BinaryField)
    for pk, secret in zip(pks(), SECRETS, strict=True):
        execute("UPDATE migrated_note SET ssn_old = pgp_sym_encrypt(%s, 'the old key') WHERE id = %s", secret, pk)
    execute("UPDATE migrated_note SET ssn_old = pgp_sym_encrypt('x', 'another key') WHERE id = %s", pks()[1])
    with override_settings(PGCRYPTO_KEY="the old key"):
        with pytest.raises(RowsLeftAlone, match=rf"1 row cannot be imported \(pk={pks()[1]}\)") as caught:
            apply([operation(reader=Pgcrypto("PGCRYPTO_KEY"))], apps, atomic=False)
        assert not leaks(caught.value, ["123-45-6789", "the old key"])
        assert values(apps) == [SECRETS[0], None, *SECRETS[2:]]
        execute("UPDATE migrated_note SET ssn_old = pgp_sym_encrypt('', 'the old key') WHERE id = %s", pks()[1])
        apply([operation(reader=Pgcrypto("PGCRYPTO_KEY"))], apps, atomic=atomic)
        assert values(apps) == SECRETS
        apply([operation(reader=Pgcrypto("PGCRYPTO_KEY"))], apps, atomic=atomic, backwards=True)
    assert values(apps) == [None] * 8
    execute("DROP EXTENSION pgcrypto")


def test_a_new_field_that_is_not_encrypted_is_refused(beside) -> None:
    with pytest.raises(
        FieldError, match=r"^migrated\.Note\.text is not an encrypted field here: ImportField goes after"
    ):
        apply([ImportField("note", "text", "ssn_old", EncryptedModelFields())], beside())


def test_a_router_decides_where_rows_are_imported(beside) -> None:
    class Nowhere:
        def allow_migrate(self, db, app_label, model_name=None, **hints):
            return app_label != "migrated"

    apps = beside()
    with override_settings(DATABASE_ROUTERS=[Nowhere()]):
        apply([operation()], apps)
        apply([operation()], apps, backwards=True)
    assert values(apps) == [None] * 8


def test_it_is_written_out_without_a_key() -> None:
    text, imports = OperationWriter(operation(batch_size=50, elidable=True), indentation=0).serialize()
    assert imports == {"import vault_fields.operations", "import vault_fields.importing"}
    assert re.sub(r"\s+", "", text) == (
        "vault_fields.operations.ImportField(model_name='note',name='ssn',source='ssn_old',"
        "reader=vault_fields.importing.EncryptedModelFields(),batch_size=50,elidable=True,),"
    )
    assert operation().migration_name_fragment == "import_note_ssn"
    assert operation().formatted_description() == "p Import the values of field ssn on note from ssn_old"


def test_the_judge_of_a_plan_knows_its_effect() -> None:
    state = ProjectState()
    for backwards in (False, True):
        assert not is_foreign(Effect("0001", "migrated", operation(), state, state, backwards=backwards))


def test_progress_counts_every_row(beside) -> None:
    apps, seen = beside(), []

    @contextlib.contextmanager
    def progress(title, count):
        seen.append((title, count()))
        yield seen.append

    run(apps, progress=progress)
    assert seen == [("Importing migrated.Note.ssn", 8), 3, 3, 2]


MONEY = {"max_digits": 9, "decimal_places": 2}
NOON = datetime(2024, 2, 29, 12, 30, 15, 123456, UTC)
# The texts that the libraries encrypt: what Django writes for each type, in one database or the other.
TYPED = {
    "e-mail": (fields.EncryptedEmailField, {}, ["ada@example.org"], ["ada@example.org"]),
    "line": (fields.EncryptedCharField, {"max_length": 9}, ["120.50"], ["120.50"]),
    "whole number": (fields.EncryptedIntegerField, {}, ["42", "-1"], [42, -1]),
    "truth": (fields.EncryptedBooleanField, {}, ["True", "0", "1"], [True, False, True]),
    "decimal": (fields.EncryptedDecimalField, MONEY, ["12.30", "12.3"], [Decimal("12.30")] * 2),
    "float": (fields.EncryptedFloatField, {}, ["0.30000000000000004"], [0.1 + 0.2]),
    "date": (fields.EncryptedDateField, {}, ["2024-02-29"], [date(2024, 2, 29)]),
    "datetime": (
        fields.EncryptedDateTimeField,
        {},
        ["2024-02-29 12:30:15.123456", "2024-02-29 13:30:15.123456+01:00"],
        [NOON] * 2,
    ),
    "time": (fields.EncryptedTimeField, {}, ["12:30:15.123456", "12:30:00"], [NOON.time(), time(12, 30)]),
    "duration": (
        fields.EncryptedDurationField,
        {},
        ["86402000001", "1 day, 0:00:02.000001", "-1"],
        [timedelta(days=1, seconds=2, microseconds=1)] * 2 + [timedelta(microseconds=-1)],
    ),
    "identifier": (
        fields.EncryptedUUIDField,
        {},
        ["12345678123446789234567812345678", "12345678-1234-4678-9234-567812345678"],
        [uuid.UUID("12345678-1234-4678-9234-567812345678")] * 2,
    ),
    "address": (fields.EncryptedGenericIPAddressField, {}, ["2001:DB8:0::1"], ["2001:db8::1"]),
}


@pytest.mark.parametrize("kind", TYPED)
def test_values_of_a_type_arrive_as_such_and_go_back(beside, kind, settings) -> None:
    settings.TIME_ZONE = "Asia/Kathmandu"  # Django stores times in UTC all the same.
    new, options, texts, expected = TYPED[kind]
    apps = beside(secrets=texts, new=new, **options)
    before = raw("SELECT * FROM migrated_note ORDER BY id")
    apply([operation()], apps)
    found = values(apps)
    assert [(type(each), each) for each in found] == [(type(each), each) for each in expected]
    apply([operation()], apps, backwards=True)
    assert raw("SELECT * FROM migrated_note ORDER BY id") == before


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("decimal", "12.345", "is none that a field of EncryptedDecimalField has exactly"),
        ("decimal", "12,30", "is none for a field of EncryptedDecimalField"),
        ("whole number", "42.5", "is none for a field of EncryptedIntegerField"),
        ("whole number", "9999999999", "the value is refused: it cannot be encoded"),
        ("date", "29.02.2024", "is none for a field of EncryptedDateField"),
        ("address", "300.1.1.1", "the value is refused: it cannot be encoded"),
    ],
)
def test_values_that_the_type_does_not_have_are_refused_by_name(beside, kind, text, reason) -> None:
    new, options, texts, _ = TYPED[kind]
    apps = beside(secrets=[text, texts[0]], new=new, **options)
    with pytest.raises(RowsLeftAlone, match=rf"1 row cannot be imported \(pk={pks()[0]}\)") as caught:
        apply([operation()], apps)
    assert reason in str(caught.value)
    assert not leaks(caught.value, [text])
    assert values(apps)[0] is None
