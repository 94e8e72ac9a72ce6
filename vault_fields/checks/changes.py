"""The checks of fields that go on being encrypted, and whose declaration changes: do their values still open?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Warning as CheckWarning
from django.core.exceptions import FieldDoesNotExist
from django.db.migrations import operations as ops
from django.db.migrations.state import ProjectState
from django.db.models import Model

from vault_fields.checks.migrations import UNREADABLE
from vault_fields.checks.models import models_of
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.context import column_type, concrete_field
from vault_fields.fields.json import EncryptedJSONField
from vault_fields.operations import DecryptField, EncryptField, JSONToText, MoveToCompanion, TextToJSON
from vault_fields.renames import all_migrations
from vault_fields.schemachange.effects import Effect
from vault_fields.schemachange.losses import companion_name
from vault_fields.schemachange.names import Place, place_after
from vault_fields.schemachange.plan import is_foreign
from vault_fields.schemachange.spelling import columns_of_contexts, keeps_spelling

__all__ = ["check_changes"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One way in which a declaration can change, and what keeps the values readable."""

    id: str
    what: str
    remedy: str


KEYS = _Kind(
    "vault_fields.E029",
    "keeps its keys in another companion",
    'MoveToCompanion("{model}", ["{field}"], "{keys}") before it',
)
RENAMED = _Kind(
    "vault_fields.E029",
    "is renamed, and its companion is not",
    'migrations.RenameField("{model}", "{former}", "{keys}") beside it, in place of a new companion',
)
BOUND = _Kind(
    "vault_fields.E030",
    "is tied to other columns by bind_to",
    'DecryptField("{model}", "{field}") before it, with migrating=True in it, and EncryptField("{model}", "{field}") '
    "after it",
)
CONTEXT = _Kind(
    "vault_fields.E031",
    "has a key context that shares no item, or has one from another column, with the one before",
    "the item's former name in the mapping key_context={{former: renamed}}, if a column was only renamed; otherwise "
    'an AlterField that has the items of both before it, and RekeyField("{model}", "{field}") between the two',
)
SPELLING = _Kind(
    "vault_fields.W020",
    "has a context or bind_to from a column of another type, or a shorter one",
    'DecryptField("{model}", "{field}") before it, with migrating=True in an AlterField of the field, and '
    'EncryptField("{model}", "{field}") after it, if rows hold values with another text than the column has then',
)
JSON = _Kind(
    "vault_fields.W015",
    "holds JSON where it held text, or text where it held JSON",
    '{conversion}("{model}", "{field}") beside it',
)


def check_changes(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    labels = {config.label for config in (app_configs if app_configs is not None else apps.get_app_configs())}
    history = _History()
    try:
        for migration in all_migrations():
            for operation in migration.operations:
                history.follow(f"{migration.app_label}.{migration.name}", migration.app_label, operation)
    except UNREADABLE:
        return []  # W005 says so.
    found = [message for place, message in history.messages() if place[0] in labels]
    return found + [message for model in models_of(app_configs) for message in _not_migrated(model, history.state)]


class _History:
    """The models as the migrations make them, and which changes of fields nothing has made good yet."""

    def __init__(self) -> None:
        self.state = ProjectState()
        # By which migration, the field afterwards, and the companion before.
        self._open: dict[tuple[Place, _Kind], tuple[str, EncryptedField, str]] = {}
        # What was made good before the change: fields that are decrypted, converted, or moved to a companion.
        self._prepared: set[tuple[Place, _Kind, str]] = set()
        self._renames: dict[tuple[str, str], dict[str, str]] = {}
        # The last operation that may have done anything to the rows: its migration and its app.
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
                    hint=f"Write {_remedy(kind, place, field, former)}{source}.",
                    obj=f"{place[0]}.{place[1]}",
                    id=kind.id,
                ),
            )

    def follow(self, migration: str, app_label: str, operation: Any) -> None:
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
            self._follow_names(app_label, operation)
        elif isinstance(operation, (DecryptField, EncryptField)):
            self._decrypt((*key, operation.name), is_plain=isinstance(operation, DecryptField))
        elif isinstance(operation, MoveToCompanion):
            for name in operation.names:
                # Afterwards it would be too late: it looks for the keys where the declaration says.
                self._prepared.add(((*key, name), KEYS, operation.companion))
        elif isinstance(operation, (JSONToText, TextToJSON)):
            self._make_good((*key, operation.name), JSON)
        elif is_foreign(Effect(migration, app_label, operation, self.state, self.state, backwards=False)):
            # It may do to the rows of its app whatever they need.
            self._open = {each: found for each, found in self._open.items() if each[0][0] != app_label}
            self._foreign = (migration, app_label)

    def _compare(self, migration: str, place: Place, before: Any, after: Any) -> None:
        if (place, BOUND, "") in self._prepared or self._foreign == (migration, place[0]):
            return
        for kind in _changes(place[2], before, after, self._renames.get(place[:2], {})):
            made_good = (place, kind, companion_name(place[2], after) if kind is KEYS else "")
            if made_good in self._prepared:
                self._prepared.discard(made_good)
                self._open.pop((place, RENAMED), None)
            else:
                self._open[place, kind] = migration, after, companion_name(place[2], before)

    def _compare_columns(self, migration: str, app_label: str, former: Mapping[tuple[Place, str], Any]) -> None:
        for (place, name), column in columns_of_contexts(self.state):
            if (place, name) not in former or keeps_spelling(former[place, name], column):
                continue
            # An operation of somebody else's may have spelled them as they will be.
            if (place, BOUND, "") not in self._prepared and self._foreign not in {
                (migration, place[0]),
                (migration, app_label),
            }:
                field: Any = self.state.models[place[:2]].fields[place[2]]
                self._open[place, SPELLING] = migration, field, ""

    def _make_good(self, place: Place, kind: _Kind) -> None:
        if self._open.pop((place, kind), None) is None:
            self._prepared.add((place, kind, ""))

    def _rename(self, migration: str, key: tuple[str, str], before: Mapping[str, Any], operation: Any) -> None:
        old, new = operation.old_name, operation.new_name
        self._renames.setdefault(key, {})[old] = new
        for name, field in before.items():
            if not isinstance(field, EncryptedField):
                continue
            place = (*key, name)
            # A companion that is renamed has its keys still; the declaration follows, or came first.
            for kind in (KEYS, RENAMED):
                _, after, former = self._open.get((place, kind), ("", field, ""))
                if (former, companion_name(name, after)) == (old, new):
                    del self._open[place, kind]
                    break
            else:
                if companion_name(name, field) == old:
                    self._prepared.add((place, KEYS, new))
        self._follow_names(key[0], operation)
        field = before.get(old)
        if isinstance(field, EncryptedField) and (former := companion_name(old, field)) in before:
            place, keys = (*key, new), companion_name(new, field)
            # Its companion is named after it, if it has no name of its own: it is to be renamed, if it was not.
            if keys != former and (place, KEYS, keys) not in self._prepared:
                self._open[place, RENAMED] = migration, field, former

    def _follow_names(self, app_label: str, operation: Any) -> None:
        # What is not made good stays so if the field is gone later: `migrate` refuses the operation that comes before.
        self._open = {
            (place_after(operation, app_label, at) or at, kind): found for (at, kind), found in self._open.items()
        }
        followed = [(place_after(operation, app_label, at), kind, keys) for at, kind, keys in self._prepared]
        self._prepared = {(at, kind, keys) for at, kind, keys in followed if at is not None}

    def _decrypt(self, place: Place, *, is_plain: bool) -> None:
        # Plain values bear any change.
        if is_plain:
            self._prepared.add((place, BOUND, ""))
        else:
            self._prepared.discard((place, BOUND, ""))


def _fields(state: ProjectState, key: tuple[str, str]) -> Mapping[str, Any]:
    return dict(state.models[key].fields) if key in state.models else {}


def _changes(name: str, before: Any, after: Any, renames: Mapping[str, str]) -> Iterator[_Kind]:
    """In which ways a declaration has changed so that values do not open by themselves."""
    if not isinstance(before, EncryptedField) or not isinstance(after, EncryptedField):
        return
    if companion_name(name, before) != companion_name(name, after):
        yield KEYS
    if not _is_tied_alike(before.bind_to, after.bind_to, renames):
        yield BOUND
    if isinstance(before, EncryptedJSONField) is not isinstance(after, EncryptedJSONField):
        yield JSON
    if not _is_compared(before.source.roots, after.source.roots, renames):
        yield CONTEXT


def _is_compared(former: Mapping[str, str], present: Mapping[str, str], renames: Mapping[str, str]) -> bool:
    """Whether a row is told by items that the contexts have in common, from the columns that they came from."""
    if not former and not present:
        return True
    common = former.keys() & present.keys()
    return bool(common) and all(_column(present[name]) in _names(former[name], renames) for name in common)


def _is_tied_alike(former: Sequence[str], present: Sequence[str], renames: Mapping[str, str]) -> bool:
    """Whether values are tied to the same columns, whatever these are called."""
    return len(former) == len(present) and all(
        _column(later) in _names(name, renames) for name, later in zip(former, present, strict=True)
    )


def _column(root: str) -> str:
    # A relation and its column are one.
    return root.removesuffix("_id")


def _names(root: str, renames: Mapping[str, str]) -> list[str]:
    """What a column is called, and was called later."""
    columns = {_column(old): _column(new) for old, new in renames.items()}
    names = [_column(root)]
    while (later := columns.get(names[-1])) is not None and later not in names:
        names.append(later)
    return names


def _remedy(kind: _Kind, place: Place, after: EncryptedField, former: str = "") -> str:
    conversion = "TextToJSON" if isinstance(after, EncryptedJSONField) else "JSONToText"
    keys = companion_name(place[2], after)
    return kind.remedy.format(model=place[1], field=place[2], keys=keys, former=former, conversion=conversion)


def _not_migrated(model: type[Model], state: ProjectState) -> Iterator[CheckMessage]:
    """The fields of a model that the migrations have with another declaration. A warning, since they are to be made."""
    place = (model._meta.app_label, model.__name__.lower())
    known = _fields(state, place)
    columns = {key: column for key, column in columns_of_contexts(state) if key[0][:2] == place}
    for field in model._meta.local_fields:
        kinds = list(_changes(field.name, known.get(field.name), field, {}))
        if any(
            not keeps_spelling(column, later)
            for ((*_, owner), name), column in columns.items()
            if owner == field.name and (later := _present_column(model, name)) is not None
        ):
            kinds.append(SPELLING)
        for kind in kinds:
            remedy = _remedy(kind, (*place, field.name), field)  # type: ignore[arg-type]
            yield CheckWarning(
                f"It {kind.what}, and the migrations do not know of it yet: values that are there "
                f"{'may not open' if kind is SPELLING else 'cannot be read'} afterwards.",
                hint="Type `python manage.py makemigrations`, and beside the AlterField that it writes, write "
                f"{remedy}, of vault_fields.operations.",
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
    ):  # E001 says so; or Django, of a relation that leads nowhere.
        return None
