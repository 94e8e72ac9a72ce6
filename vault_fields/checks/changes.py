"""The checks of fields that stay encrypted while their declaration changes: do their values still open?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Warning as CheckWarning
from django.core.exceptions import FieldDoesNotExist
from django.db.migrations import operations as ops
from django.db.migrations.state import ProjectState
from django.db.models import Model

from vault_fields.checks.declarations import BOUND, JSON, KEYS, RENAMED, SPELLING, Kind, changes, remedy
from vault_fields.checks.migrations import UNREADABLE
from vault_fields.checks.models import models_of
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.bindings import column_type, concrete_field
from vault_fields.operations import DecryptField, EncryptField, JSONToText, MoveToCompanion, TextToJSON
from vault_fields.rows.labels import all_migrations
from vault_fields.schemachange.effects import Effect
from vault_fields.schemachange.losses import companion_name
from vault_fields.schemachange.names import Place, place_after
from vault_fields.schemachange.plan import is_foreign
from vault_fields.schemachange.spelling import columns_of_contexts, keeps_spelling

__all__ = ["check_changes"]


def check_changes(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    labels = {config.label for config in (app_configs if app_configs is not None else apps.get_app_configs())}
    history = _History()
    try:
        for migration in all_migrations():
            for operation in migration.operations:
                history.follow(f"{migration.app_label}.{migration.name}", migration.app_label, operation)
    except UNREADABLE:
        return []  # W005 reports it.
    found = [message for place, message in history.messages() if place[0] in labels]
    return found + [message for model in models_of(app_configs) for message in _not_migrated(model, history.state)]


class _History:
    """The models as the migrations build them, and the changes of fields that nothing has made good yet."""

    def __init__(self) -> None:
        self.state = ProjectState()
        # The migration that made the change, the field after it, and the companion before it.
        self._open: dict[tuple[Place, Kind], tuple[str, EncryptedField, str]] = {}
        # Fields that were made good before the change: they were decrypted or converted.
        self._prepared: set[tuple[Place, Kind]] = set()
        self._renames: dict[tuple[str, str], dict[str, str]] = {}
        # The column with the keys of a field's values, where the first name of its companion does not tell.
        self._keys: dict[Place, str] = {}
        # The last operation that may have changed the rows: its migration and its app.
        self._foreign = ("", "")

    def messages(self) -> Iterator[tuple[Place, CheckMessage]]:
        for (place, kind), (migration, field, former) in self._open.items():
            message = Error if kind.id.startswith("vault_fields.E") else CheckWarning
            source = "" if kind is RENAMED else ", of vault_fields.operations"
            yield (
                place,
                message(
                    f"By the migration {migration} the field {'.'.join(place)} {kind.what}: values that were encrypted "
                    f"before {'may not open' if kind is SPELLING else 'cannot be read'} afterwards.",
                    hint=f"Write {remedy(kind, place, field, former)}{source}.",
                    obj=f"{place[0]}.{place[1]}",
                    id=kind.id,
                ),
            )

    def follow(self, migration: str, app_label: str, operation: Any) -> None:
        if isinstance(operation, ops.SeparateDatabaseAndState):
            for inner in operation.database_operations:
                self._follow_rows(migration, app_label, inner)
            for inner in operation.state_operations:
                self.follow(migration, app_label, inner)
            return
        key = (app_label, str(getattr(operation, "model_name", "")).lower())
        before = _fields(self.state, key)
        columns = dict(columns_of_contexts(self.state)) if isinstance(operation, ops.AlterField) else {}
        operation.state_forwards(app_label, self.state)
        if isinstance(operation, ops.AlterField):
            self._compare(migration, (*key, operation.name), before.get(operation.name), operation.field)
            self._compare_columns(migration, app_label, columns)
        elif isinstance(operation, ops.RenameField):
            self._rename(migration, key, before, operation)
        elif isinstance(operation, (ops.DeleteModel, ops.RemoveField, ops.RenameModel)):
            if isinstance(operation, ops.RemoveField):
                # Another column may get this name.
                gone = {at: "" for at, keys in self._keys.items() if (at[:2], keys) == (key, operation.name)}
                self._keys |= gone
            self._follow_names(app_label, operation)
        else:
            self._follow_rows(migration, app_label, operation)

    def _follow_rows(self, migration: str, app_label: str, operation: Any) -> None:
        """Record the effect of an operation on the rows. No effect rules out the others."""
        key = (app_label, str(getattr(operation, "model_name", "")).lower())
        if isinstance(operation, (DecryptField, EncryptField)):
            self._decrypt((*key, operation.name), is_plain=isinstance(operation, DecryptField))
        elif isinstance(operation, MoveToCompanion):
            for name in operation.names:
                # After the AlterField it is too late: the operation looks for the keys where the declaration says.
                if ((*key, name), KEYS) not in self._open:
                    self._keys[*key, name] = operation.companion
        elif isinstance(operation, (JSONToText, TextToJSON)):
            self._make_good((*key, operation.name), JSON)
        elif is_foreign(Effect(migration, app_label, operation, self.state, self.state, backwards=False)):
            self._leave_to(migration, app_label)

    def _leave_to(self, migration: str, app_label: str) -> None:
        """
        Accept changes that a foreign operation comes before, or beside: it may do to the rows of its app whatever they
        need.

        In a later migration it comes too late: `migrate` refuses the change. The same holds within one migration for a
        text that the column no longer has. JSON can be converted at any time.
        """
        left = {
            (place, kind)
            for (place, kind), (where, *_) in self._open.items()
            if place[0] == app_label and (kind is JSON or (where == migration and kind is not SPELLING))
        }
        for place, kind in left:
            _, after, _ = self._open.pop((place, kind))
            if kind in (KEYS, RENAMED):
                self._keys[place] = companion_name(place[2], after)
        self._foreign = (migration, app_label)

    def _compare(self, migration: str, place: Place, before: Any, after: Any) -> None:
        if isinstance(after, EncryptedField) and (
            not isinstance(before, EncryptedField)
            or (place, BOUND) in self._prepared
            or self._foreign == (migration, place[0])
        ):
            self._keys.pop(place, None)
            return
        for kind in changes(place[2], before, after, self._renames.get(place[:2], {})):
            if kind is KEYS and self._has_keys(place, after):
                self._open.pop((place, RENAMED), None)
            elif (place, kind) in self._prepared:
                self._prepared.discard((place, kind))
            else:
                self._keys.setdefault(place, companion_name(place[2], before))
                self._open[place, kind] = migration, after, companion_name(place[2], before)

    def _has_keys(self, place: Place, field: EncryptedField) -> bool:
        """Whether the companion of a declaration is the column that has the keys."""
        return self._keys.get(place) == companion_name(place[2], field)

    def _compare_columns(self, migration: str, app_label: str, former: Mapping[tuple[Place, str], Any]) -> None:
        for (place, name), column in columns_of_contexts(self.state):
            if (place, name) not in former or keeps_spelling(former[place, name], column):
                continue
            # A foreign operation may have written them as they will be compared.
            if (place, BOUND) not in self._prepared and self._foreign not in {
                (migration, place[0]),
                (migration, app_label),
            }:
                field: Any = self.state.models[place[:2]].fields[place[2]]
                self._open[place, SPELLING] = migration, field, ""

    def _make_good(self, place: Place, kind: Kind) -> None:
        if self._open.pop((place, kind), None) is None:
            self._prepared.add((place, kind))

    def _rename(self, migration: str, key: tuple[str, str], before: Mapping[str, Any], operation: Any) -> None:
        old, new = operation.old_name, operation.new_name
        self._renames.setdefault(key, {})[old] = new
        for name, field in before.items():
            if not isinstance(field, EncryptedField):
                continue
            place = (*key, name)
            # A renamed companion still has its keys. The declaration follows, or came first.
            if self._keys.setdefault(place, companion_name(name, field)) == old:
                self._keys[place] = new
            for kind in (KEYS, RENAMED):
                _, after, _ = self._open.get((place, kind), ("", field, ""))
                if self._has_keys(place, after):
                    self._open.pop((place, kind), None)
        self._follow_names(key[0], operation)
        field = before.get(old)
        if isinstance(field, EncryptedField) and (former := companion_name(old, field)) in before:
            place, keys = (*key, new), companion_name(new, field)
            # A companion without a name of its own is named after the field. It has to be renamed, if it was not yet.
            if keys != former and not self._has_keys(place, field):
                self._open[place, RENAMED] = migration, field, former

    def _follow_names(self, app_label: str, operation: Any) -> None:
        # A change that is not made good stays so if the field is removed later: `migrate` refuses the earlier
        # operation.
        self._open = {
            (place_after(operation, app_label, at) or at, kind): found for (at, kind), found in self._open.items()
        }
        followed = [(place_after(operation, app_label, at), kind) for at, kind in self._prepared]
        self._prepared = {(at, kind) for at, kind in followed if at is not None}
        moved = [(place_after(operation, app_label, at), keys) for at, keys in self._keys.items()]
        self._keys = {at: keys for at, keys in moved if at is not None}

    def _decrypt(self, place: Place, *, is_plain: bool) -> None:
        # Plain values survive any change.
        if is_plain:
            self._prepared.add((place, BOUND))
        else:
            self._prepared.discard((place, BOUND))


def _fields(state: ProjectState, key: tuple[str, str]) -> Mapping[str, Any]:
    return dict(state.models[key].fields) if key in state.models else {}


def _not_migrated(model: type[Model], state: ProjectState) -> Iterator[CheckMessage]:
    """Yield a warning for each field whose declaration differs from the migrations. They still have to be made."""
    place = (model._meta.app_label, model.__name__.lower())
    known = _fields(state, place)
    columns = {key: column for key, column in columns_of_contexts(state) if key[0][:2] == place}
    for field in model._meta.local_fields:
        kinds = list(changes(field.name, known.get(field.name), field, {}))
        if any(
            not keeps_spelling(column, later)
            for ((*_, owner), name), column in columns.items()
            if owner == field.name and (later := _present_column(model, name)) is not None
        ):
            kinds.append(SPELLING)
        for kind in kinds:
            advice = remedy(kind, (*place, field.name), field)  # type: ignore[arg-type]
            yield CheckWarning(
                f"It {kind.what}, and the migrations do not know of it yet: values that are there "
                f"{'may not open' if kind is SPELLING else 'cannot be read'} afterwards.",
                hint="Type `python manage.py makemigrations`, and beside the AlterField that it writes, write "
                f"{advice}, of vault_fields.operations.",
                obj=field,
                id="vault_fields.W016",
            )


def _present_column(model: type[Model], name: str) -> Any:
    try:
        return column_type(concrete_field(model, name))
    except (
        AttributeError,
        FieldDoesNotExist,
        ValueError,
    ):  # E001 reports it, or Django does for a relation that leads nowhere.
        return None
