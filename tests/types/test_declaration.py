"""The declaration of a typed field: what migrations hold, and what it means when it changes."""

import datetime as dt
import pickle
from decimal import Decimal

import pytest
from django.core.exceptions import FieldError
from django.db import models
from django.db.migrations.writer import MigrationWriter
from django.test import override_settings
from django.test.utils import isolate_apps

from tests.testapp.models import Reading, Typed
from tests.types.kinds import DAY, KINDS, MOMENT
from vault_fields import fields
from vault_fields.exceptions import DecryptionError
from vault_fields.fields.encoding import Unencodable
from vault_fields.testing import assert_vault_calls

each_name = pytest.mark.parametrize("name", KINDS)


@each_name
def test_migrations_hold_the_public_path_and_the_options_of_the_plain_field(name) -> None:
    field = Typed._meta.get_field(name)
    _, path, _, kwargs = field.deconstruct()
    assert path == f"vault_fields.fields.{type(field).__name__}"
    assert getattr(fields, type(field).__name__) is type(field)
    plain = KINDS[name].plain(
        null=True,
        blank=True,
        **{key: kwargs[key] for key in ("max_length", "max_digits", "decimal_places") if key in kwargs},
    )
    own = {"key_context": ["organization_id"], "keys_field": "vault_keys"}
    expected = {**plain.deconstruct()[3], **own}
    if name == "binary":
        expected["editable"] = True
    assert kwargs == expected
    text, imports = MigrationWriter.serialize(field)
    assert imports == {"import vault_fields.fields"}
    assert text.startswith(path)


@each_name
def test_a_clone_and_a_pickle_are_the_same_field(name) -> None:
    field = Typed._meta.get_field(name)
    assert field.clone().deconstruct()[1:] == field.deconstruct()[1:]
    assert pickle.loads(pickle.dumps(field)) is field
    assert field.get_internal_type() == field.clone().get_internal_type()


@each_name
def test_the_internal_type_is_that_of_text_or_its_own(name) -> None:
    kind = Typed._meta.get_field(name).get_internal_type()
    is_text = name in {"char", "email", "url", "slug"}
    assert kind == ("TextField" if is_text else KINDS[name].encrypted.__name__)
    assert is_text or not hasattr(models, kind)


@isolate_apps("tests.testapp")
def test_a_default_is_used_and_a_database_default_is_reported() -> None:
    class Defaulted(models.Model):
        tenant = models.IntegerField()
        level = fields.EncryptedIntegerField(key_context=["tenant"], default=3)
        data = fields.EncryptedBinaryField(key_context=["tenant"])
        other = fields.EncryptedBinaryField(key_context=["tenant"], default=b"x")
        text = fields.EncryptedCharField(key_context=["tenant"])
        on = fields.EncryptedDateField(key_context=["tenant"], default=lambda: DAY)

        class Meta:
            app_label = "testapp"

    made = Defaulted()
    assert (made.level, made.data, made.other, made.text, made.on) == (3, b"", b"x", "", DAY)
    assert Defaulted.check() == []


@isolate_apps("tests.testapp")
def test_a_slug_has_an_index_of_ciphertext_only_if_it_is_declared() -> None:
    assert fields.EncryptedSlugField(key_context=["a"]).db_index is False
    declared = fields.EncryptedSlugField(key_context=["a"], db_index=True)
    assert declared.deconstruct()[3]["db_index"] is True


@pytest.mark.parametrize("kind", [fields.EncryptedBooleanField, fields.EncryptedFloatField])
def test_some_types_have_no_index(kind) -> None:
    with pytest.raises(TypeError, match=rf"^{kind.__name__} has no index: (it has two values|whether two floating)"):
        kind(key_context=["a"], index=True)


@pytest.mark.django_db
def test_times_that_choose_themselves_do_so_when_they_are_saved(organization) -> None:
    before = dt.datetime.now(dt.UTC)
    made = Reading.objects.create(organization=organization, number=1, amount=1, on=DAY)
    row = Reading.objects.get()
    assert before <= row.made <= row.changed <= dt.datetime.now(dt.UTC)
    assert (made.made, made.changed, made.day, made.clock) == (row.made, row.changed, row.day, row.clock)
    assert row.day in {dt.date.today(), before.date()}  # noqa: DTZ011 - as Django's own field.
    assert isinstance(row.clock, dt.time)
    first = row.made, row.changed
    row.save()
    row = Reading.objects.get()
    assert row.made == first[0]
    assert row.changed > first[1]
    row.number = 2
    row.save(update_fields=["number"])
    assert Reading.objects.get().changed == row.changed
    (bulk,) = Reading.objects.bulk_create([Reading(organization=organization, number=3, amount=1, on=DAY)])
    assert Reading.objects.get(pk=bulk.pk).changed >= row.changed


@pytest.mark.django_db
def test_a_date_that_does_not_choose_itself_is_saved_without_its_key(organization) -> None:
    Typed.objects.create(organization=organization, date=DAY, datetime=MOMENT, time=dt.time(9))
    row = Typed.objects.get()
    with assert_vault_calls(cold=True):
        row.save()


class Money(models.DecimalField):
    """A field of a project, with a column, a check and a placeholder of its own."""

    def db_type(self, connection):
        return "numeric(3, 1)"

    def db_check(self, connection):
        return "1 = 0"


class EncryptedMoney(fields.EncryptedField, Money):
    padded_to = 12

    def to_plaintext(self, value):
        return f"{Decimal(value):.2f}"

    def from_plaintext(self, text):
        return Decimal(text)


class Wallet(EncryptedMoney):
    """A field made of an encrypted one."""


class TextField(fields.EncryptedField, models.IntegerField):  # Named as one of Django's.
    def to_plaintext(self, value):
        return str(value)

    def from_plaintext(self, text):
        return text


def test_a_field_of_another_class_has_an_encrypted_column() -> None:
    from django.db import connection

    field = EncryptedMoney(key_context=["a"], max_digits=5, decimal_places=2)
    assert field.db_type(connection) == models.TextField().db_type(connection)
    assert field.cast_db_type(connection) == models.TextField().cast_db_type(connection)
    assert field.db_check(connection) is None
    assert field.get_internal_type() == "EncryptedMoney"
    assert Wallet(key_context=["a"]).get_internal_type() == "EncryptedMoney"
    assert TextField(key_context=["a"]).get_internal_type() == "EncryptedTextField"
    assert fields.EncryptedJSONField(key_context=["a"]).get_internal_type() == "TextField"
    assert field.canonical_text("1.5") == "1.50"
    assert len(field.padded("1.50")) == 12


def test_a_text_that_ends_with_a_space_is_refused_where_spaces_fill_texts() -> None:
    class Loose(EncryptedMoney):
        def to_plaintext(self, value):
            return "text "

    with pytest.raises(Unencodable, match="^its text ends with a space"):
        Loose(key_context=["a"]).canonical_text(1)


# Changed declarations.


def decimal(places, digits=8):
    return fields.EncryptedDecimalField(key_context=["a"], max_digits=digits, decimal_places=places)


def test_decimals_of_other_places_are_read_and_have_the_text_of_today() -> None:
    assert str(decimal(3).from_plaintext("1.50")) == "1.500"
    assert decimal(3).current_text("1.50") == "1.500"
    assert str(decimal(1).from_plaintext("1.55")) == "1.55"  # Nothing is lost by reading.
    assert str(decimal(1).from_plaintext("1.50")) == "1.5"
    assert str(decimal(0, 2).from_plaintext("1234.00")) == "1234.00"
    assert decimal(0, 2).current_text("1234.00") == "1234.00"


def test_decimals_without_a_size_have_the_shortest_text() -> None:
    free = fields.EncryptedDecimalField(key_context=["a"])
    texts = ["1.50", "1E+3", "-0.0", "100", "0.000001"]
    assert [free.canonical_text(Decimal(text)) for text in texts] == ["1.5", "1000", "0", "100", "0.000001"]
    assert free.padded_to == 0
    for text in ("1E+200000", "1E-20000"):
        with pytest.raises(Unencodable):
            free.canonical_text(Decimal(text))


def test_what_has_no_text_today_keeps_the_one_it_has() -> None:
    assert decimal(2, 3).current_text("99999.00") == "99999.00"
    assert decimal(2).current_text("no decimal") == "no decimal"


WITHOUT_ZONE = override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin")
WITH_ZONE = override_settings(USE_TZ=True, TIME_ZONE="Europe/Berlin")


def test_times_without_zones_have_texts_without_zone() -> None:
    field = fields.EncryptedDateTimeField(key_context=["a"])
    naive = dt.datetime(2026, 11, 29, 9, 30)  # noqa: DTZ001
    with WITHOUT_ZONE:
        assert field.canonical_text(naive) == "2026-11-29T09:30:00.000000"
        assert field.canonical_text(DAY) == "2026-11-29T00:00:00.000000"
        assert field.from_plaintext("2026-11-29T09:30:00.000000") == naive
        assert field.from_plaintext("2026-11-29T08:30:00.000000Z") == naive
        with pytest.raises(Unencodable):
            field.canonical_text(MOMENT)
    with WITH_ZONE:
        assert field.from_plaintext("2026-11-29T09:30:00.000000") == dt.datetime(2026, 11, 29, 8, 30, tzinfo=dt.UTC)
        assert field.current_text("2026-11-29T09:30:00.000000") == "2026-11-29T08:30:00.000000Z"


def test_the_first_and_the_last_hours_of_all_have_no_other_zone() -> None:
    field = fields.EncryptedDateTimeField(key_context=["a"])
    first = "0001-01-01T00:00:00.000000Z"
    with override_settings(USE_TZ=False, TIME_ZONE="America/New_York"):
        with pytest.raises(DecryptionError, match="no text of a value of EncryptedDateTimeField") as raised:
            field.from_plaintext(first)
        assert raised.value.__context__ is None
        assert field.current_text(first) == first


@WITH_ZONE
def test_naive_times_are_those_of_the_default_zone_and_warned_of_without_the_value() -> None:
    field = Typed._meta.get_field("datetime")
    naive = dt.datetime(2026, 11, 29, 9, 30)  # noqa: DTZ001
    with pytest.warns(
        RuntimeWarning, match="^testapp.Typed.datetime received a naive datetime while time zone"
    ) as seen:
        assert field.canonical_text(naive) == "2026-11-29T08:30:00.000000Z"
    assert "2026" not in str(seen[0].message)
    with pytest.warns(RuntimeWarning, match=r"^\(unbound\) received"):
        assert fields.EncryptedDateTimeField(key_context=["a"]).canonical_text(DAY) == "2026-11-28T23:00:00.000000Z"


@pytest.mark.parametrize(
    ("name", "texts"),
    {
        "integer": ["05", "+5", " 5", "5 ", "1_0", "5.0", "", "-0", "٥"],
        "decimal": ["1.5e1", "+1.50", "-0.00", " 1.50", "NaN", "1_0.00", ""],
        "float": ["1", "1.50", "nan", "inf", "1e5"],
        "boolean": ["True", "1", "", "yes"],
        "date": ["20261129", "2026-W48-7", "2026-11-31", "2026-1-1", "29.11.2026"],
        "datetime": [
            "2026-11-29T09:30:15Z",
            "2026-11-29 09:30:15.123456Z",
            "2026-11-29T09:30:15.123456+00:00",
            "2026-11-29T10:30:15.123456+01:00",
        ],
        "time": ["09:30", "09:30:00", "0930", "09:30:00.000000Z"],
        "duration": ["1 day", "P1D", "1.5", "99999999999999999999999"],
        "uuid": ["0193a1b2c3d47e5f8a9b0c1d2e3f4a5b", "{0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b}", "x"],
        "address": ["2001:DB8::1", "::ffff:c000:201", "192.0.2.01", "fe80::1%eth0", "x", "2001:db8:0::1"],
        "binary": ["AP8", "AP8=\n", "AP-=", "A P8=", "QQ=", "QR=="],
    }.items(),
)
def test_no_other_text_than_the_canonical_one_is_read(name, texts) -> None:
    field = Typed._meta.get_field(name)
    for text in texts:
        with pytest.raises(DecryptionError) as caught:
            field.from_plaintext(text)
        assert len(text) < 3 or text not in str(caught.value)


@isolate_apps("tests.testapp")
def test_methods_of_a_model_are_not_taken_away() -> None:
    class Kept(models.Model):
        tenant = models.IntegerField()

        def get_next_by_on(self):
            return "mine"

        on = fields.EncryptedDateField(key_context=["tenant"])

        class Meta:
            app_label = "testapp"

    assert Kept().get_next_by_on() == "mine"
    assert not hasattr(Kept, "get_previous_by_on")


@each_name
def test_nothing_has_no_text(name) -> None:
    if name not in {"char", "email", "url", "slug"}:
        with pytest.raises(Unencodable):
            Typed._meta.get_field(name).canonical_text(None)


def test_a_value_that_is_no_text_keeps_its_text_where_types_do_not_change_it() -> None:
    assert Typed._meta.get_field("char").current_text("Ada") == "Ada"


def test_an_expression_of_a_value_is_refused() -> None:
    field = Typed._meta.get_field("integer")
    with pytest.raises(FieldError):
        field.get_db_prep_save(5, None)
