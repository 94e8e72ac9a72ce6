"""The columns on which values depend, followed through a plan: which values would not open in their rows afterwards?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.migrations import operations as ops
from django.db.migrations.state import ProjectState
from django.db.models import ForeignKey

from vault_fields.fields.companion import CompanionField
from vault_fields.fields.groups import encrypted_fields
from vault_fields.fields.interface import Encrypted
from vault_fields.operations import RekeyField
from vault_fields.schemachange.comparing import Comparison, Present
from vault_fields.schemachange.effects import Effect, column_of, table_of
from vault_fields.schemachange.names import Column, Names
from vault_fields.schemachange.plan import decrypted_column, is_foreign, is_in
from vault_fields.schemachange.spelling import keeps_spelling

__all__ = ["Respelling", "left_to_others", "may_respell", "respelled_by", "respelled_by_plan"]

_Now = Callable[[str, str], Column | None]
# An app, a model and a field.
_Known = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Respelling:
    """An encrypted field, and the comparisons of its values before and after operations that may change them."""

    present: Present
    first: Comparison
    later: tuple[Comparison, ...] = ()
    causes: tuple[Effect, ...] = ()

    @property
    def label(self) -> str:
        return self.present.field.label

    @property
    def place(self) -> Column:
        return _place(self.present.field)

    @property
    def columns(self) -> set[Column]:
        """All columns that are read from the database."""
        field = self.present.field
        companion: Any = field.model._meta.get_field(field.companion_name)
        bound = [binding.field for binding in self.first.bindings]
        return set(map(_place, (field, companion, *bound)))

    @property
    def is_possible(self) -> bool:
        return any(not later.is_same(former) for former, later in pairwise([self.first, *self.later]))

    @property
    def cause(self) -> Effect:
        """The operation that causes it; the first of those that may, if that cannot be told."""
        known = self.known | {(self.present.field.model._meta.app_label, *_names_of(self.present.field))}
        for effect in self.causes:
            operation: Any = effect.operation
            if (effect.app_label, operation.model_name_lower, operation.name) in known:
                return effect
        return self.causes[0]

    @property
    def known(self) -> set[_Known]:
        """The fields behind the columns, as each state has them."""
        return {
            (column.model._meta.app_label, *_names_of(column))
            for each in (self.first, *self.later)
            for binding in each.bindings
            for column in _chain(binding.field)
        }

    @property
    def apps(self) -> set[str]:
        """The apps whose operations may deal with the values, or with the columns."""
        return {self.present.field.model._meta.app_label, *(app_label for app_label, _, _ in self.known)}

    def compared(self, field: Encrypted, now: _Now, *, rewrites: bool = False) -> "Respelling":
        later = Comparison.later(field, self.present, now, self.first, rewrites=rewrites)
        return replace(self, later=(*self.later, later))


def may_respell(effect: Effect) -> bool:
    """Whether an operation may change what rows are compared by, of any model. A cheap test: most operations do not."""
    operation = effect.operation
    if isinstance(operation, ops.RemoveField):
        before = effect.model_before(operation.model_name).fields.get(operation.name)
        return not isinstance(before, (CompanionField, Encrypted))
    if not isinstance(operation, ops.AlterField):
        return False
    before = effect.model_before(operation.model_name).fields.get(operation.name)
    after = effect.model_after(operation.model_name).fields.get(operation.name)
    if before is None or after is None or isinstance(after, CompanionField):
        return False
    if isinstance(after, Encrypted):
        return isinstance(before, Encrypted) and (
            before.bind_to != after.bind_to or not before.source.is_same(after.source)
        )
    if before.remote_field or after.remote_field:
        return True
    return not keeps_spelling(before, after)


def left_to_others(migrations: Sequence[Sequence[Effect]]) -> frozenset[tuple[int, str]]:
    """
    Return the operations, by ``id()``, that a foreign operation follows in the same migration.

    It may fill the columns that a declaration comes to name. By then, the former text of a column is gone.
    """
    found: set[tuple[int, str]] = set()
    for migration in migrations:
        is_followed = False
        for effect in reversed(migration):
            is_followed = is_followed or is_foreign(effect)
            if is_followed and _is_declaration(effect):
                found.add((id(effect.operation), ""))
    return frozenset(found)


def _is_declaration(effect: Effect) -> bool:
    """Whether an operation changes what the values of a field are compared by, and no column."""
    operation = effect.operation
    if not isinstance(operation, ops.AlterField):
        return False
    return isinstance(effect.model_after(operation.model_name).fields.get(operation.name), Encrypted)


def respelled_by(effect: Effect, alias: str) -> Iterator[Respelling]:
    """Yield the fields whose values may not open after one operation that is about to run."""
    if not may_respell(effect) or isinstance(effect.operation, ops.RemoveField):
        return  # The plan tells whether dependents of the removed column go too.

    def now(table: str, column: str) -> Column:
        return table, column

    for key, found in _present(effect.before, alias).items():
        later = _field_now(effect.after, now, key)
        if later is not None:
            compared = replace(found, causes=(effect,)).compared(later, now)
            if compared.is_possible:
                yield compared


def respelled_by_plan(
    before: ProjectState, migrations: Sequence[Sequence[Effect]], afterwards: Callable[[], ProjectState], alias: str
) -> list[Respelling]:
    """
    Return the same for a whole plan, up to where something else deals with the values.

    That is where they are decrypted, or where a foreign operation may do to the rows whatever they need for what
    follows. Earlier changes are compared at that point.
    """
    steps = [effect for migration in migrations for effect in migration]
    if not any(map(may_respell, steps)):
        return []
    names = Names()
    ended: list[Respelling] = []
    followed = _present(before, alias)
    declared: dict[Column | None, str] = {}
    for effect in steps:
        operation: Any = effect.operation
        if may_respell(effect):
            followed = {key: replace(found, causes=(*found.causes, effect)) for key, found in followed.items()}
            if _is_declaration(effect):
                declared[names.now(*_altered(effect))] = effect.migration
        elif (column := decrypted_column(effect)) is not None:
            key = names.now(*column)
            if key in followed:
                ended += _compared({key: followed.pop(key)}, effect.before, names.now).values()
        elif isinstance(operation, RekeyField):
            followed |= _compared(_rekeyed(followed, effect, names.now), effect.before, names.now, rewrites=True)
        elif is_foreign(effect):
            left = {key: found for key, found in followed.items() if effect.app_label in found.apps}
            late = {
                key: found
                for key, found in left.items()
                if declared.get(key) != effect.migration or not _has_columns(effect.before, names.now, found)
            }
            ended += _compared(late, effect.before, names.now).values()
            followed = {key: found for key, found in followed.items() if key not in left}
        names.follow(effect)
    ended += _compared(followed, afterwards(), names.now).values()
    return [each for each in ended if each.is_possible]


def _present(state: ProjectState, alias: str) -> dict[Column, Respelling]:
    """Return all encrypted fields, by table and column."""
    found: dict[Column, Respelling] = {}
    for model in state.apps.get_models():
        for field in encrypted_fields(model):
            known = state.models.get((model._meta.app_label, str(model._meta.model_name)))
            if known is None or not is_in(model._meta.app_label, known, alias):
                continue  # No migration creates it, or none in this database.
            present = Present.of(field)
            with suppress(FieldDoesNotExist):  # A declaration that names a missing column opens nothing.
                found[_place(field)] = Respelling(present, Comparison.of(field, present))
    return found


def _compared(
    followed: Mapping[Column, Respelling], state: ProjectState, now: _Now, *, rewrites: bool = False
) -> dict[Column, Respelling]:
    """Compare the fields as a later state has them, without those that are gone or plain."""
    found: dict[Column, Respelling] = {}
    for key, each in followed.items():
        if each.causes and (field := _field_now(state, now, key)) is not None:
            found[key] = each.compared(field, now, rewrites=rewrites)
    return found


def _altered(effect: Effect) -> Column:
    operation: Any = effect.operation
    model = effect.model_before(operation.model_name)
    return table_of(effect.app_label, model), column_of(operation.name, model.fields[operation.name])


def _has_columns(state: ProjectState, now: _Now, found: Respelling) -> bool:
    """Whether a state still has the columns by which values were first compared: others can be filled from these."""
    present = {
        now(table_of(app_label, model), column_of(name, field))
        for (app_label, _), model in state.models.items()
        for name, field in model.fields.items()
    }
    return {_place(binding.field) for binding in found.first.bindings} <= present


def _rekeyed(followed: Mapping[Column, Respelling], effect: Effect, now: _Now) -> dict[Column, Respelling]:
    """Return the fields that a ``RekeyField`` brings up to date: all that share the companion."""
    operation: Any = effect.operation
    model = effect.before.apps.get_model(effect.app_label, operation.model_name)
    fields = encrypted_fields(model)
    companions = {field.companion_name for field in fields if field.name == operation.name}
    keys = {now(*_place(field)) for field in fields if field.companion_name in companions}
    return {key: found for key, found in followed.items() if key in keys}


def _field_now(state: ProjectState, now: _Now, key: Column) -> Encrypted | None:
    """Return the encrypted field of a state whose column is this one in the database."""
    for model in state.apps.get_models():
        for field in encrypted_fields(model):
            if now(*_place(field)) == key:
                return field
    return None


def _place(column: Any) -> Column:
    return column.model._meta.db_table, column.column


def _names_of(field: Any) -> tuple[str, str]:
    return field.model._meta.model_name, field.name


def _chain(column: Any) -> Iterator[Any]:
    """Yield a column and, if it is a foreign key, the columns whose values it has."""
    yield column
    while isinstance(column, ForeignKey):
        column = column.target_field
        yield column
