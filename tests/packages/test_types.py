"""Packages that map each type of field to one of their own."""

import datetime as dt
from typing import Any

import pytest
from import_export import resources
from model_bakery import baker
from ninja import ModelSchema
from ninja.orm import register_field
from rest_framework import serializers

from tests.testapp.models import Organization, Reading, Typed
from tests.types.kinds import DAY, KINDS
from vault_fields.fields.types import VALUE_TYPES
from vault_fields.testing import assert_vault_calls


class TypedSerializer(serializers.ModelSerializer):
    class Meta:
        model = Typed
        fields = [name for name in KINDS if name != "binary"]


class ReadingSerializer(serializers.ModelSerializer):
    class Meta:
        model = Reading
        fields = "__all__"


# With Django REST framework 3.17 big integers have a class of their own.
BIG = getattr(serializers, "BigIntegerField", serializers.IntegerField)
MAPPED = {
    "big": BIG,
    "positive_big": BIG,
    "char": serializers.CharField,
    "email": serializers.EmailField,
    "url": serializers.URLField,
    "slug": serializers.SlugField,
    "decimal": serializers.DecimalField,
    "float": serializers.FloatField,
    "boolean": serializers.BooleanField,
    "date": serializers.DateField,
    "datetime": serializers.DateTimeField,
    "time": serializers.TimeField,
    "duration": serializers.DurationField,
    "uuid": serializers.UUIDField,
    "address": serializers.IPAddressField,
}


@pytest.mark.parametrize("name", TypedSerializer.Meta.fields)
def test_rest_framework_maps_types_as_those_of_plain_fields(name) -> None:
    field = TypedSerializer().fields[name]
    assert type(field) is MAPPED.get(name, serializers.IntegerField)
    if name == "small":
        assert (field.min_value, field.max_value) == (-(2**15), 2**15 - 1)
    if name == "char":
        assert field.max_length == 20
    if name == "decimal":
        assert (field.max_digits, field.decimal_places) == (8, 2)


def test_rest_framework_saves_and_shows_values_of_each_type(organization) -> None:
    data = {name: KINDS[name].values[-1] for name in TypedSerializer.Meta.fields}
    data |= {"char": "Ada", "duration": "1 00:00:02", "datetime": "2026-11-29T09:30:15.123456Z"}
    given = TypedSerializer(data={name: str(value) for name, value in data.items()})
    assert given.is_valid(), given.errors
    row = given.save(organization=organization)
    shown = TypedSerializer(Typed.objects.get(pk=row.pk)).data
    assert (shown["integer"], shown["decimal"], shown["boolean"]) == (2**31 - 1, "999999.99", False)
    assert (shown["char"], dt.datetime.fromisoformat(shown["datetime"])) == ("Ada", KINDS["datetime"].values[0])
    wrong = TypedSerializer(data={"integer": "five", "small": 2**15, "date": "soon", "address": "x"})
    assert not wrong.is_valid()
    assert wrong.errors.keys() == {"integer", "small", "date", "address"}
    assert all(len(errors) == 1 for errors in wrong.errors.values())


def test_rest_framework_offers_choices_and_leaves_companions_and_hashes_out() -> None:
    fields = ReadingSerializer().fields
    assert set(fields) == {"id", "organization", "number", "amount", "on", "level", "made", "changed", "day", "clock"}
    assert type(fields["level"]) is serializers.ChoiceField


def test_ninja_takes_types_that_it_was_told_once() -> None:
    for name, kind in VALUE_TYPES.items():
        register_field(name, kind)

    class TypedSchema(ModelSchema):
        class Meta:
            model = Typed
            fields = list(KINDS)

    def value_type(annotation: Any) -> Any:
        (found,) = set(annotation.__args__) - {type(None)}
        return getattr(found, "__origin__", found)  # A text with a length is annotated.

    types = {name: value_type(field.annotation) for name, field in TypedSchema.model_fields.items()}
    assert types == {name: type(KINDS[name].values[-1]) for name in KINDS}


def test_each_internal_type_has_a_value_type() -> None:
    fields = {Typed._meta.get_field(name).get_internal_type(): name for name in KINDS}
    assert {kind: type(KINDS[name].values[-1]) for kind, name in fields.items() if kind != "TextField"} == VALUE_TYPES


def test_import_export_writes_and_reads_each_type(organization) -> None:
    class TypedResource(resources.ModelResource):
        class Meta:
            model = Typed
            exclude = ["vault_keys", "binary", "duration"]

    values = {name: KINDS[name].values[-1] for name in KINDS if name not in {"binary", "duration"}}
    values |= {"char": "Ada", "datetime": dt.datetime(2026, 11, 29, 9, 30, tzinfo=dt.UTC), "time": dt.time(9, 30)}
    row = Typed.objects.create(organization=organization, **values)
    with assert_vault_calls(decrypt=1, cold=True):
        exported = TypedResource().export()
    assert "$vf$" not in exported.csv
    Typed.objects.all().delete()
    result = TypedResource().import_data(exported, raise_errors=True)
    assert not result.has_errors()
    loaded = Typed.objects.get(pk=row.pk)
    assert {name: getattr(loaded, name) for name in values} == values


def test_baker_fills_every_type(db) -> None:
    rows = [baker.make(Typed, _fill_optional=True, organization__workos_id=f"org_{number}") for number in range(3)]
    for row in rows:
        stored = Typed.objects.get(pk=row.pk)
        for name in KINDS:
            assert getattr(stored, name) == getattr(row, name) is not None
    reading = baker.make(Reading, organization=Organization.objects.first(), on=DAY)
    assert Reading.objects.get(organization=reading.organization, on=DAY) == reading
