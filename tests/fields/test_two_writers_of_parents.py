"""Two writers of a row that stands in several tables: its values open whoever is first; nobody waits in a circle."""

from itertools import permutations

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, connections

from tests.fields.writers import Meanwhile, database_of_many
from tests.testapp.models import (
    ApiKey,
    Branch,
    Certificate,
    Depot,
    Office,
    Organization,
    WildcardCertificate,
)
from vault_fields.exceptions import KeyContextError
from vault_fields.fields.groups import all_groups_of
from vault_fields.stored import companion

MOMENTS = 40  # More than any of these has statements.


@pytest.fixture
def database(transactional_db, django_db_blocker, tmp_path):
    models = [Organization, Office, Branch, Depot, ApiKey, Certificate, WildcardCertificate]
    with database_of_many(models, django_db_blocker, tmp_path) as alias:
        yield alias


# Each takes the rows of a model, and returns what writes to them by what it has read before.


def save(**values):
    def act(rows):
        row = changed(rows.get(), values)
        return row.save

    return act


def save_by_name(**values):
    def act(rows):
        row = changed(rows.get(), values)
        return lambda: row.save(update_fields=[*values])

    return act


def save_in_coroutine(**values):
    def act(rows):
        row = changed(rows.get(), values)
        return async_to_sync(row.asave)

    return act


def save_with_nothing_but_the_key(**values):
    def act(rows):
        row = rows.model(pk=rows.get().pk, **values)
        return lambda: row.save(using=rows.db)

    return act


def update(**values):
    return lambda rows: lambda: rows.update(**values)


def update_in_bulk(**values):
    def act(rows):
        row = changed(rows.get(), values)
        return lambda: rows.bulk_update([row], [*values])

    return act


def update_or_create(**values):
    def act(rows):
        pk = rows.get().pk
        return lambda: rows.update_or_create(pk=pk, defaults=values)

    return act


def changed(row, values):
    for name, value in values.items():
        setattr(row, name, value)
    return row


OLD, NEW = {"organization_id": 1}, {"organization_id": 2}

# What the parent's row is written with is the tenant that it was read with.
WRITES = {
    "office.save": (Office, save()),
    "office.update_fields": (Office, save_by_name(**OLD)),
    "office.asave": (Office, save_in_coroutine()),
    "office.key": (Office, save_with_nothing_but_the_key(**OLD)),
    "office.update": (Office, update(**OLD)),
    "office.bulk_update": (Office, update_in_bulk(**OLD)),
    "office.update_or_create": (Office, update_or_create(**OLD)),
    "branch.update": (Branch, update(**NEW)),
    "branch.save": (Branch, save(secret="new", **NEW)),
    "branch.update_fields": (Branch, save_by_name(**NEW)),
    "branch.update of a value": (Branch, update(secret="new")),
    "depot.update_fields": (Depot, save_by_name(**NEW)),
}
# Not all with all, which would take long.
MEETINGS = [
    *[(way, "branch.update") for way in WRITES if way.startswith("office")],
    *[("branch.update", f"office.{way}") for way in ("save", "key", "bulk_update")],
    ("office.save", "depot.update_fields"),
    ("depot.update_fields", "office.save"),
    *permutations(["branch.update", "branch.save", "depot.update_fields"], 2),
    ("branch.update_fields", "branch.save"),
    ("branch.save", "branch.update of a value"),
]


@pytest.mark.parametrize(("ours", "theirs"), MEETINGS)
def test_what_a_row_of_two_children_holds_opens(database, ours, theirs) -> None:
    for moment in range(MOMENTS):
        Office.objects.using(database).all().delete()
        Branch.objects.using(database).create(pk=1, secret="old", **OLD)
        Depot(name="d", office_ptr_id=1, id=1, key="old", **OLD).save(using=database)
        came_late = met(database, WRITES[ours], WRITES[theirs], moment)
        branch, depot = Branch.objects.using(database).get(), Depot.objects.using(database).get()
        require_context(branch, depot)
        assert depot.key == "old"
        assert branch.secret in {"old", "new"}
        if came_late:
            return  # There are no more moments between two statements.
    raise AssertionError("more statements than moments")


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize("model", [ApiKey, Certificate])
def test_what_a_child_of_a_child_holds_opens(database, model, is_turned) -> None:
    ours, theirs = (model, save()), (WildcardCertificate, update(**NEW))
    ours, theirs = (theirs, ours) if is_turned else (ours, theirs)
    for moment in range(MOMENTS):
        ApiKey._base_manager.using(database).all().delete()
        values = {"secret": "s", "chain": "c", "pattern": "p"}
        WildcardCertificate.objects.using(database).create(pk=1, **values, **OLD)
        came_late = met(database, ours, theirs, moment)
        row = WildcardCertificate.objects.using(database).get()
        require_context(row)
        assert (row.secret, row.chain, row.pattern) == ("s", "c", "p")
        if came_late:
            return
    raise AssertionError("more statements than moments")


def require_context(*rows) -> None:
    for row in rows:
        for group in all_groups_of(type(row)):
            assert companion.decode(row.__dict__[group.companion]).context == {
                "organization_id": str(row.organization_id)
            }


def met(database, ours, theirs, moment):
    """Let the two meet at one moment. Returns whether the first had come to its end."""
    (model, act), (other_model, other_act) = ours, theirs
    act, other_act = act(model._base_manager.using(database)), other_act(other_model._base_manager.using(database))
    meanwhile = Meanwhile(database, moment, other_act)
    errors = []
    try:
        with connections[database].execute_wrapper(meanwhile):
            act()
    except (DatabaseError, KeyContextError) as error:
        errors.append(error)
    came_late = meanwhile.end()
    for error in [*errors, *filter(None, [meanwhile.error])]:
        if isinstance(error, KeyContextError):
            assert "organization_id differs from that of the stored row" in str(error)
        else:  # A transaction that began by reading is refused its first write, if somebody wrote since.
            assert connections[database].vendor == "sqlite", error
            assert "locked" in str(error)
    return came_late
