"""Sources of a row's key context: attribute names, relation paths, constants, or a function of the row."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import UUID

from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist
from django.db.models import AutoField, Field, ForeignKey, Model, Value
from django.db.models.constants import LOOKUP_SEP

from vault_fields.exceptions import KeyContextError
from vault_fields.fields.bindings import Binding, attribute_text, concrete_field
from vault_fields.fields.fetchmodes import fetched, unblocked
from vault_fields.keys import KeyContext

__all__ = ["ContextFunction", "ContextSource", "KeyContextDeclaration", "context_from", "follow", "stands_elsewhere"]

ContextFunction = Callable[[Any], Mapping[str, str]]
# Values from outside of the row, such as the schema of the connection: None where there is none.
Outside = Callable[[], str | int | UUID | None]
KeyContextDeclaration = list[str] | tuple[str, ...] | Mapping[str, "str | Value | Outside"] | ContextFunction
F = TypeVar("F", bound=ContextFunction)


def context_from(*attributes: str) -> Callable[[F], F]:
    """
    Declare which of the row's own columns a key-context function reads.

    A read compares those columns to tell whether a value is still in the row for which it was encrypted. The function
    returns a mapping of names to strings, and must be importable by name.
    """

    def mark(function: F) -> F:
        function.context_attributes = attributes  # type: ignore[attr-defined]
        return function

    return mark


class ContextSource:
    """A ``key_context`` declaration in its parts. Immutable; knows no model until it is given one."""

    def __init__(self, declaration: KeyContextDeclaration | Any) -> None:
        self.function: ContextFunction | None = None
        self.paths: dict[str, str] = {}
        self.constants: dict[str, str] = {}
        self.outside: dict[str, Outside] = {}
        if isinstance(declaration, Mapping):
            for name, origin in declaration.items():
                if not isinstance(name, str):
                    raise TypeError(f"key_context has {name!r} for a name; names are strings.")
                if isinstance(origin, Value):
                    self.constants[name] = _constant(name, origin.value)
                elif isinstance(origin, str):
                    self.paths[name] = origin
                elif callable(origin):
                    self.outside[name] = origin
                else:
                    raise TypeError(
                        f"key_context[{name!r}] is an attribute path, Value(…) or a function, not {origin!r}."
                    )
        elif callable(declaration):
            self.function = declaration
        elif isinstance(declaration, (list, tuple)) and all(isinstance(name, str) for name in declaration):
            self.paths = {name: name for name in declaration}
        else:
            raise TypeError(
                "key_context is a list of attribute names, a mapping of names to attribute paths, or a function; "
                f"not {declaration!r}."
            )

    def __len__(self) -> int:
        return len(self.paths) + len(self.constants) + len(self.outside)

    def is_same(self, other: "ContextSource") -> bool:
        """Whether two declarations make the same contexts of the same rows."""
        return self.parts == other.parts

    @property
    def parts(self) -> tuple[object, ...]:
        return self.function, self.paths, self.constants, self.outside

    @cached_property
    def roots(self) -> dict[str, str]:
        """The row's own attributes that the context starts from, by the name that they have in the companion."""
        if self.function is not None:
            return {name: name for name in getattr(self.function, "context_attributes", ())}
        return {name: path.partition(LOOKUP_SEP)[0] for name, path in self.paths.items()}

    @cached_property
    def relations(self) -> set[str]:
        """The relation paths to load before many rows are asked for their context."""
        return {head for path in self.paths.values() if (head := path.rpartition(LOOKUP_SEP)[0])}

    def now_outside(self) -> dict[str, str | None]:
        """Return, by item, the results of the functions that do not read the row."""
        found = {name: function() for name, function in self.outside.items()}
        return {name: None if value is None else attribute_text(value) for name, value in found.items()}

    def bindings(self, model: type[Model]) -> tuple[Binding, ...]:
        """
        Return the columns behind ``roots``. Raises ``FieldDoesNotExist`` for a name that is no column of ``model``.
        """
        return tuple(Binding(name, concrete_field(model, root)) for name, root in sorted(self.roots.items()))

    def derive(self, instance: Model) -> KeyContext:
        """
        Return the context of this row. Raises ``KeyContextError``.

        A relation path costs the queries that following it costs; none where the related rows are loaded.
        """
        if self.function is not None:
            with unblocked(instance):
                return KeyContext(self.function(instance))
        return KeyContext(self.items_of(instance))

    def own_columns(self, bindings: Iterable[Binding]) -> dict[str, Binding]:
        """The columns of the row that are items of the context themselves, by the names of the items."""
        return {
            binding.name: binding
            for binding in bindings
            if (path := self.paths.get(binding.name)) and not stands_elsewhere(path, binding.field)
        }

    def items_of(self, instance: Model, own_columns: Mapping[str, Binding] = MappingProxyType({})) -> dict[str, str]:
        """Return the items of this row's context, where no function makes it. Raises and costs what ``derive`` does."""
        items = dict(self.constants)
        for name, text in self.now_outside().items():
            if not text:
                raise KeyContextError(
                    f"the key context needs {name!r}, and {_name(self.outside[name])}() gives nothing: there is no "
                    "tenant here. Write and move rows where there is one."
                )
            items[name] = text
        for name, path in self.paths.items():
            try:
                binding = own_columns.get(name)
                text = binding.text(fetched(instance, binding.attname)) if binding else None
                # A missing column is reported where the path is followed.
                items[name] = text or follow(instance, path)
            except KeyContextError as error:
                raise KeyContextError(f"the key context needs {path!r}: {error}") from None
        return items


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _constant(name: str, value: object) -> str:
    try:
        return attribute_text(value)
    except KeyContextError as error:
        raise TypeError(f"key_context[{name!r}] has {error}") from None


def stands_elsewhere(path: str, field: "Field[Any, Any]") -> bool:
    """Whether the end of a path that starts from this column is in another row."""
    if LOOKUP_SEP in path:
        return True
    # A related object stands for its primary key, which the column need not hold.
    return path == field.name and isinstance(field, ForeignKey) and not field.target_field.primary_key


def follow(instance: Model, path: str) -> str:
    """Return the text at the end of an attribute path, converted as the column there converts it."""
    current: Model = instance
    *relations, last = path.split(LOOKUP_SEP)
    for relation in relations:
        current = _related(current, relation)
    try:
        field = concrete_field(type(current), last)
    except FieldDoesNotExist as error:
        raise KeyContextError(str(error)) from None
    value: object
    if stands_elsewhere(last, field):
        related = _related(current, last)
        value, field = related.pk, related._meta.pk
    else:
        value = fetched(current, field.attname)
    text = Binding(last, field).text(value)
    if text:
        return text
    if value is None and isinstance(field, AutoField):
        raise KeyContextError(
            "the database gives it to a row only when it is inserted, and the value is encrypted before that. Name a "
            "column that has its value in Python, such as uuid = models.UUIDField(default=uuid.uuid4, unique=True, "
            "editable=False); or save the row without the value first, and with it then."
        )
    raise KeyContextError(f"it is {'None' if value is None else 'empty'}; set it before saving.")


def _related(instance: Model, name: str) -> Model:
    try:
        related = fetched(instance, name)
    except (AttributeError, ObjectDoesNotExist):
        related = None
    if not isinstance(related, Model):
        raise KeyContextError(f"{name!r} is not set; set it before saving.")
    return related
