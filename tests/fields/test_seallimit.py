"""No data key seals without bound: a row that is written again leaves its key by chance."""

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Never

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.testapp.models import Document, Letter, Patient
from vault_fields.backends.base import MOST_ROWS_OF_A_KEY
from vault_fields.backends.memory import InMemoryVault
from vault_fields.fields import seallimit
from vault_fields.fields.groups import all_groups_of
from vault_fields.stored import cipher, companion
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults

# How many seals under one key NIST SP 800-38D, 8.3, allows with random nonces of 96 bits.
ALLOWED = 2**32


@pytest.fixture
def draw(monkeypatch):
    """Let chance be this function of how many outcomes there are; or see to it that it hits, or does not."""

    def use(function: Callable[[int], int] | bool) -> None:
        chosen = function if callable(function) else lambda one_in: 0 if function else one_in - 1
        monkeypatch.setattr(seallimit, "_draw", chosen)

    use(False)
    return use


@pytest.fixture
def seals(monkeypatch):
    """How many values each data key has sealed, by its encrypted keys."""
    counted = Counter()
    seal = cipher.seal

    def count(key, *args):
        counted[key.encrypted_keys] += 1
        return seal(key, *args)

    monkeypatch.setattr(cipher, "seal", count)
    return counted


def key_of(row, column="ssn_keys"):
    return companion.decode(getattr(type(row).objects.get(pk=row.pk), column)).encrypted_keys


def calls(work):
    before = vaults["default"].calls.copy()
    work()
    return dict(vaults["default"].calls - before)


def test_a_row_that_is_hit_has_a_key_of_its_own_from_then_on(organization, draw) -> None:
    rows = Patient.objects.bulk_create(Patient(organization=organization, ssn=str(n), notes="n") for n in range(3))
    row, shared = rows[0], key_of(rows[0])
    row.ssn = "kept"
    assert calls(row.save) == {}
    assert key_of(row) == shared
    draw(True)
    row.ssn = "fresh"
    assert calls(row.save) == {"create": 1}
    assert key_of(row) != shared
    assert (key_of(row, "notes_keys"), key_of(rows[1])) == (shared, shared)
    assert [(each.ssn, each.notes) for each in Patient.objects.order_by("pk")] == [
        ("fresh", "n"),
        ("1", "n"),
        ("2", "n"),
    ]


def test_no_neighbour_gives_it_the_old_key_back(organization, draw) -> None:
    """Another companion of the row for the same context has the key that it left."""
    row = Patient.objects.create(organization=organization, ssn="1", notes="n")
    shared = key_of(row)
    row.ssn = None
    row.save()
    row.ssn = "again"
    assert calls(row.save) == {}
    assert key_of(row) == shared, "what comes back to a row is sealed with the key that the row has"
    row.ssn = None
    row.save()
    draw(True)
    row.ssn = "and again"
    assert calls(row.save) == {"create": 1}
    assert key_of(row) != shared


@pytest.mark.parametrize("write", ["save", "update_fields", "bulk_update"])
def test_what_shares_the_companion_goes_along(organization, draw, write, seals) -> None:
    letter = Letter.objects.create(organization=organization, subject="s", text={"t": 1})
    before = key_of(letter, "vault_keys")
    draw(True)
    vaults["default"].purge()
    row = Letter.objects.get()
    row.subject = "new"
    writes = {
        "save": row.save,
        "update_fields": lambda: row.save(update_fields=["subject"]),
        "bulk_update": lambda: Letter.objects.bulk_update([row], ["subject"]),
    }
    assert calls(writes[write]) == {"decrypt": 1, "create": 1}
    after = key_of(letter, "vault_keys")
    assert (after != before, seals[before]) == (True, 2)
    stored = Letter.objects.get()
    assert (stored.subject, stored.text) == ("new", {"t": 1})


def test_what_is_not_sealed_again_is_not_drawn_for(organization, draw) -> None:
    def never(one_in) -> Never:
        raise AssertionError(one_in)

    draw(never)
    row = Patient.objects.create(organization=organization, ssn="1", notes="n")
    row.name = "other"
    row.ssn = "1"
    row.save()
    row.save(update_fields=["name"])
    Patient.objects.update(ssn="for all")
    row.refresh_from_db()
    row.ssn = row.notes = None
    row.save()


def test_every_value_and_every_companion_counts(organization, draw) -> None:
    """Rows with more of them leave earlier, so that the bound is the same for all."""
    asked = []
    draw(lambda one_in: asked.append(one_in) or 5)
    row = Patient.objects.create(organization=organization, ssn="1")
    assert len(all_groups_of(Patient)) == 3
    old = key_of(row)
    row.ssn = "2"
    row.save()
    assert (asked, key_of(row)) == ([10_000], old)
    draw(lambda one_in: 2)
    row.ssn = "3"
    row.save()
    assert key_of(row) != old
    letter = Letter.objects.create(organization=organization, subject="s", text={})
    old = key_of(letter, "vault_keys")
    draw(lambda one_in: 1)
    letter.subject = "t"
    letter.save()
    assert key_of(letter, "vault_keys") == old
    letter.subject, letter.text = "u", {"v": 1}
    letter.save()
    assert key_of(letter, "vault_keys") != old


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_are_written_for_ever_leave_their_key_as_chance_has_it(
    organization, draw, seals, monkeypatch, seed
) -> None:
    """By a source of chance that is known, and a bound small enough to be reached: every seal is accounted for."""
    monkeypatch.setattr(seallimit, "ONE_IN", 8)
    source = random.Random(seed)
    draws = []

    def chance(one_in):
        draws.append(source.randrange(one_in))
        return draws[-1]

    draw(chance)
    rows = Document.objects.bulk_create(Document(organization=organization, body=str(n)) for n in range(8))
    (shared,) = seals
    left = set()
    while len(left) < len(rows):
        for row in rows:
            if row.pk not in left:
                row.body += "."
                row.save()
                if key_of(row, "body_keys") != shared:
                    left.add(row.pk)
    # Each draw but those that were hit is one more seal of the shared key.
    assert seals[shared] == len(rows) + len(draws) - len(rows)
    assert draws.count(0) == len(rows)
    expected = len(rows) * 8
    assert expected / 3 < seals[shared] < expected * 3
    assert len(set(map(key_of, rows, ["body_keys"] * len(rows)))) == len(rows)


def test_the_bound_is_far_below_what_is_allowed() -> None:
    """The seals of R rows are less than a sum of R exponential variables of mean ONE_IN: Chernoff bounds its tail."""

    def exponent(rows):
        """-log(P(more than ALLOWED seals))."""
        mean = rows * seallimit.ONE_IN
        times = (ALLOWED - rows * 100) / mean  # A hundred fields that are sealed when the rows are made.
        return rows * (times - 1 - math.log(times))

    assert MOST_ROWS_OF_A_KEY * seallimit.ONE_IN == 10**9
    assert all(exponent(rows) > 180_000 for rows in (1, 10, 100, 1000, 10_000, 50_000, MOST_ROWS_OF_A_KEY))
    # Two nonces of 96 bits are the same with this probability: at what is expected by default, at most, and where
    # NIST draws the line.
    assert math.log2((1000 * seallimit.ONE_IN) ** 2 / 2**97) < -50
    assert math.log2(10**18 / 2**97) < -37
    assert math.log2(ALLOWED**2 / 2**97) == -33


@pytest.mark.parametrize("options", [(100_001, 1), (1000, 101), (1, 100_001)])
def test_settings_that_would_go_beyond_it_are_refused(options) -> None:
    rows, uses = options
    with pytest.raises(ImproperlyConfigured, match=rf"one data key would encrypt {rows * uses:,} rows .* 100,000 are"):
        InMemoryVault(max_rows_per_key=rows, data_key_max_uses=uses)
    InMemoryVault(max_rows_per_key=1000, data_key_max_uses=100)


def test_who_counts_calls_is_not_surprised(organization, draw) -> None:
    draw(True)
    row = Patient.objects.create(organization=organization, ssn="1")
    with assert_vault_calls():
        row.ssn = "2"
        row.save()
    row.ssn = "3"
    assert calls(row.save) == {"create": 1}


def test_chance_is_that_of_the_system() -> None:
    drawn = [seallimit._draw(seallimit.ONE_IN) for _ in range(3)]
    assert all(0 <= each <= seallimit.ONE_IN for each in drawn)
