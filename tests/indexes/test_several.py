"""A field may have several indexes: the primary one serves ``exact`` and ``in``, and the others have names."""

import copy
import pickle
from collections.abc import Iterator

import pytest
from django.core import serializers
from django.core.exceptions import FieldError
from django.db import connection, models
from django.db.models import Case, Count, F, IntegerField, Q, When
from django.test.utils import isolate_apps

from tests.testapp.models import Citizen, Town
from vault_fields.fields import BlindIndex, EncryptedTextField, ForContext, IndexField
from vault_fields.fields.groups import groups_of, hashes_for
from vault_fields.normalize import casefold, digits, last_four
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db

COLUMNS = ("number_index", "number_last4_index", "number_anywhere_index")


@pytest.fixture
def first() -> Town:
    return Town.objects.create(code="a")


@pytest.fixture
def second() -> Town:
    return Town.objects.create(code="b")


@pytest.fixture
def isolated() -> Iterator[None]:
    """Models of the test are not among those of the suite."""
    with isolate_apps("tests.testapp"):
        yield


def has(citizen: Citizen, number: str) -> bool:
    """Whether each index of the number finds the row, as it is stored."""
    row = Citizen.objects.filter(town=citizen.town_id, pk=citizen.pk)
    conditions = [{"number": number}, {"number__last4": number}, {"number__anywhere": number}]
    return all(row.filter(**each).exists() for each in conditions)


def found(condition: Q) -> list[int]:
    hit = Case(When(condition, then=1), default=0, output_field=IntegerField())
    rows = sorted(Citizen.objects.filter(condition).values_list("pk", flat=True))
    assert sorted(Citizen.objects.annotate(hit=hit).filter(hit=1).values_list("pk", flat=True)) == rows
    return rows


def test_each_index_finds_a_value_by_its_name(first, second) -> None:
    one = Citizen.objects.create(town=first, number="078-05-1120", surname="Lovelace")
    other = Citizen.objects.create(town=second, number="219-09-1120", surname="LOVELACE")
    rows = Citizen.objects.filter(town=first)
    assert rows.get(number="078-05-1120") == one
    assert rows.get(number__last4="1120") == rows.get(number__last4="078-05-1120") == one
    assert rows.get(number__last4__in=["1120", "9999", None]) == one
    assert rows.get(surname__folded="lovelace") == one
    assert not rows.filter(number__last4="9999").exists()
    assert list(rows.exclude(number__last4="9999")) == [one]
    assert not rows.exclude(number__last4="1120").exists()
    assert set(Citizen.objects.filter(town__in=[first, second], number__last4="1120")) == {one, other}
    assert Citizen.objects.get(number__anywhere="219091120") == other
    assert list(Town.objects.filter(pk=second.pk, citizens__number__last4="1120")) == [second]
    assert first.citizens.filter(number__last4="1120", number="078-05-1120").count() == 1


def test_a_named_index_needs_the_tenant_as_the_primary_one_does(first, second) -> None:
    one = Citizen.objects.create(town=first, number="078-05-1120")
    with pytest.raises(FieldError, match="add town_id to it by equality"):
        Citizen.objects.filter(number__last4="1120").exists()
    assert Citizen.objects.get(number__last4=ForContext("1120", town=first)) == one
    assert Citizen.objects.get(number__last4__in=[ForContext("1120", town=each) for each in (first, second)]) == one
    with pytest.raises(FieldError, match="without ForContext"):
        Citizen.objects.filter(number__anywhere=ForContext("1120", town=first))
    with pytest.raises(FieldError, match="takes values and not expressions"):
        Citizen.objects.filter(town=first, number__last4=F("plain"))


def test_a_needle_that_the_index_leaves_out_matches_nothing(first) -> None:
    Citizen.objects.create(town=first, number="12")
    assert not first.citizens.filter(number__last4="12").exists()
    assert not first.citizens.filter(number__last4__in=["12", "3"]).exists()
    assert first.citizens.exclude(number__last4="12").count() == 1


def test_a_value_that_the_index_leaves_out_equals_nothing_and_is_not_null(first) -> None:
    short, long, none = (Citizen.objects.create(town=first, number=each) for each in ("12", "51120", None))
    tenant = Q(town=first)
    assert found(tenant & Q(number__last4="1120")) == [long.pk]
    assert found(tenant & ~Q(number__last4="1120")) == [short.pk, none.pk]
    assert found(tenant & ~Q(number__last4__in=["1120", "1"])) == [short.pk, none.pk]
    assert found(tenant & Q(number__last4__isnull=True)) == [short.pk, none.pk]
    assert found(tenant & Q(number__last4=None)) == [short.pk, none.pk]
    assert found(tenant & Q(number__last4__isnull=False)) == [long.pk]
    assert found(tenant & (Q(number__last4="1120") ^ Q(number="12"))) == [short.pk, long.pk]


def test_null_stays_null_under_any_index(first) -> None:
    Citizen.objects.create(town=first)
    for column in ("number", "number__last4", "surname__folded"):
        plain = Citizen.objects.filter(town=first).filter(Q(plain="1") ^ Q(pk__gt=0)).count()
        assert Citizen.objects.filter(town=first).filter(Q(**{column: "1"}) ^ Q(pk__gt=0)).count() == plain


def test_lookups_stand_in_annotations_and_having(first) -> None:
    for number in ("51120", "61120", "12"):
        Citizen.objects.create(town=first, number=number)
    rows = first.citizens.all()
    assert rows.aggregate(n=Count("pk", filter=Q(number__last4="1120"))) == {"n": 2}
    assert rows.annotate(hit=Q(number__last4="1120")).filter(hit=True).count() == 2
    counts = Town.objects.annotate(n=Count("citizens", filter=Q(citizens__town=first)))
    assert counts.filter(Q(n__gt=5) | Q(pk=first.pk, citizens__number__last4="1120")).distinct().count() == 1
    grouped = rows.values("town").annotate(n=Count("pk")).filter(Q(n__gt=5) | Q(number__last4="1120"))
    assert sum(row["n"] for row in grouped) == 2


def test_lookups_are_grouped_by_their_columns(first) -> None:
    for number in ("51120", "12"):
        Citizen.objects.create(town=first, number=number)
    rows = first.citizens.annotate(left_out=Q(number__last4__isnull=True), n=Count("pk"))
    assert sorted(rows.values_list("left_out", "n")) == [(False, 1), (True, 1)]
    inner = models.Subquery(first.citizens.values("number")[:1])
    counted = first.citizens.annotate(other=inner, n=Count("pk"))
    with pytest.raises(FieldError, match="where only values that were read before are left"):
        list(counted.filter(Q(other="1") | Q(n=1)))


@pytest.mark.parametrize(
    "use",
    [
        lambda rows: rows.order_by("number__last4"),
        lambda rows: rows.values("number__last4"),
        lambda rows: rows.annotate(x=F("number__last4")),
        lambda rows: rows.annotate(n=Count("number__last4")),
        lambda rows: rows.filter(number__last4__contains="11"),
        lambda rows: rows.filter(number__last4__lower="11"),
        lambda rows: rows.filter(number__last4__lower__exact="11"),
        lambda rows: rows.filter(number__last4__gt="11"),
    ],
)
def test_a_named_index_has_no_other_use(first, use) -> None:
    with pytest.raises(FieldError, match=r"by its index 'last4': .* Its indexes serve `exact`, `in`, `last4`"):
        list(use(first.citizens.all()))


def test_a_refused_lookup_says_what_the_indexes_serve(first) -> None:
    with pytest.raises(FieldError, match=r"Its indexes serve `folded`, `folded__in`; filter"):
        first.citizens.filter(surname="Lovelace")
    with pytest.raises(FieldError, match=r"lookup 'in': .* `folded`, `folded__in`"):
        first.citizens.filter(surname__in=["Lovelace"])
    with pytest.raises(FieldError, match=r"lookup 'contains': .* `exact`, `in`, `last4`, `last4__in`, `anywhere`"):
        first.citizens.filter(number__contains="11")
    assert not first.citizens.filter(surname=None).exists()
    with pytest.raises(FieldError, match="transform 'last4' of a computed value"):
        first.citizens.annotate(n=models.Subquery(first.citizens.values("number")[:1])).filter(n__last4="1")


def test_a_query_by_a_named_index_does_not_show_what_it_looks_for(first) -> None:
    rows = first.citizens.filter(number__last4="1120")
    assert "1120" not in str(rows.query)
    assert "1120" not in repr(rows.query.where)
    with pytest.raises(TypeError, match="cannot be pickled or cached"):
        pickle.dumps(rows.query)
    assert not copy.deepcopy(rows).exists()


def test_a_lookup_costs_the_same_by_whichever_index(first, django_assert_num_queries) -> None:
    vault = vaults["default"]
    Citizen.objects.create(town=first, number="1")
    vault.cache.purge()
    calls = dict(vault.calls)
    for condition in ({"number": "1"}, {"number__last4": "1"}, {"surname__folded": "1"}):
        with django_assert_num_queries(2):
            first.citizens.filter(**condition).exists()
    assert vault.calls["decrypt"] - calls.get("decrypt", 0) == 1
    with django_assert_num_queries(2):  # The index keys of both scopes are read together.
        Citizen.objects.bulk_create([Citizen(town=first, number=str(each)) for each in range(3)])


def test_every_way_to_write_writes_all_hashes(first, second) -> None:
    citizen = Citizen.objects.create(town=first, number="00001")
    assert has(citizen, "00001")
    citizen.number = "00002"
    citizen.save()
    assert has(citizen, "00002")
    citizen.number = "00003"
    citizen.save(update_fields=["number"])
    assert has(citizen, "00003")
    citizen.number = "00004"
    Citizen.objects.bulk_update([citizen], ["number"])
    assert has(citizen, "00004")
    Citizen.objects.filter(pk=citizen.pk).update(number="00005")
    assert has(citizen, "00005")
    Citizen.objects.filter(pk=citizen.pk).update(town=second)
    citizen.refresh_from_db()
    assert has(citizen, "00005")
    Citizen.objects.bulk_create(
        [Citizen(pk=citizen.pk, town=first, number="00006")],
        update_conflicts=True,
        update_fields=["number", "surname", "town"],
        unique_fields=["pk"] if connection.features.supports_update_conflicts_with_target else None,
    )
    citizen.refresh_from_db()
    assert has(citizen, "00006")
    text = serializers.serialize("json", [citizen])
    Citizen.objects.all().delete()
    (loaded,) = serializers.deserialize("json", text)
    loaded.save()
    assert has(citizen, "00006")
    Citizen.objects.filter(pk=citizen.pk).update(number=None)
    citizen.refresh_from_db()
    assert {name: getattr(citizen, name) for name in COLUMNS} == dict.fromkeys(COLUMNS)


def test_a_partial_save_leaves_the_hashes_of_other_fields(first) -> None:
    citizen = Citizen.objects.create(town=first, number="00001", surname="A")
    stale = Citizen.objects.get(pk=citizen.pk)
    citizen.number = "00002"
    citizen.save()
    stale.surname = "B"
    stale.save(update_fields=["surname"])
    assert has(citizen, "00002")
    assert first.citizens.get(surname__folded="b") == citizen
    partly = Citizen.objects.only("surname").get(pk=citizen.pk)
    partly.surname = "C"
    partly.save()
    assert has(citizen, "00002")


def test_only_the_primary_index_stands_for_its_field_in_the_database() -> None:
    assert hashes_for(Citizen, ["number", "town", "surname"]) == ["number_index", "town", "surname"]
    (group,) = (each for each in groups_of(Citizen) if each.companion == "number_keys")
    assert group.index_names == set(COLUMNS)


def test_index_columns_are_made_again_from_a_migration() -> None:
    for name in (*COLUMNS, "surname_folded_index"):
        column = Citizen._meta.get_field(name)
        _, path, args, options = column.deconstruct()
        assert path == "vault_fields.fields.IndexField"
        again = IndexField(*args, **options)
        assert again.deconstruct()[1:] == column.deconstruct()[1:]
        for attribute in ("index_name", "normalize", "scope"):
            assert getattr(again, attribute) == getattr(column, attribute)
    assert Citizen._meta.get_field("number_last4_index").index_label == "testapp.Citizen.number.last4"


def test_labels_survive_a_rename(isolated) -> None:
    class Renamed(models.Model):
        tenant = models.CharField(max_length=10)
        code = EncryptedTextField(
            key_context=["tenant"],
            index=[True, BlindIndex(name="end", normalize=last_four), BlindIndex(name="all", label="codes")],
            former_labels=["testapp.Old.number"],
        )

        class Meta:
            app_label = "testapp"

    labels = {column.name: column.index_label for column in Renamed._meta.fields if isinstance(column, IndexField)}
    assert labels == {
        "code_index": "testapp.Old.number",
        "code_end_index": "testapp.Old.number.end",
        "code_all_index": "codes",
    }


@pytest.mark.parametrize("name", ["", "a__b", "_a", "a_", "4", "a b", "index", 4])
def test_a_name_that_no_query_could_use_is_refused(name) -> None:
    with pytest.raises(ValueError, match="Python identifier"):
        BlindIndex(name=name)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([True, "global"], "two without a name"),
        ([BlindIndex(name="a"), BlindIndex(name="a")], "of one name"),
        (BlindIndex(name="contains"), "the name of a lookup"),
    ],
)
def test_indexes_that_no_query_could_tell_apart_are_refused(index, message) -> None:
    with pytest.raises(ValueError, match=message):
        EncryptedTextField(key_context=["tenant"], index=index)
    assert EncryptedTextField(key_context=["tenant"], index=[]).indexes == ()
    with pytest.raises(TypeError, match="index is True"):
        EncryptedTextField(key_context=["tenant"], index=[None])


def test_indexes_that_would_share_a_label_or_a_column_are_refused(isolated) -> None:
    with pytest.raises(ValueError, match=r"two indexes with the label 'testapp\.Shared\.code'"):

        class Shared(models.Model):
            tenant = models.CharField(max_length=10)
            code = EncryptedTextField(
                key_context=["tenant"], index=[True, BlindIndex(name="other", label="testapp.Shared.code")]
            )

            class Meta:
                app_label = "testapp"

    with pytest.raises(ValueError, match=r"Mixed\.code_end_index would hold the hashes of 'code' and of 'code_end'"):

        class Mixed(models.Model):
            tenant = models.CharField(max_length=10)
            code = EncryptedTextField(key_context=["tenant"], index=BlindIndex(name="end", normalize=digits))
            code_end = EncryptedTextField(key_context=["tenant"], index=BlindIndex(normalize=casefold))

            class Meta:
                app_label = "testapp"
