"""
``QuerySet.update()`` of encrypted fields: one value for many rows, sealed for the key context of each.

The query's rows are found first, and sealed while none of them is locked: one data key for each context, unless a
field that is not named shares the companion, whose data key then stays. Then they are locked and compared, as for
``bulk_update()``, and those that still match the query are written, all or none.
"""

from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import FieldError
from django.db.models import Model, QuerySet

from vault_fields.fields.groups import Group, all_groups_of
from vault_fields.fields.moving import Move
from vault_fields.fields.queries import ROWS_PER_STATEMENT, as_assigned, bulk_updating, is_bulk_updating, matching
from vault_fields.fields.saving import handed_over
from vault_fields.fields.updatefields import PartialWrite

__all__ = ["update_encrypted", "values_to_seal", "with_hashes"]


def values_to_seal(model: type[Model], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the values that have to be sealed. Refuses an update that would take the values' keys away."""
    groups = () if is_bulk_updating() else all_groups_of(model)
    members = {name: member for group in groups for member in group.members for name in (member.name, member.attname)}
    for group in groups:
        if group.companion in values:
            raise FieldError(
                f"{group.model._meta.label}.{group.companion} holds the keys of the values beside it: updating it by "
                "itself would destroy them. Nothing was written. Assign the values."
            )
        if named := group.index_names & values.keys():
            raise FieldError(
                f"{group.model._meta.label}.{min(named)} holds hashes of the values beside it. Nothing was written. "
                "Assign the values."
            )
    # The field refuses values that the database would compute.
    given = {
        name: value for name, value in values.items() if name in members and not hasattr(value, "resolve_expression")
    }
    # NULL needs no key; beside a value it is written with it.
    return given if any(value is not None for value in given.values()) else {}


def with_hashes(model: type[Model], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values to update, with NULL for the hashes of values that become NULL."""
    emptied = {name for name, value in values.items() if value is None}
    found = {} if is_bulk_updating() else {n: None for group in all_groups_of(model) for n in group.hashes_of(emptied)}
    return {**values, **found}


def update_encrypted(
    original: Callable[..., int],
    bulk_update: Callable[..., int],
    queryset: Any,
    values: Mapping[str, Any],
    sealed: Mapping[str, Any],
) -> int:
    """
    Update the rows of a query; return how many they were.

    Costs one ``create`` for each key context, for every ``max_rows_per_key`` of its rows; where a companion is shared
    with a field that is not named, one ``decrypt`` for each data key that stays. Raises what ``bulk_update()`` raises.
    """
    original(queryset.none(), **{**values, **dict.fromkeys(sealed)})  # Raises Django's errors about names and slices.
    using = queryset.db
    model: Any = queryset.model
    groups = all_groups_of(model)
    rest = {name: value for name, value in values.items() if name not in sealed}
    moving = {
        name: as_assigned(model._meta.get_field(name), value)
        for name, value in rest.items()
        if any(name in group.context_names for group in groups)
    }
    if any(hasattr(value, "resolve_expression") for value in moving.values()):
        raise FieldError(
            f"{model._meta.label}: {', '.join(sorted(moving))} decides whether values open, and they are encrypted "
            "here and not in the database: update it with a value, not with an expression."
        )
    instances = _instances(queryset, groups, using)
    for instance in instances:
        for name, value in {**sealed, **moving}.items():
            setattr(instance, model._meta.get_field(name).attname, value)
    names = [*sealed, *moving]
    write = PartialWrite(instances, model, names, using)
    members = [member.attname for group in groups for member in group.members]

    def statement() -> int:
        still = set(matching(queryset, using).values_list("pk", flat=True))
        rows = [instance for instance in instances if instance.pk in still]
        plain = {name: value for name, value in rest.items() if name not in moving}
        if plain and rows:
            original(matching(queryset, using).filter(pk__in=[row.pk for row in rows]), **plain)
        those: Any = QuerySet(model, using=using).filter(pk__in=[row.pk for row in rows])
        inheriting = Move(those, moving, only_inheriting=True)
        if inheriting:
            inheriting.run(original, bulk_update)
        written = write.names(*(group.model for group in groups))
        fields = [name for name in names if name in written] + sorted(written.difference(names))
        everything: Any = QuerySet(model, using=using)
        with handed_over(rows, members), bulk_updating():
            bulk_update(everything, rows, fields, ROWS_PER_STATEMENT)
        return len(rows)

    try:
        return write.run(statement) if instances else 0
    finally:
        queryset._result_cache = None


def _instances(queryset: Any, groups: list[Group], using: str) -> list[Any]:
    names = {binding.attname for group in groups for binding in group.all_bindings}
    pks = list(dict.fromkeys(matching(queryset, using).values_list("pk", flat=True)))
    found: list[Any] = []
    for start in range(0, len(pks), ROWS_PER_STATEMENT):
        rows: Any = QuerySet(queryset.model, using=using).filter(pk__in=pks[start : start + ROWS_PER_STATEMENT])
        found += rows.only("pk", *names)
    return found
