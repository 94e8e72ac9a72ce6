"""
Encrypted columns that are plain in a later state of the models, whatever made them so.

No operation has to change them in the database. The state alone may change, or a model that Django does not manage in
between.
"""

from collections.abc import Callable, Iterator, Sequence

from django.db.migrations.state import ProjectState

from vault_fields.fields.base import EncryptedField
from vault_fields.schemachange.effects import Effect, column_of, table_of
from vault_fields.schemachange.losses import companion_name
from vault_fields.schemachange.names import Column, Names
from vault_fields.schemachange.plan import decrypted_column, is_foreign, is_in

__all__ = ["made_plain", "made_plain_by_plan"]

# The later label, and the table, the column and the companion as the database has them now.
_Found = tuple[str, str, str, str]


def made_plain(
    before: ProjectState,
    afterwards: Callable[[], ProjectState],
    alias: str,
    now: Callable[[str, str], Column | None] = lambda *column: column,
) -> Iterator[_Found]:
    """
    Yield the columns that a field of the state ``before`` encrypts, that the later state has, and that none there
    encrypts.
    """
    encrypted: dict[Column, str] = {}
    for (app_label, _), model in before.models.items():
        for name, field in model.fields.items():
            if isinstance(field, EncryptedField) and is_in(app_label, model, alias, is_managed=False):
                keys = companion_name(name, field)
                place = table_of(app_label, model), column_of(name, field)
                encrypted[place] = column_of(keys, model.fields.get(keys, field))
    if not encrypted:
        return
    kept: set[Column | None] = set()
    plain: dict[Column, str] = {}
    for (app_label, _), model in afterwards().models.items():
        table = table_of(app_label, model)
        for name, field in model.fields.items():
            present = now(table, column_of(name, field))
            if isinstance(field, EncryptedField):
                kept.add(present)
            elif present in encrypted:
                plain.setdefault(present, f"{app_label}.{model.name}.{name}")
    for place, label in plain.items():
        if place not in kept:
            yield label, *place, encrypted[place]


def made_plain_by_plan(
    before: ProjectState, migrations: Sequence[Sequence[Effect]], afterwards: Callable[[], ProjectState], alias: str
) -> Iterator[_Found]:
    """Yield the same for a whole plan, except columns that an operation decrypts, or may decrypt, on the way."""
    names = Names()
    decrypted: set[Column | None] = set()
    touched: set[str] = set()
    for effect in (effect for migration in migrations for effect in migration):
        if (column := decrypted_column(effect)) is not None:
            decrypted.add(names.now(*column))
        elif is_foreign(effect):
            touched.add(effect.app_label)
        names.follow(effect)
    for found in made_plain(before, afterwards, alias, names.now):
        label, *place, _ = found
        if tuple(place) not in decrypted and label.partition(".")[0] not in touched:
            yield found
