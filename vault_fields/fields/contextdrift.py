"""
Redirected rows: their own columns are unchanged, and lead to another key context now.

Somebody changed what lies behind a relation, or what a function makes of the columns. No row of a patient was touched,
and all patients of the organization would be encrypted for another tenant. So every operation that writes rows again
without new values asks first. See ``docs/decisions/0102-redirected-rows-are-asked-about.md``.
"""

from collections.abc import Mapping

from vault_fields.fields.context import stands_elsewhere
from vault_fields.fields.groups import Group
from vault_fields.fields.opening import differing_items
from vault_fields.keys import KeyContext
from vault_fields.stored.companion import Companion

__all__ = ["redirection"]


def redirection(group: Group, companion: Companion, row: Mapping[str, str | None], context: KeyContext) -> str:
    """
    Describe the difference of the context to the companion's that no column of the row explains; empty if there is
    none.

    ``row`` are the columns that the context starts from now, and ``context`` is where they lead. Differences that the
    declaration alone explains are left out: another constant, an item that was added, or that is a column of the row
    now.
    """
    names = [name for name in differing_items(companion.context, context) if _stayed(name, group, companion, row)]
    if not names:
        return ""
    items = ", ".join(f"{name} is {context.get(name)!r} now, and was {companion.context.get(name)!r}" for name in names)
    return (
        f"the columns of the row are those of the value, and lead to another key context: {items}. If what lies "
        "behind them was changed on purpose, or the declaration, run `manage.py vault_rekey "
        f"{group.model._meta.label} --accept-redirected`; otherwise somebody wants another tenant's keys to open it."
    )


def _stayed(name: str, group: Group, companion: Companion, row: Mapping[str, str | None]) -> bool:
    """Whether an item comes from elsewhere, by way of columns that have not changed."""
    if group.source.function is not None:
        return not differing_items(companion.row, row)
    path = group.source.paths.get(name)
    if path is None or name not in companion.row or companion.row[name] != row[name]:
        return False
    return any(each.name == name and stands_elsewhere(path, each.field) for each in group.bindings)
