"""A value occurs once: in the database, in ``full_clean`` and by ``get_or_create``."""

from collections.abc import Iterable
from traceback import walk_tb
from typing import Any

import pytest
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, models, transaction

from tests.leaks import leaks
from tests.testapp.models import Athlete, League, Ticket
from vault_fields.exceptions import KeyContextError, KeyRevoked
from vault_fields.fields import searching
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db

TAKEN = {"number": ["Somebody has this number."]}


@pytest.fixture
def league() -> League:
    return League.objects.create(workos_id="league_a")


@pytest.fixture
def other() -> League:
    return League.objects.create(workos_id="league_b")


def refused(instance: models.Model, **kwargs: Any) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as caught:
        instance.full_clean(**kwargs)
    assert "481516" not in repr(caught.value)
    return caught.value.message_dict


def test_a_value_occurs_once_in_a_context(league, other) -> None:
    Athlete.objects.create(league=league, number="481516")
    Athlete.objects.create(league=other, number="481516")
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        Athlete.objects.create(league=league, number="481516")
    assert "481516" not in f"{caught.value} {caught.value.__cause__!r}"
    assert Athlete.objects.filter(league=league, number="481516").count() == 1
    assert refused(Athlete(league=league, number="481516")) == TAKEN
    Athlete(league=league, number="2342").full_clean()


def test_a_global_index_makes_a_value_occur_once_in_all_contexts(league, other) -> None:
    Athlete.objects.create(league=league, email="Ada481516@example.org")
    with pytest.raises(IntegrityError), transaction.atomic():
        Athlete.objects.create(league=other, email="ada481516@EXAMPLE.org")
    message = "Athlete with this Email already exists."
    assert refused(Athlete(league=other, email="ADA481516@example.org")) == {"email": [message]}


def test_null_occurs_often_and_an_empty_text_once(league) -> None:
    for _ in range(2):
        Athlete.objects.create(league=league, number=None)
    Athlete(league=league).full_clean()
    Athlete.objects.create(league=league, number="")
    with pytest.raises(IntegrityError), transaction.atomic():
        Athlete.objects.create(league=league, number="")
    assert refused(Athlete(league=league, number="")) == TAKEN


def test_a_row_does_not_conflict_with_itself_but_its_copy_does(league, other) -> None:
    athlete = Athlete.objects.create(league=league, number="481516", email="a@example.org", badge="7")
    athlete.full_clean()
    athlete = Athlete.objects.get(pk=athlete.pk)
    athlete.full_clean()
    athlete.save()
    athlete.number = "481516"
    athlete.full_clean()
    athlete.pk = None
    athlete._state.adding = True
    assert set(refused(athlete)) == {"number", "email", NON_FIELD_ERRORS}
    athlete.league = other
    assert set(refused(athlete)) == {"email"}


def test_a_row_that_moves_to_a_tenant_that_has_its_value_conflicts(league, other) -> None:
    Athlete.objects.create(league=league, number="481516")
    athlete = Athlete.objects.create(league=other, number="481516")
    athlete.league = league
    assert refused(athlete) == TAKEN
    with pytest.raises(IntegrityError), transaction.atomic():
        athlete.save()
    with pytest.raises(IntegrityError), transaction.atomic():
        Athlete.objects.filter(pk=athlete.pk).update(league=league)
    assert Athlete.objects.get(pk=athlete.pk).league == other


def test_constraints_have_other_columns_and_conditions(league) -> None:
    Athlete.objects.create(league=league, team="red", badge="481516", is_active=False)
    Athlete.objects.create(league=league, team="blue", badge="481516", is_active=True)
    message = "Athlete with this League, Team and Badge already exists."
    with pytest.raises(IntegrityError), transaction.atomic():
        Athlete.objects.create(league=league, team="red", badge="481516", is_active=False)
    assert refused(Athlete(league=league, team="red", badge="481516", is_active=False)) == {NON_FIELD_ERRORS: [message]}
    Athlete(league=league, team="green", badge="481516", is_active=False).full_clean()
    message = "Constraint “one_active_badge” is violated."
    assert refused(Athlete(league=league, team="green", badge="481516")) == {NON_FIELD_ERRORS: [message]}
    if connection.features.supports_partial_indexes:
        with pytest.raises(IntegrityError), transaction.atomic():
            Athlete.objects.create(league=league, team="green", badge="481516")


def test_a_context_behind_a_relation_counts_whatever_row_leads_to_it(league, other) -> None:
    first, second, third = (Athlete.objects.create(league=each) for each in (league, league, other))
    Ticket.objects.create(athlete=first, code="481516")
    with pytest.raises(IntegrityError), transaction.atomic():
        Ticket.objects.create(athlete=second, code="481516")
    assert set(refused(Ticket(athlete=second, code="481516"))) == {"code"}
    Ticket(athlete=third, code="481516").full_clean()


def test_a_tenant_that_a_form_leaves_out_is_that_of_the_instance(league) -> None:
    Athlete.objects.create(league=league, number="481516", badge="1")
    found = refused(Athlete(league=league, number="481516", badge="1"), exclude={"league", "email"})
    assert found == {**TAKEN, NON_FIELD_ERRORS: ["Athlete with this League, Team and Badge already exists.", *ACTIVE]}
    # Other columns are left to the form, as Django does it, and so is a value that it refused.
    found = refused(
        Athlete(league=league, number="481516", badge="1"), exclude={"league", "email", "team", "is_active"}
    )
    assert found == TAKEN
    Athlete(league=league, number="481516").full_clean(exclude={"number"})
    Athlete(league=league, number="481516").full_clean(validate_constraints=False)


ACTIVE = ["Constraint “one_active_badge” is violated."]


def test_without_a_tenant_nothing_is_compared_and_nothing_is_written(league) -> None:
    Athlete.objects.create(league=league, number="481516")
    athlete = Athlete(number="481516", badge="481516")
    athlete.full_clean(exclude={"league"})
    with pytest.raises(ValidationError) as caught:
        athlete.full_clean()
    assert set(caught.value.message_dict) == {"league"}
    with pytest.raises((KeyContextError, IntegrityError)):
        athlete.save()


def test_a_withdrawn_key_raises(league, monkeypatch) -> None:
    Athlete.objects.create(league=league, number="481516")
    vault = vaults["default"]
    vault.purge()

    def revoked(wanted: Iterable[Any]) -> dict[Any, KeyRevoked]:
        return {name: KeyRevoked("The key is disabled.") for name in wanted}

    monkeypatch.setattr(vault, "decrypt_data_keys", revoked)
    with pytest.raises(KeyRevoked):
        Athlete(league=league, number="481516").full_clean()


def test_costs_in_vault_calls_and_statements(league, django_assert_num_queries) -> None:
    athlete = Athlete.objects.create(league=league, number="481516")
    # For each unique field the index key and the search; for the one without a key, whether that was lost.
    with assert_vault_calls(), django_assert_num_queries(5):
        athlete.email = "ada@example.org"
        athlete.full_clean(exclude={"league", "badge"})


def test_get_or_create_and_update_or_create(league) -> None:
    athlete, created = Athlete.objects.get_or_create(league=league, number="481516", defaults={"team": "red"})
    assert created
    assert Athlete.objects.get_or_create(league=league, number="481516") == (athlete, False)
    found, created = Athlete.objects.update_or_create(league=league, number="481516", defaults={"team": "blue"})
    assert (found, found.team, created) == (athlete, "blue", False)


def test_get_or_create_finds_what_another_created_meanwhile(league, monkeypatch) -> None:
    get, made = models.QuerySet.get, []

    def too_early(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not made:
            made.append(Athlete.objects.create(league=league, number="481516"))
            raise Athlete.DoesNotExist
        return get(self, *args, **kwargs)

    monkeypatch.setattr(models.QuerySet, "get", too_early)
    assert Athlete.objects.get_or_create(league=league, number="481516") == (made[0], False)


@pytest.mark.parametrize("unique_fields", [["league", "number"], ["number", "league"], ["number"]])
def test_an_upsert_matches_by_the_field(league, unique_fields) -> None:
    if not connection.features.supports_update_conflicts_with_target:
        pytest.skip("the database does not take unique_fields")
    athlete = Athlete.objects.create(league=league, number="481516", team="red")
    rows = [Athlete(league=league, number=number, team="blue") for number in ("481516", "2342")]
    Athlete.objects.bulk_create(rows, update_conflicts=True, unique_fields=unique_fields, update_fields=["team"])
    assert Athlete.objects.count() == 2
    athlete = Athlete.objects.get(pk=athlete.pk)
    assert (athlete.team, athlete.number) == ("blue", "481516")
    assert Athlete.objects.get(league=league, number="2342").team == "blue"


def test_an_upsert_keeps_value_companion_and_hash_together(league) -> None:
    has_target = connection.features.supports_update_conflicts_with_target
    athlete = Athlete.objects.create(league=league, number="481516", badge="1")
    rows = [Athlete(league=league, number="481516", badge="2")]
    if has_target:
        Athlete.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["league", "number"], update_fields=["number", "badge"]
        )
    else:
        Athlete.objects.bulk_create(rows, update_conflicts=True, update_fields=["number", "email", "badge", "league"])
    stored = Athlete.objects.get(league=league, badge="2")
    assert (stored.pk, stored.number, stored.badge) == (athlete.pk, "481516", "2")
    assert Athlete.objects.get(league=league, number="481516") == stored
    assert not Athlete.objects.filter(league=league, badge="1").exists()


def test_an_upsert_does_not_take_rows_for_equal_that_have_another_way_to_their_tenant(league) -> None:
    if not connection.features.supports_update_conflicts_with_target:
        pytest.skip("the database does not take unique_fields")
    first, second = (Athlete.objects.create(league=league) for _ in range(2))
    ticket = Ticket.objects.create(athlete=first, code="481516")
    rows = [Ticket(athlete=second, code="481516")]
    with pytest.raises(DatabaseError), transaction.atomic():
        Ticket.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["code", "athlete"], update_fields=["code"]
        )
    with pytest.raises(KeyContextError, match="might belong to another key context"):
        Ticket.objects.bulk_create(rows, update_conflicts=True, unique_fields=["code"], update_fields=["code"])
    Ticket.objects.bulk_create(rows, update_conflicts=True, unique_fields=["code"], update_fields=["code", "athlete"])
    found = Ticket.objects.get(pk=ticket.pk)
    assert (found.athlete, found.code) == (second, "481516")


def test_conflicts_are_ignored_on_demand(league) -> None:
    athlete = Athlete.objects.create(league=league, number="481516", team="red")
    rows = [Athlete(league=league, number=number, team="blue") for number in ("481516", "2342")]
    Athlete.objects.bulk_create(rows, ignore_conflicts=True)
    assert sorted(each.number for each in Athlete.objects.all()) == ["2342", "481516"]
    assert Athlete.objects.get(pk=athlete.pk).team == "red"


def test_rows_that_had_no_hash_are_reported_by_the_command_that_writes_hashes(league, capsys) -> None:
    first, second = (Athlete.objects.create(league=league, number=number) for number in ("481516", "2342"))
    third = Athlete.objects.create(league=league, number="108")
    # As if the value had been written before there was an index.
    twin = Athlete.objects.filter(pk=second.pk)
    models.QuerySet.update.__wrapped__(Athlete.objects.all(), number_index=None)
    twin.update(number="481516")
    models.QuerySet.update.__wrapped__(Athlete.objects.all(), number_index=None)
    with pytest.raises(CommandError, match=r"1 row was left alone\.$"):
        call_command("vault_index", "testapp.Athlete", "number")
    told = capsys.readouterr()
    assert f"testapp.Athlete.number_keys (pk={second.pk}): another row has its value" in told.err
    assert "481516" not in told.err + told.out
    assert "2 missing and 0 wrong written, 1 failed" in told.out
    assert Athlete.objects.get(league=league, number="481516") == first
    assert Athlete.objects.get(league=league, number="108") == third
    twin.update(number="2342")
    call_command("vault_index", "testapp.Athlete", "number")
    assert "3 rows have their hashes" in capsys.readouterr().out


def test_hashes_that_were_exchanged_are_put_right_by_two_runs(league) -> None:
    first, second = (Athlete.objects.create(league=league, number=number) for number in ("481516", "2342"))
    write = models.QuerySet.update.__wrapped__
    for pk, value in [(first.pk, None), (second.pk, first.number_index), (first.pk, second.number_index)]:
        write(Athlete.objects.filter(pk=pk), number_index=value)
    with pytest.raises(CommandError, match=r"left alone\.$"):
        call_command("vault_index", "testapp.Athlete", "number")
    call_command("vault_index", "testapp.Athlete", "number")
    assert Athlete.objects.get(league=league, number="481516") == first
    assert Athlete.objects.get(league=league, number="2342") == second


def test_encrypting_a_column_that_has_duplicates_ends_with_an_error_that_asks_for_them(
    league, execute, monkeypatch
) -> None:
    monkeypatch.setattr(Athlete._meta.get_field("number"), "migrating", True)
    for athlete in [Athlete.objects.create(league=league) for _ in range(2)]:
        execute("UPDATE testapp_athlete SET number = %s WHERE id = %s", "481516", athlete.pk)
    with pytest.raises(CommandError, match="Do two rows have a value") as caught, transaction.atomic():
        call_command("vault_encrypt", "testapp.Athlete", "number")
    assert "481516" not in str(caught.value)


def test_an_error_while_a_row_is_validated_shows_no_value_in_its_frames(league, monkeypatch) -> None:
    Athlete.objects.create(league=league, number="481516", email="481516", badge="481516")
    monkeypatch.setattr(searching, "find_keys", failing)
    athlete = Athlete(league=league, number="481516", email="481516", badge="481516")
    for constraint in Athlete._meta.constraints:
        with pytest.raises(KeyRevoked) as caught:
            constraint.validate(Athlete, athlete)
        assert not leaks(caught.value, ["481516"])
        # In Django's frames too: the arguments of lookups, and the values that a condition is about.
        frames = [frame.f_locals for frame, _ in walk_tb(caught.value.__traceback__)]
        found = [each for frame in frames[1:] for each in frame.values() if isinstance(each, dict | str)]
        assert any("number" in each or "email" in each or "badge" in each for each in found)
        assert "481516" not in repr(found)


def failing(*args: Any) -> Any:
    raise KeyRevoked("The key is disabled.")


def test_a_condition_does_not_open_other_values(league) -> None:
    athlete = Athlete.objects.create(league=league, number="1", email="a@example.org", badge="7")
    athlete = Athlete.objects.defer("email").get(pk=athlete.pk)
    (constraint,) = (each for each in Athlete._meta.constraints if each.name == "one_active_badge")
    constraint.validate(Athlete, athlete)
    held = athlete.__dict__
    assert held["badge"].opened is not None
    assert held["number"].opened is None
