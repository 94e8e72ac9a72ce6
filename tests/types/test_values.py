"""Values of every type come back as they were, by every way to write and to read them."""

import base64
import copy
import pickle

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.db import connection, transaction
from django.db.models import F
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.testapp.models import Reading, Typed
from tests.types.kinds import ASSIGNED, KINDS, OF_ONE_LENGTH, VALUES, WRONG
from vault_fields.exceptions import DecryptionError, ValueRefused
from vault_fields.fields.encoding import Unencodable
from vault_fields.testing import assert_vault_calls

pytestmark = pytest.mark.django_db

each_value = pytest.mark.parametrize(("name", "value"), VALUES, ids=lambda each: str(each)[:30])
each_name = pytest.mark.parametrize("name", KINDS)


def field(name):
    return Typed._meta.get_field(name)


def same(first, second) -> bool:
    return type(first) is type(second) and first == second


def written_by_save(organization, name, value):
    return Typed.objects.create(organization=organization, **{name: value}).pk


def written_by_bulk_create(organization, name, value):
    return Typed.objects.bulk_create([Typed(organization=organization, **{name: value}) for _ in range(2)])[0].pk


def written_by_bulk_update(organization, name, value):
    rows = [Typed.objects.create(organization=organization) for _ in range(2)]
    for row in rows:
        setattr(row, name, value)
    Typed.objects.bulk_update(rows, [name])
    return rows[1].pk


def written_by_update(organization, name, value):
    row = Typed.objects.create(organization=organization)
    assert Typed.objects.filter(pk=row.pk).update(**{name: value}) == 1
    return row.pk


def written_by_update_fields(organization, name, value):
    row = Typed.objects.create(organization=organization)
    setattr(row, name, value)
    row.save(update_fields=[name])
    return row.pk


def written_by_update_or_create(organization, name, value):
    return Typed.objects.update_or_create(organization=organization, defaults={name: value})[0].pk


def written_in_a_coroutine(organization, name, value):
    async def write():
        return await Typed.objects.acreate(organization=organization, **{name: value})

    return async_to_sync(write)().pk


WAYS = [
    written_by_save,
    written_by_bulk_create,
    written_by_bulk_update,
    written_by_update,
    written_by_update_fields,
    written_by_update_or_create,
    written_in_a_coroutine,
]


@pytest.mark.parametrize("way", WAYS)
@each_name
def test_a_value_comes_back_of_its_type_and_is_encrypted(organization, stored, way, name) -> None:
    value = KINDS[name].values[-1]
    pk = way(organization, name, value)
    loaded = Typed.objects.get(pk=pk)
    assert same(getattr(loaded, name), value)
    assert stored(loaded, name)[0].startswith("$vf$")


@each_value
def test_every_value_comes_back_however_it_is_read(organization, name, value) -> None:
    row = Typed.objects.create(organization=organization, **{name: value})
    assert getattr(row, name) == value
    row.refresh_from_db()
    assert same(getattr(row, name), value)
    rows = Typed.objects.filter(pk=row.pk)
    found = [
        rows.values_list(name, flat=True).get(),
        rows.values(name).get()[name],
        rows.annotate(x=F(name)).get().x,
        getattr(rows.only(name).get(), name),
        getattr(rows.defer(name).get(), name),
        getattr(next(iter(rows.iterator())), name),
        getattr(pickle.loads(pickle.dumps(rows.get())), name),
        getattr(copy.deepcopy(rows.get()), name),
        getattr(Typed.objects.raw("SELECT * FROM testapp_typed WHERE id = %s", [row.pk])[0], name),
    ]
    assert all(same(each, value) for each in found), found


@pytest.mark.parametrize(("name", "given", "value"), ASSIGNED)
def test_whatever_is_assigned_the_canonical_value_is_stored(organization, name, given, value) -> None:
    row = Typed.objects.create(organization=organization, **{name: given})
    assert same(getattr(Typed.objects.get(pk=row.pk), name), value)
    if value is not None:
        assert field(name).canonical_text(given) == field(name).canonical_text(value)


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda each: str(each)[:30])
def test_a_value_of_no_such_type_is_refused_and_not_repeated(organization, name, value) -> None:
    if name in {"char", "email", "url", "slug"}:
        return  # As with plain fields, only validators look at a text.
    with pytest.raises(ValueRefused) as caught, transaction.atomic():
        Typed.objects.create(organization=organization, **{name: value})
    assert str(caught.value).startswith(f"testapp.Typed.{name} (pk=None): the value is refused: it cannot be encoded")
    assert str(value) not in str(caught.value)
    with pytest.raises(Unencodable):
        field(name).canonical_text(value)
    assert not Typed.objects.exists()


@each_name
def test_none_is_null_and_replaces_a_value(organization, stored, name) -> None:
    row = Typed.objects.create(organization=organization, **{name: KINDS[name].values[0]})
    setattr(row, name, None)
    row.save()
    assert stored(row, name, "vault_keys") == (None, None)
    assert getattr(Typed.objects.get(), name) is None
    assert Typed.objects.filter(**{f"{name}__isnull": True}).count() == 1


@each_name
def test_a_row_that_is_read_and_saved_costs_no_call_and_keeps_its_ciphertext(organization, stored, name) -> None:
    row = Typed.objects.create(organization=organization, **{name: KINDS[name].values[-1]})
    before = stored(row, name)
    loaded = Typed.objects.get(pk=row.pk)
    value = getattr(loaded, name)
    with assert_vault_calls():
        loaded.save()
        setattr(loaded, name, value)
        loaded.full_clean()
        loaded.save()
    assert stored(row, name) == before


@pytest.mark.parametrize("name", sorted(OF_ONE_LENGTH))
def test_the_length_of_what_is_stored_does_not_tell_the_value(organization, stored, name) -> None:
    lengths = set()
    for value in KINDS[name].values:
        row = Typed.objects.create(organization=organization, **{name: value})
        lengths.add(len(base64.b64decode(stored(row, name)[0].rpartition("$")[2])))
    assert len(lengths) == 1


@given(st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@each_name
def test_random_values_come_back(organization, name, data) -> None:
    value = data.draw(KINDS[name].random)
    row = Typed.objects.create(organization=organization, **{name: value})
    assert same(Typed.objects.values_list(name, flat=True).get(pk=row.pk), value)


@pytest.mark.parametrize("kind", ["json", "jsonl", "xml", "python"])
@each_name
def test_fixtures_hold_ciphertext_and_load_without_the_vault(organization, name, kind) -> None:
    value = KINDS[name].values[-1]
    row = Typed.objects.create(organization=organization, **{name: value})
    written = serializers.serialize(kind, Typed.objects.all())
    assert "$vf$" in str(written)
    Typed.objects.all().delete()
    with assert_vault_calls():
        for loaded in serializers.deserialize(kind, written):
            loaded.save()
    assert same(getattr(Typed.objects.get(pk=row.pk), name), value)


@each_name
def test_a_fixture_in_the_clear_is_encrypted(organization, stored, name) -> None:
    given = {"binary": "AP8=", "boolean": "True"}.get(name, field(name).canonical_text(KINDS[name].values[-1]))
    fixture = [{"model": "testapp.typed", "pk": 1, "fields": {"organization": organization.pk, name: given}}]
    if name == "duration":
        fixture[0]["fields"][name] = str(KINDS[name].values[1]).replace(" day,", "")
    for loaded in serializers.deserialize("python", fixture):
        loaded.save()
    row = Typed.objects.get()
    assert stored(row, name)[0].startswith("$vf$")
    assert type(getattr(row, name)) is type(KINDS[name].values[-1])


@each_name
def test_ciphertext_of_another_type_does_not_open_as_a_value(organization, execute, name) -> None:
    """A text that is no canonical text of the type, under the right label, is an error that does not repeat it."""
    if name in {"char", "email", "url", "slug"}:
        return
    with pytest.raises(DecryptionError) as caught:
        field(name).from_plaintext(" no text of it")
    assert "no text of it" not in str(caught.value)
    assert caught.value.__context__ is None


@each_name
def test_the_column_is_one_of_text_without_constraints(name) -> None:
    kind = field(name)
    text = Typed._meta.get_field("vault_keys").db_type(connection)
    assert kind.db_type(connection) == kind.rel_db_type(connection) == text
    assert kind.db_check(connection) is None
    assert kind.db_parameters(connection)["check"] is None
    assert kind.db_type_suffix(connection) is None
    assert not hasattr(kind, "get_placeholder")
    assert not hasattr(kind, "get_placeholder_sql")


def test_a_required_date_has_no_next_and_previous_row() -> None:
    assert not hasattr(Reading, "get_next_by_on")
    assert not hasattr(Reading, "get_previous_by_made")
