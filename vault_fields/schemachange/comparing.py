"""
The comparison of a value with its row by a state of the models, and the count of rows that a later state would refuse.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import connections
from django.db.models import F, Field, QuerySet, TextField
from django.db.models.constants import LOOKUP_SEP
from django.db.models.functions import Cast

from vault_fields.exceptions import EnvelopeError
from vault_fields.fields.barerows import Bare
from vault_fields.fields.bindings import Binding, column_type, concrete_field
from vault_fields.fields.damaged import as_text
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.opening import differing_items
from vault_fields.schemachange.names import Column
from vault_fields.schemachange.spelling import keeps_spelling, taken_length
from vault_fields.stored import companion as companion_format, envelope as envelope_format

__all__ = ["Comparison", "Present", "differing_rows"]

# A text that no companion has. It stands for a value that the column does not take, or takes only in part.
_ANOTHER = "\0"


@dataclass(frozen=True, slots=True)
class Present:
    """An encrypted field as the database has it now, with the columns of its row."""

    field: Encrypted
    # The attribute names of the columns of its row, by table and column.
    columns: Mapping[Column, str]

    @classmethod
    def of(cls, field: Encrypted) -> "Present":
        return cls(field, {_place(column): column.attname for column in field.model._meta.concrete_fields})


@dataclass(frozen=True, slots=True)
class _Part:
    """A column of the row that a value depends on, as a state has it."""

    name: str
    # None if the state has no such column.
    binding: Binding | None = None
    # The attribute name that the column has now, or None for a column that does not exist yet.
    present: str | None = None
    # If a relation path starts from the column: the rest of that path, and the column that it leads to.
    rest: str = ""
    end: Any = None

    def text(self, row: Mapping[str, str | None], *, is_cut: bool) -> str | None:
        """
        Return the text by which the value will be compared; ``row`` has the texts that the database makes of the
        columns now.
        """
        text = None if self.present is None else row[self.present]
        if text is None or self.binding is None:
            return None
        room = taken_length(column_type(self.binding.field))
        if is_cut and room is not None and len(text) > room:
            return _ANOTHER
        try:
            return self.binding.selected_text(text)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValidationError, ValueError):
            return _ANOTHER

    def is_same(self, former: "_Part") -> bool:
        if self.binding is None or former.binding is None or self.present != former.present:
            return False
        return keeps_spelling(column_type(former.binding.field), column_type(self.binding.field))

    def leads_where(self, former: "_Part") -> bool:
        """Whether a path leads to the same end from another text, which opens a value too."""
        return (
            self.present is not None
            and self.end is not None
            and former.end is not None
            and self.rest == former.rest
            and keeps_spelling(former.end, self.end)
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """The columns by which a declaration compares a row, and those to which it binds its values."""

    items: Mapping[str, _Part]
    bound: Sequence[_Part]
    # Whether the values are brought up to date at this point.
    rewrites: bool = False

    @classmethod
    def of(cls, field: Encrypted, present: Present) -> "Comparison":
        """Return the present comparison. Raises ``FieldDoesNotExist`` where the state has no such column."""
        found = cls._made(field, lambda column: present.columns.get(_place(column)), {}, {}, rewrites=False)
        for part in (*found.items.values(), *found.bound):
            if part.binding is None:
                raise FieldDoesNotExist(part.name)
        return found

    @classmethod
    def later(
        cls,
        field: Encrypted,
        present: Present,
        now: Callable[[str, str], Column | None],
        first: "Comparison",
        *,
        rewrites: bool = False,
    ) -> "Comparison":
        """Return the comparison of a later state; ``now`` maps its columns to those of the database."""

        def name_of(column: Any) -> str | None:
            place = now(*_place(column))
            return None if place is None else present.columns.get(place)

        # A declaration may follow the rename of its column in the next migration.
        renamed = {name_of(column): column for column in field.model._meta.concrete_fields}
        former = {part.name: part for part in first.bound} | dict(first.items)
        return cls._made(field, name_of, former, renamed, rewrites=rewrites)

    @classmethod
    def _made(
        cls,
        field: Encrypted,
        name_of: Callable[[Any], str | None],
        former: Mapping[str, _Part],
        renamed: Mapping[str | None, Any],
        *,
        rewrites: bool,
    ) -> "Comparison":
        def part(name: str, root: str, path: str = "") -> _Part:
            column: Any
            try:
                column = concrete_field(field.model, root)
            except FieldDoesNotExist:
                known = former.get(name)
                column = None if known is None or known.present is None else renamed.get(known.present)
                if column is None:
                    return _Part(root)
            rest = path.partition(LOOKUP_SEP)[2]
            return _Part(root, Binding(root, column), name_of(column), rest, _end(column, rest))

        source = field.source
        items = {name: part(name, root, source.paths.get(name, "")) for name, root in source.roots.items()}
        return cls(items, [part(root, root) for root in field.bind_to], rewrites)

    def is_same(self, former: "Comparison") -> bool:
        """Whether every value that opens by one of the two opens by the other, whatever the rows hold."""
        if self.items.keys() != former.items.keys() or len(self.bound) != len(former.bound):
            return False
        pairs = [(part, former.items[name]) for name, part in self.items.items()]
        return all(part.is_same(other) for part, other in (*pairs, *zip(self.bound, former.bound, strict=True)))

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(part.name for part in (*self.items.values(), *self.bound)))

    @property
    def bindings(self) -> list[Binding]:
        parts = (*self.items.values(), *self.bound)
        return [part.binding for part in parts if part.binding is not None]

    def texts(self, row: Mapping[str, str | None], *, is_cut: bool) -> dict[str, str | None]:
        return {name: part.text(row, is_cut=is_cut) for name, part in self.items.items()}

    def bound_texts(self, row: Mapping[str, str | None], *, is_cut: bool) -> list[str | None]:
        return [part.text(row, is_cut=is_cut) for part in self.bound]

    def differing(self, stored: Mapping[str, str | None], texts: Mapping[str, str | None], first: "Comparison") -> bool:
        """Whether values with this in their companion do not open."""
        return any(
            name not in self.items or name not in first.items or not self.items[name].leads_where(first.items[name])
            for name in differing_items(stored, texts)
        )


def differing_rows(present: Present, using: str, first: Comparison, later: Sequence[Comparison]) -> int:
    """Count the rows whose value opens by the first comparison, and not by one of those that follow."""
    # SQLite keeps what is longer; the others refuse it, or cut it.
    is_cut = connections[using].vendor != "sqlite"
    rows = 0
    for stored, row in _rows(present, using, [first, *later]):
        # A value that does not open now is not lost by the change.
        if not first.differing(stored, first.texts(row, is_cut=False), first):
            bound = first.bound_texts(row, is_cut=False)
            rows += not all(_opens(stored, row, bound, [first, *later], is_cut=is_cut))
    return rows


def _opens(
    stored: Mapping[str, str | None],
    row: Mapping[str, str | None],
    bound: list[str | None],
    comparisons: Sequence[Comparison],
    *,
    is_cut: bool,
) -> Iterator[bool]:
    """Whether a value opens by each of the comparisons but the first, one after the other."""
    first, *later = comparisons
    for each in later:
        texts = each.texts(row, is_cut=is_cut)
        yield not each.differing(stored, texts, first) and each.bound_texts(row, is_cut=is_cut) == bound
        stored = texts if each.rewrites else stored


def _rows(
    present: Present, using: str, comparisons: Sequence[Comparison]
) -> Iterator[tuple[Mapping[str, str | None], Mapping[str, str | None]]]:
    """Yield, for each row that holds a value, the columns that its companion has and those that the row has."""
    field = present.field
    parts = [part for each in comparisons for part in (*each.items.values(), *each.bound)]
    names = list(dict.fromkeys(part.present for part in parts if part.present is not None))
    queryset: Any = QuerySet(field.model, using=using)
    texts = {f"vault_fields_{number}": Cast(F(name), TextField()) for number, name in enumerate(names)}
    found = queryset.filter(**{f"{field.companion_name}__isnull": False}).values_list(
        Bare(field.attname), field.companion_name, *texts.values()
    )
    for value, keys, *columns in found.iterator(chunk_size=1000):
        text = as_text(value)
        if text is None or not envelope_format.is_envelope(field.stored_text(text)):
            continue
        try:
            stored = companion_format.decode(as_text(keys) or "").row
        except EnvelopeError:
            continue  # The value does not open now.
        yield stored, dict(zip(names, columns, strict=True))


def _place(column: "Field[Any, Any]") -> Column:
    return column.model._meta.db_table, str(column.column)


def _end(column: Any, rest: str) -> Any:
    """Return the column that the rest of a path leads to, or None."""
    if not rest:
        return None
    *relations, last = rest.split(LOOKUP_SEP)
    model = column.related_model
    try:
        for name in relations:
            model = model._meta.get_field(name).related_model
        return column_type(concrete_field(model, last))
    except (AttributeError, FieldDoesNotExist):
        return None
