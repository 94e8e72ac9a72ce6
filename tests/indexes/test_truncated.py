"""Lookups by truncated hashes open the rows whose hash fits, and find those whose value is what is looked for."""

import sqlite3
from collections import Counter

import pytest
from django.core.exceptions import FieldError
from django.db import connection, models
from django.db.models import Case, Count, Exists, IntegerField, OuterRef, Q, When
from django.test.utils import isolate_apps

from tests.testapp.models import Pass, Reader, Seat, Town
from vault_fields.exceptions import DecryptionError, EnvelopeError, KeyRevoked, ValueRefused
from vault_fields.fields import BlindIndex, ForContext, IndexField, searching, truncated
from vault_fields.fields.groups import hashes_for
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db

# More values than hashes of eight bits.
VALUES = [str(number) for number in range(257)]


@pytest.fixture
def first() -> Town:
    return Town.objects.create(code="a")


@pytest.fixture
def second() -> Town:
    return Town.objects.create(code="b")


def collision(town: Town, column: str) -> tuple[Reader, Reader]:
    """Return two new rows that have different values and one hash; none of the others that were made is left."""
    Reader.objects.bulk_create([Reader(town=town, **{column: value}, plain=value) for value in VALUES])
    by_hash: dict[object, list[Reader]] = {}
    for reader in Reader.objects.filter(town=town):
        by_hash.setdefault(getattr(reader, f"{column}_index"), []).append(reader)
    one, other, *_ = next(readers for readers in by_hash.values() if len(readers) > 1)
    Reader.objects.filter(town=town).exclude(pk__in=[one.pk, other.pk]).delete()
    return one, other


def test_a_row_with_another_value_of_the_same_hash_is_not_found(first) -> None:
    one, other = collision(first, "card")
    assert one.card_index == other.card_index
    rows = Reader.objects.filter(town=first)
    assert rows.get(card=one.plain) == one
    assert rows.get(card__in=[other.plain]) == other
    assert list(rows.exclude(card=one.plain)) == [other]
    assert rows.filter(card=one.plain).count() == 1
    assert list(rows.filter(~Q(card=one.plain) & ~Q(card=other.plain))) == []
    assert rows.filter(card=one.plain).update(plain="found") == 1
    assert Counter(rows.values_list("plain", flat=True)) == {"found": 1, other.plain: 1}
    assert rows.filter(card=one.plain).delete()[0] == 1
    assert not rows.filter(card=one.plain).exists()
    assert rows.filter(card=other.plain).exists()
    assert Reader.objects.get_or_create(town=first, card=other.plain) == (other, False)
    assert Reader.objects.get_or_create(town=first, card=one.plain)[1]


def test_hits_are_found_in_joins_annotations_and_subqueries(first) -> None:
    one, other = collision(first, "card")
    assert list(Town.objects.filter(pk=first.pk, readers__card=one.plain)) == [first]
    assert Town.objects.filter(pk=first.pk).aggregate(n=Count("readers", filter=Q(readers__card=one.plain)))["n"] == 1
    hit = Case(When(card=one.plain, then=1), default=0, output_field=IntegerField())
    hits = dict(Reader.objects.filter(town=first).annotate(hit=hit).values_list("pk", "hit"))
    assert hits == {one.pk: 1, other.pk: 0}
    inner = Reader.objects.filter(town=first, card=one.plain, pk=OuterRef("pk"))
    assert list(Reader.objects.filter(Exists(inner))) == [one]
    counted = Reader.objects.filter(town=first).annotate(hit=Q(card=one.plain), n=Count("pk"))
    assert sorted(counted.values_list("pk", "hit", "n")) == sorted([(one.pk, True, 1), (other.pk, False, 1)])


def test_rows_of_other_tenants_whose_hash_fits_are_not_opened(first, second) -> None:
    mine, theirs = (Reader.objects.create(town=town, card="1", pin="1") for town in (first, second))
    give_hashes(mine, theirs)
    vault = vaults["default"]
    vault.cache.purge()
    calls = Counter(vault.calls)
    for condition in ({"card": "1"}, {"pin": "1"}, {"card": ForContext("1", town=first)}):
        assert Reader.objects.get(town=first, **condition) == mine
    # The index keys of two contexts, and the keys of two values.
    assert vault.calls["decrypt"] - calls["decrypt"] == 4
    # Only its companion tells now that it is another tenant's.
    with connection.cursor() as cursor:
        cursor.execute("UPDATE testapp_reader SET town_id = %s WHERE id = %s", [first.pk, theirs.pk])
    assert Reader.objects.get(town=first, card="1") == mine
    assert vault.calls["decrypt"] - calls["decrypt"] == 4


def give_hashes(reader: Reader, other: Reader) -> None:
    """Write the hashes of one row beside the values of another."""
    columns = [Reader._meta.get_field(name) for name in ("card_index", "pin_index")]
    hashes = [column.get_db_prep_value(getattr(reader, column.attname), connection) for column in columns]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE testapp_reader SET card_index = %s, pin_index = %s WHERE id = %s", [*hashes, other.pk])


def test_values_of_several_tenants_are_each_their_own(first, second) -> None:
    one, two = Reader.objects.create(town=first, card="1"), Reader.objects.create(town=second, card="2")
    both = Reader.objects.filter(town__in=[first, second])
    assert set(both.filter(card__in=["1", "2"])) == {one, two}
    assert list(both.filter(card__in=[ForContext("1", town=first), ForContext("1", town=second)])) == [one]
    assert list(both.filter(card__in=[ForContext("2", town=first), ForContext("1", town=second)])) == []


def test_a_normalized_value_is_compared_as_it_is_hashed(first, second) -> None:
    one = Reader.objects.create(town=first, email="Ada@Example.org", pin="12-34")
    other = Reader.objects.create(town=second, email="ada@example.ORG")
    assert set(Reader.objects.filter(email__folded="ADA@EXAMPLE.ORG")) == {one, other}
    assert Reader.objects.get(town=first, pin="1234") == one
    assert not Reader.objects.filter(town=first, pin="none").exists()
    assert not Reader.objects.exclude(email__folded="ada@example.org").exists()


def test_null_and_what_the_index_leaves_out(first) -> None:
    none, word, number = (Reader.objects.create(town=first, pin=each) for each in (None, "word", "1"))
    rows = Reader.objects.filter(town=first)
    assert set(rows.exclude(pin="1")) == {none, word}
    assert list(rows.filter(Q(pin="1") ^ Q(pin="2"))) == [number]
    nulls = set(rows.filter(Q(plain="9") ^ Q(pk__gt=0), pk=none.pk))
    assert set(rows.filter(Q(pin="9") ^ Q(pk__gt=0), pk=none.pk)) == nulls
    assert set(rows.filter(Q(pin="9") ^ Q(pk__gt=0)).exclude(pk=none.pk)) == {word, number}
    assert set(rows.filter(pin__isnull=True)) == {none}


def test_a_lookup_costs_one_query_and_one_decrypt_for_each_row_whose_hash_fits(
    first, django_assert_num_queries
) -> None:
    one, _ = collision(first, "card")
    vault = vaults["default"]
    vault.cache.purge()
    for decrypts in (2, 0):  # The index key, and the data key that the two rows share.
        calls = Counter(vault.calls)
        with django_assert_num_queries(3):  # Index keys, candidates, rows.
            assert Reader.objects.filter(town=first, card=one.plain).exists()
        assert vault.calls["decrypt"] - calls["decrypt"] == decrypts
    Reader.objects.create(town=first, pin="1")
    with django_assert_num_queries(2):  # No candidates: nothing that could fit is looked for.
        assert not Reader.objects.filter(town__code="a", pin="word").exists()
    with django_assert_num_queries(2):  # Index keys and the row: writes open nothing.
        Reader.objects.create(town=first, card="1")


def test_a_row_that_does_not_open_is_never_not_found(first) -> None:
    reader = Reader.objects.create(town=first, card="1")
    rows = Reader.objects.filter(town=first)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE testapp_reader SET card = %s WHERE id = %s", ["$vf$1$broken", reader.pk])
    for attempt in (rows.filter(card="1").exists, rows.exclude(card="1").count, lambda: rows.get(card="1")):
        with pytest.raises(DecryptionError, match=rf"It may be what is looked for: pk={reader.pk}\."):
            attempt()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE testapp_reader SET card_keys = %s WHERE id = %s", ["{}", reader.pk])
    with pytest.raises(EnvelopeError):
        rows.filter(card="1").exists()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE testapp_reader SET card_keys = NULL WHERE id = %s", [reader.pk])
    with pytest.raises(EnvelopeError, match="'card_keys' is empty"):
        rows.filter(card="1").exists()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE testapp_reader SET card = NULL WHERE id = %s", [reader.pk])
    assert not rows.filter(card="1").exists()
    assert rows.exclude(card="1").exists()


def test_a_withdrawn_key_raises(first) -> None:
    Reader.objects.create(town=first, card="1")
    vault = vaults["default"]
    rows = Reader.objects.filter(town=first)
    vault.revoke("town_id", str(first.pk))
    try:
        for attempt in (rows.filter(card="1").exists, rows.exclude(card="1").count):
            with pytest.raises(KeyRevoked):
                attempt()
    finally:
        vault.restore("town_id", str(first.pk))


def test_more_rows_than_are_opened_are_refused(first, monkeypatch) -> None:
    monkeypatch.setattr(truncated, "MAX_CANDIDATES", 2)
    Reader.objects.bulk_create([Reader(town=first, card="1") for _ in range(2)])
    assert Reader.objects.filter(town=first, card="1").count() == 2
    Reader.objects.create(town=first, card="1")
    with pytest.raises(FieldError, match=r"hashes of 8 bits, and they fit more rows than the 2 that .* Keep more bits"):
        Reader.objects.filter(town=first, card="1").count()


def test_more_rows_are_found_than_a_statement_has_parameters(first) -> None:
    Reader.objects.bulk_create([Reader(town=first, card="1") for _ in range(1200)])
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        before = connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    try:
        assert Reader.objects.filter(town=first, card="1").count() == 1200
    finally:
        if connection.vendor == "sqlite":
            connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, before)


def test_a_primary_key_of_several_columns(first, second) -> None:
    seats = [Seat(town=town, number=number, guest=str(number)) for town in (first, second) for number in range(40)]
    Seat.objects.bulk_create(seats)
    assert Seat.objects.get(town=first, guest="7").number == 7
    assert Seat.objects.filter(town__in=[first, second], guest__in=["7", "8", "x"]).count() == 4
    assert Seat.objects.filter(town=first).exclude(guest="7").count() == 39
    grouped = Seat.objects.filter(town=first).annotate(hit=Q(guest="7"), n=Count("town"))
    assert sum(seat.hit for seat in grouped) == 1


def test_a_primary_key_of_another_type(first) -> None:
    passes = [Pass.objects.create(town=first, code=code) for code in VALUES[:40]]
    assert [Pass.objects.get(town=first, code=each.code) for each in passes] == passes


@isolate_apps("tests.testapp")
def test_keys_that_are_no_json_are_parameters() -> None:
    class Ticket(models.Model):
        id = models.BinaryField(primary_key=True)

        class Meta:
            app_label = "testapp"

    compiler = Ticket.objects.all().query.get_compiler(connection=connection)
    sql, params = searching._among("t", Ticket, [b"1", b"2"], compiler, connection)
    assert sql.endswith("IN (%s, %s)")
    assert len(params) == 2


def test_truncated_hashes_do_not_tell_the_database_which_row_is_meant() -> None:
    with pytest.raises(FieldError, match=r"Reader\.card has truncated hashes"):
        hashes_for(Reader, ["card"])
    assert hashes_for(Reader, ["email", "town"]) == ["email_index", "town"]


def test_hashes_have_no_more_bits_than_are_kept(first) -> None:
    readers = [Reader(town=first, card=value) for value in VALUES]
    Reader.objects.bulk_create(readers)
    hashes = {reader.card_index for reader in Reader.objects.all()}
    assert len(hashes) > 100
    assert {(each.int << 8) % 2**128 for each in hashes} == {(4 << 84 | 2 << 70)}
    assert {each.version for each in hashes} == {4}
    column = Reader._meta.get_field("card_index")
    _, _, args, options = column.deconstruct()
    assert IndexField(*args, **options).bits == 8
    assert "bits" not in Reader._meta.get_field("email_index").deconstruct()[3]


@pytest.mark.parametrize("bits", [7, 123, 0, True, "16", 16.0])
def test_a_number_of_bits_that_cannot_be_is_refused(bits) -> None:
    with pytest.raises(ValueError, match="bits is a number from 8 to 122"):
        BlindIndex(bits=bits)
    assert BlindIndex().bits == BlindIndex(bits=122).bits == 122


def test_a_normalization_that_fails_for_a_stored_value_shows_nothing_of_it(first, monkeypatch) -> None:
    Reader.objects.create(town=first, card="078")
    calls = iter(["078"])
    monkeypatch.setattr(Reader._meta.get_field("card_index"), "normalize", lambda text: next(calls))
    with pytest.raises(ValueRefused, match="the normalization of its index 'card_index' failed") as caught:
        Reader.objects.filter(town=first, card="078").exists()
    assert "078" not in str(caught.value)
