"""Columns of every type become encrypted ones with their rows, and plain ones again, on the real database."""

import uuid
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Never

import pytest
from django.db import IntegrityError, connection, migrations, models, transaction
from django.db.migrations.state import ProjectState
from django.test import override_settings

from vault_fields import fields
from vault_fields.exceptions import MigrationRefused
from vault_fields.fields import CompanionField
from vault_fields.operations import DecryptField, EncryptField

APP = "typed_columns"
TABLE = f"{APP}_row"
TENANT = {"key_context": ["tenant"]}
MONEY = {"max_digits": 12, "decimal_places": 2}

CASES = {
    "boolean": (models.BooleanField(), fields.EncryptedBooleanField(**TENANT), [True, False]),
    "whole number": (
        models.IntegerField(),
        fields.EncryptedIntegerField(**TENANT),
        [0, 1, -1, 2**31 - 1, -(2**31)],
    ),
    "big number": (models.BigIntegerField(), fields.EncryptedBigIntegerField(**TENANT), [0, 2**63 - 1, -(2**63)]),
    "positive number": (
        models.PositiveIntegerField(),
        fields.EncryptedPositiveIntegerField(**TENANT),
        [0, 7, 2**31 - 1],
    ),
    "decimal": (
        models.DecimalField(**MONEY),
        fields.EncryptedDecimalField(**TENANT, **MONEY),
        [Decimal(text) for text in ("1.50", "0.00", "-0.01", "9999999999.99", "1000000000.00", "-12.10")],
    ),
    "float": (
        models.FloatField(),
        fields.EncryptedFloatField(**TENANT),
        [0.1, 0.1 + 0.2, 1e-300, 1.7976931348623157e308, 5e-324, 123456789.123456789, 1e22, 2.0**53 + 2, -1 / 3],
    ),
    "date": (
        models.DateField(),
        fields.EncryptedDateField(**TENANT),
        [date(2020, 2, 29), date(1, 1, 1), date(9999, 12, 31)],
    ),
    "datetime": (
        models.DateTimeField(),
        fields.EncryptedDateTimeField(**TENANT),
        [
            datetime(2020, 1, 2, 3, 4, 5, 678901, UTC),
            datetime(2020, 1, 2, tzinfo=UTC),
            datetime(2020, 10, 25, 1, 30, tzinfo=UTC),
            datetime(1000, 1, 2, tzinfo=UTC),
            datetime(9999, 12, 30, 23, 59, 59, 999999, UTC),
        ],
    ),
    "time": (
        models.TimeField(),
        fields.EncryptedTimeField(**TENANT),
        [time(0), time(3, 4, 5, 6), time(12), time(23, 59, 59, 999999)],
    ),
    "duration": (
        models.DurationField(),
        fields.EncryptedDurationField(**TENANT),
        [
            timedelta(0),
            timedelta(days=1, seconds=2),
            timedelta(microseconds=-1),
            timedelta(days=-3, hours=5),
            timedelta(days=100_000, microseconds=7),
        ],
    ),
    "identifier": (
        models.UUIDField(),
        fields.EncryptedUUIDField(**TENANT),
        [uuid.UUID("12345678-1234-4678-9234-567812345678"), uuid.UUID(int=1)],
    ),
    "address": (
        models.GenericIPAddressField(),
        fields.EncryptedGenericIPAddressField(**TENANT),
        ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "::1"],
    ),
    "bytes": (
        models.BinaryField(),
        fields.EncryptedBinaryField(**TENANT),
        [b"", b"\x00\xff\xfe", b"text", b"$vf$1$", bytes(range(256)) * 40],
    ),
    "line": (models.CharField(max_length=20), fields.EncryptedCharField(**TENANT, max_length=20), ["", " x ", "1.50"]),
    "e-mail": (models.EmailField(), fields.EncryptedEmailField(**TENANT), ["Ada@example.org"]),
}


def with_options(field, **options):
    _, _, arguments, known = field.deconstruct()
    return type(field)(*arguments, **{**known, **options})


def apply(state, *operations, backwards=False, **options):
    migration = type("Migration", (migrations.Migration,), {"operations": list(operations)})("m", APP)
    with connection.schema_editor(**options) as editor:
        return (migration.unapply if backwards else migration.apply)(state.clone(), editor)


@pytest.fixture
def table(transactional_db):
    """Make a table with a plain column and rows with these values; drop it in the end."""

    def make(plain, values=()):
        columns = [
            ("id", models.BigAutoField(primary_key=True)),
            ("tenant", models.IntegerField(default=1)),
            ("value", plain.clone()),
            ("last", models.CharField(max_length=5, default="last")),
        ]
        state = apply(ProjectState(), migrations.CreateModel("Row", columns))
        for value in values:
            rows(state).create(value=value)
        return state

    yield make
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {TABLE}")


def rows(state):
    return state.apps.get_model(APP, "Row").objects.order_by("pk")


def values_of(state):
    """The type and the text of each value: exact, and without surprises of ``==``."""
    return [exact(value) for value in rows(state).values_list("value", flat=True)]


def exact(value):
    value = bytes(value) if isinstance(value, memoryview) else value
    return type(value), repr(value)


def stored():
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT value FROM {TABLE} ORDER BY id")
        return [value for (value,) in cursor.fetchall()]


def has_columns(*names) -> bool:
    with connection.cursor() as cursor:
        found = [column.name for column in connection.introspection.get_table_description(cursor, TABLE)]
    # In SQLite Django makes the table anew, in another order.
    return sorted(found) == sorted(names) if connection.vendor == "sqlite" else found == [*names]


def to_encrypted(encrypted, migrating=True, **options):
    return [
        migrations.AddField("row", "value_keys", CompanionField()),
        migrations.AlterField("row", "value", with_options(encrypted, migrating=migrating, **options)),
    ]


@pytest.mark.parametrize("kind", CASES)
def test_values_are_the_same_before_encrypted_and_plain_again(table, kind) -> None:
    plain, encrypted, values = CASES[kind]
    states = [table(with_options(plain, null=True), [*values, None])]
    before = values_of(states[0])
    assert before == [exact(value) for value in (*values, None)]
    steps = [
        to_encrypted(encrypted, null=True),
        [EncryptField("row", "value")],
        [migrations.AlterField("row", "value", with_options(encrypted, null=True))],
    ]
    for operations in steps:
        states.append(apply(states[-1], *operations))
        assert values_of(states[-1]) == before
    assert all(text.startswith("$vf$1$") for text in stored()[:-1])
    while steps:
        states.pop()
        apply(states[-1], *steps.pop(), backwards=True)
        assert values_of(states[-1]) == before
    rows(states[0]).create(value=values[0])
    assert rows(states[0]).filter(value=values[0]).count() == 2
    assert has_columns("id", "tenant", "value", "last")


@pytest.mark.parametrize("kind", CASES)
def test_plain_rows_of_an_encrypted_column_hold_the_canonical_text(table, kind) -> None:
    plain, encrypted, values = CASES[kind]
    state = apply(table(plain, values), *to_encrypted(encrypted, migrating="read"))
    field = rows(state).model._meta.get_field("value")
    texts = [field.canonical_text(value) for value in values]
    assert stored() == texts
    for row in rows(state):
        row.save()
        rows(state).create(value=row.value)
    assert stored() == texts * 2


@pytest.mark.parametrize("kind", ["decimal", "datetime", "identifier", "bytes", "boolean"])
def test_a_column_that_must_have_a_value_still_must_and_has_its_options_again(table, kind) -> None:
    plain, encrypted, values = CASES[kind]
    options = {} if kind in {"bytes", "boolean"} else {"unique": True}
    default = values[0]
    if kind in {"decimal", "boolean"}:
        options["db_default"] = default
    former = table(with_options(plain, default=default, **options), values)
    before = values_of(former)
    operations = to_encrypted(encrypted, default=default)
    later = apply(former, *operations)
    with refused_by_the_database():
        insert_null()
    apply(former, *operations, backwards=True)
    assert values_of(former) == before
    with refused_by_the_database():
        insert_null()
    if "unique" in options:
        with connection.cursor() as cursor:
            constraints = connection.introspection.get_constraints(cursor, TABLE).values()
        assert [each["columns"] for each in constraints if each["unique"] and not each["primary_key"]] == [["value"]]
    assert later.models[APP, "row"].fields["value"].is_encrypted


@contextmanager
def refused_by_the_database():
    with pytest.raises(IntegrityError), transaction.atomic():
        yield


def insert_null() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {TABLE} (tenant, value, last) VALUES (1, NULL, 'x')")


REFUSED = {
    "fewer places": (
        models.DecimalField(max_digits=12, decimal_places=4),
        fields.EncryptedDecimalField(**TENANT, max_digits=12, decimal_places=2),
        [Decimal("1.5000"), Decimal("1.2345")],
    ),
    "fewer digits": (
        models.DecimalField(**MONEY),
        fields.EncryptedDecimalField(**TENANT, max_digits=4, decimal_places=2),
        [Decimal("1.50"), Decimal("1234.00")],
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_values_that_the_other_type_does_not_have_are_refused(table, kind) -> None:
    plain, encrypted, values = REFUSED[kind]
    state = table(plain, values)
    last = rows(state).last().pk
    message = (
        rf"^typed_columns\.Row\.value: 1 row holds a value that a EncryptedDecimalField does not have exactly "
        rf"\(pk={last}\)\. Nothing was changed"
    )
    with pytest.raises(MigrationRefused, match=message):
        apply(state, to_encrypted(encrypted)[1])
    assert values_of(state) == [exact(value) for value in values]
    assert has_columns("id", "tenant", "value", "last")


def test_a_difference_between_the_columns_ends_it(table, monkeypatch) -> None:
    plain, encrypted, values = CASES["date"]
    state = table(plain, values)

    def update(model, using, names, changes) -> None:
        model.objects.filter(pk=changes[0][0]).update(**{names[0]: "no date"})

    monkeypatch.setattr("vault_fields.schemachange.retyping.update", update)
    monkeypatch.setattr("vault_fields.schemachange.retyping.MAX_SHOWN", 2)
    with pytest.raises(MigrationRefused, match=r"3 rows hold .* \(pk=\d+, \d+ …\)\. Nothing was changed"):
        apply(state, to_encrypted(encrypted)[1])
    assert values_of(state) == [exact(value) for value in values]
    assert has_columns("id", "tenant", "value", "last")


@pytest.mark.parametrize("text", ["no date", "2020-1-2"])
def test_text_that_is_none_of_the_type_does_not_become_a_plain_value(table, text) -> None:
    plain, encrypted, values = CASES["date"]
    former = table(plain, values)
    later = apply(former, *to_encrypted(encrypted))
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {TABLE} SET value = %s WHERE value = '2020-02-29'", [text])
    with pytest.raises(MigrationRefused, match=r"1 row holds a value that a DateField does not have exactly"):
        apply(former, to_encrypted(encrypted)[1], backwards=True)
    assert stored()[0] == text
    assert has_columns("id", "tenant", "value", "last", "value_keys")
    assert later.models[APP, "row"].fields["value"].is_encrypted


def test_many_rows_are_carried_over_in_batches_of_their_own_transaction(table, monkeypatch) -> None:
    monkeypatch.setattr("vault_fields.schemachange.retyping.BATCH_SIZE", 2)
    plain, encrypted, values = CASES["datetime"]
    state = table(plain, values)
    before = values_of(state)
    later = apply(state, *to_encrypted(encrypted), atomic=False)
    assert values_of(later) == before
    apply(state, *to_encrypted(encrypted), backwards=True, atomic=False)
    assert values_of(state) == before


def test_what_an_interrupted_run_left_is_removed(table) -> None:
    plain, encrypted, values = CASES["float"]
    state = table(plain, values)
    before = values_of(state)
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} ADD COLUMN vault_fields_value varchar(10)")
    assert values_of(apply(state, *to_encrypted(encrypted))) == before
    assert has_columns("id", "tenant", "value", "last", "value_keys")


@pytest.mark.parametrize("kind", ["float", "bytes", "datetime"])
def test_a_run_that_was_interrupted_after_the_exchange_goes_on(table, kind, monkeypatch) -> None:
    plain, encrypted, values = CASES[kind]
    former = table(plain, values)
    before = values_of(former)

    def interrupt(*args, **kwargs) -> Never:
        raise KeyboardInterrupt

    def interrupted(**options) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("vault_fields.schemachange.retyping._StandIn.run", interrupt)
            with pytest.raises(KeyboardInterrupt):
                apply(former, alter, **options)

    alter = to_encrypted(encrypted)[1]
    interrupted()
    later = apply(former, *to_encrypted(encrypted))
    assert values_of(later) == before
    interrupted(backwards=True)
    apply(former, *to_encrypted(encrypted), backwards=True)
    assert values_of(former) == before
    assert has_columns("id", "tenant", "value", "last")


@pytest.mark.parametrize("values", [[], [None]])
def test_a_column_without_values_is_altered_as_it_is(table, values) -> None:
    plain, encrypted, _ = CASES["date"]
    former = table(with_options(plain, null=True), values)
    later = apply(former, *to_encrypted(encrypted, null=True))
    assert values_of(later) == [exact(value) for value in values]
    apply(former, *to_encrypted(encrypted, null=True), backwards=True)
    assert values_of(former) == [exact(value) for value in values]


@pytest.fixture
def in_nepal(monkeypatch):
    """The connection has a time zone of its own, and the database a session in it."""

    def forget() -> None:
        vars(connection).pop("timezone", None)
        vars(connection).pop("timezone_name", None)
        connection.close()

    monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", "Asia/Kathmandu")
    if connection.vendor == "sqlite":
        vars(connection).pop("timezone", None)
        vars(connection).pop("timezone_name", None)
        yield
        vars(connection).pop("timezone", None)
        vars(connection).pop("timezone_name", None)
    else:
        forget()
        yield
        monkeypatch.undo()
        forget()


def test_the_time_zone_of_a_connection_changes_no_value(table, in_nepal) -> None:
    plain, encrypted, values = CASES["datetime"]
    former = table(plain, values)
    before = [value for (value,) in rows(former).values_list("value")]
    assert before == values
    later = apply(former, *to_encrypted(encrypted))
    assert list(rows(later).values_list("value", flat=True)) == values
    assert stored()[0].startswith("2020-01-02T03:04:05.678901")
    apply(former, *to_encrypted(encrypted), backwards=True)
    assert list(rows(former).values_list("value", flat=True)) == values


def test_a_column_that_has_another_name_from_now_on_has_the_same_values(table) -> None:
    plain, encrypted, values = CASES["date"]
    former = table(with_options(plain, db_column="former"), values)
    operations = to_encrypted(encrypted, db_column="later")
    later = apply(former, *operations)
    assert values_of(later) == [exact(value) for value in values]
    apply(former, *operations, backwards=True)
    assert values_of(former) == [exact(value) for value in values]


def test_an_address_that_a_database_spells_in_its_own_way_is_the_same(table) -> None:
    plain, encrypted, _ = CASES["address"]
    former = table(plain, ["::102:304"])
    before = values_of(former)
    later = apply(former, *to_encrypted(encrypted))
    assert stored() == ["::102:304"]
    assert values_of(later) == [exact("::102:304")]
    apply(former, *to_encrypted(encrypted), backwards=True)
    assert values_of(former) == before


class Hidden(models.Manager):
    """A manager that gives no rows, as one that leaves out what is deleted softly."""

    use_in_migrations = True

    def get_queryset(self):
        return super().get_queryset().none()


def test_rows_that_a_manager_leaves_out_are_carried_over_and_count(table) -> None:
    plain, encrypted, values = CASES["date"]
    former = table(with_options(plain, null=True), [*values, None])
    before = values_of(former)
    hidden = former.clone()
    hidden.alter_model_managers(APP, "row", [("objects", Hidden())])
    hidden.alter_model_options(APP, "row", {"base_manager_name": "objects"})
    assert hidden.apps.get_model(APP, "row")._base_manager.count() == 0
    with pytest.raises(MigrationRefused, match="1 row has no value"):
        apply(hidden, to_encrypted(encrypted)[1])
    with pytest.raises(MigrationRefused, match="is a DateField"):
        apply(hidden, to_encrypted(fields.EncryptedTextField(**TENANT), null=True)[1])
    apply(hidden, to_encrypted(encrypted, null=True)[1])
    assert stored() == ["2020-02-29", "0001-01-01", "9999-12-31", None]
    apply(hidden, to_encrypted(encrypted, null=True)[1], backwards=True)
    assert values_of(former) == before


@override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin")
def test_without_time_zones_values_stay_naive(table) -> None:
    plain, encrypted, _ = CASES["datetime"]
    values = [datetime.fromisoformat(text) for text in ("2020-07-01T12:30:00.000001", "2020-01-01T00:00:00")]
    former = table(plain, values)
    before = values_of(former)
    assert before == [exact(value) for value in values]
    later = apply(former, *to_encrypted(encrypted))
    assert values_of(later) == before
    apply(former, *to_encrypted(encrypted), backwards=True)
    assert values_of(former) == before


def test_sql_on_paper_says_that_values_are_carried_over(table) -> None:
    plain, encrypted, values = CASES["date"]
    state = table(plain, values)
    with connection.schema_editor(collect_sql=True) as editor:
        operation = to_encrypted(encrypted)[1]
        later = state.clone()
        operation.state_forwards(APP, later)
        operation.database_forwards(APP, editor, state, later)
    assert "-- The values of value are carried over by Python, row by row." in editor.collected_sql
    assert values_of(state) == [exact(value) for value in values]


def test_encrypted_rows_are_made_plain_by_an_operation_of_their_own(table) -> None:
    plain, encrypted, values = CASES["decimal"]
    former = table(plain, values)
    before = values_of(former)
    later = apply(apply(former, *to_encrypted(encrypted)), EncryptField("row", "value"))
    back = [migrations.AlterField("row", "value", plain), migrations.RemoveField("row", "value_keys")]
    with pytest.raises(MigrationRefused, match="DecryptField"):
        apply(later, *back)
    assert values_of(apply(apply(later, DecryptField("row", "value")), *back)) == before


def of(kind, **options):
    return with_options(CASES[kind][1], migrating=True, **options)


@pytest.mark.parametrize(
    ("kind", "later"),
    [
        ("whole number", with_options(CASES["big number"][1], migrating=True)),
        ("line", fields.EncryptedTextField(**TENANT, migrating=True)),
        ("e-mail", with_options(CASES["line"][1], migrating=True)),
        ("decimal", fields.EncryptedDecimalField(**TENANT, max_digits=14, decimal_places=4, migrating=True)),
    ],
)
@pytest.mark.parametrize("is_sealed", [True, False], ids=["encrypted", "plain"])
def test_types_that_share_a_text_take_each_others_place(table, kind, later, is_sealed) -> None:
    plain, _, values = CASES[kind]
    former = apply(table(plain, values), *to_encrypted(of(kind)))
    if is_sealed:
        apply(former, EncryptField("row", "value"))
    before, operation = stored(), migrations.AlterField("row", "value", later)
    changed = apply(former, operation)
    assert list(rows(changed).values_list("value", flat=True)) == values
    apply(former, operation, backwards=True)
    assert list(rows(former).values_list("value", flat=True)) == values
    assert stored() == before


@pytest.mark.parametrize("kind", ["date", "datetime", "identifier", "time"])
def test_values_of_one_length_can_become_text(table, kind) -> None:
    plain, _, values = CASES[kind]
    former = apply(apply(table(plain, values), *to_encrypted(of(kind))), EncryptField("row", "value"))
    field = rows(former).model._meta.get_field("value")
    operation = migrations.AlterField("row", "value", fields.EncryptedTextField(**TENANT, migrating=True))
    changed = apply(former, operation)
    assert list(rows(changed).values_list("value", flat=True)) == [field.canonical_text(value) for value in values]
    with pytest.raises(MigrationRefused, match=rf"and {type(field).__name__} reads other texts .*DecryptField"):
        apply(former, operation, backwards=True)


@pytest.mark.parametrize(
    ("kind", "later"),
    [
        ("date", models.DateTimeField()),
        ("datetime", models.DateField()),  # The time would be lost.
        ("duration", models.BigIntegerField()),
    ],
)
def test_a_plain_column_of_another_type_is_refused_while_there_are_rows(table, kind, later) -> None:
    plain, _, values = CASES[kind]
    state = apply(table(plain, values), *to_encrypted(of(kind)))
    before = stored()
    with pytest.raises(MigrationRefused, match=rf"and {type(later).__name__} does not read .* beside it"):
        apply(state, migrations.AlterField("row", "value", later))
    assert stored() == before
    rows(state).all().delete()
    apply(state, migrations.AlterField("row", "value", later))


@pytest.mark.parametrize(
    ("kind", "later", "converted"),
    [
        ("whole number", fields.EncryptedTextField(**TENANT, migrating=True), str),  # Filled with spaces.
        ("line", fields.EncryptedIntegerField(**TENANT, migrating=True), int),
    ],
)
def test_another_type_needs_values_in_the_clear(table, kind, later, converted) -> None:
    plain, _, _ = CASES[kind]
    values = [0, -1, 42] if kind == "whole number" else ["0", "-1", "42"]
    state = apply(apply(table(plain, values), *to_encrypted(of(kind))), EncryptField("row", "value"))
    before, alter = stored(), migrations.AlterField("row", "value", later)
    with pytest.raises(MigrationRefused, match=rf"3 rows with an encrypted value, and {type(later).__name__} reads"):
        apply(state, alter)
    assert stored() == before
    state = apply(state, DecryptField("row", "value"))
    state = apply(apply(state, alter), EncryptField("row", "value"))
    assert list(rows(state).values_list("value", flat=True)) == list(map(converted, values))


def test_what_was_a_number_can_be_read_as_text(table) -> None:
    plain, _, values = CASES["whole number"]
    state = apply(table(plain, values), *to_encrypted(of("whole number")))
    state = apply(apply(state, EncryptField("row", "value")), DecryptField("row", "value"))
    state = apply(state, migrations.AlterField("row", "value", models.TextField()))
    assert list(rows(state).values_list("value", flat=True)) == list(map(str, values))
