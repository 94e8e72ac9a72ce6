"""The way from database rows to sealed values. It reads ahead, so that a whole page of keys is asked for at once."""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from time import monotonic
from typing import Any

from django.core.exceptions import FieldError, ValidationError
from django.db.models.expressions import Col, Ref, Subquery
from django.db.models.sql import Query

from vault_fields.exceptions import DecryptionError, EnvelopeError, VaultError
from vault_fields.fields.batch import Batch
from vault_fields.fields.damaged import DAMAGED, as_text
from vault_fields.fields.groups import group_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.opening import open_value, reworded
from vault_fields.fields.pathends import PathEnds
from vault_fields.fields.sealed import Sealed
from vault_fields.fields.selectlist import all_found, place_of, selected_columns
from vault_fields.fields.warm import warm_reader
from vault_fields.runtime.frames import forget

__all__ = ["Loader", "look_ahead"]

# The most rows whose keys are asked for together. Django has read them from the cursor already.
CHUNK = 500

# The expressions that give a column's text as it is, and not something computed from it.
_WHOLE = (Col, Ref, Subquery, Query)

_TAG, _SEPARATOR = "\x1e", "\x1f"
_EAGER = _TAG + "v"
_TOO_LONG = _TAG + "!"
_DAMAGED = "?"
# The beginning of a text whose meaning is clear without a second look.
_ENVELOPE = "$vf$"


class _Companions:
    """The companions of values that were selected together with them."""

    def __init__(self, tagged: Sequence[str]) -> None:
        self._tagged = tagged

    def __iter__(self) -> Iterator[str]:
        return (_split(value)[1] for value in self._tagged)


class Loader:
    """
    A converter of one encrypted column of one query; Django makes a new one each time a query is run.

    Every value from the database is wrapped unopened, except where the query asked for the value itself.
    """

    def __init__(self, field: Encrypted) -> None:
        self.field = field
        group = group_of(field)
        # Noted now: a caller that opens a value later may do so in another tenant's place.
        self.outside = group.source.now_outside() if group.source.outside else None
        self.batch = Batch()
        self.since = monotonic()
        # Tells which row is being converted, for errors. The row of a subquery is unknown.
        self.place: Callable[[], str] | None = None
        self._bindings = group.bound_columns(field)
        self.plaintext = warm_reader(field).plaintext
        # The values of the row's own columns by the text that the query gives for them; few rows differ.
        self.known_values: dict[str, tuple[Any, ...]] = {}

    def __call__(self, value: Any, expression: Any, connection: Any) -> Any:
        if value is None or isinstance(value, Sealed):
            return value
        if not isinstance(expression, _WHOLE):
            del value
            raise FieldError(
                f"{self.field.label} is encrypted: {type(expression).__name__}() was computed from its ciphertext."
            )
        # A subquery, and a reference to an annotation, always are.
        if not getattr(expression, "is_tagged", True):
            text = self.field.stored_text(as_text(value) or "")
            return Sealed(text, batch=self.batch, loaded=self.since, outside=self.outside)
        if not isinstance(value, str) or not value.startswith(_TAG):
            del value
            raise FieldError(f"{self.field.label} is encrypted: the query gives its ciphertext without what opens it.")
        if value == _TOO_LONG:
            raise EnvelopeError(
                f"{self.field.label}: the value is too long to be selected like this under the server's "
                "max_allowed_packet. Load whole rows, without values(), only() or defer()."
            )
        is_eager = value.startswith(_EAGER)
        if value[2:] == _DAMAGED:
            sealed = Sealed(DAMAGED, loaded=self.since)
            return self._opened(sealed) if is_eager else sealed
        columns, keys, text = _split(value)
        text = self.field.stored_text(text)
        values = self.values(columns)
        sealed = Sealed(text, keys, values, self.batch, loaded=self.since, outside=self.outside)
        return self._opened(sealed) if is_eager else sealed

    def _opened(self, sealed: Sealed) -> Any:
        try:
            return open_value(self.field, sealed, None)
        except (DecryptionError, VaultError) as error:
            label, place = self.field.label, f" ({self.place()})" if self.place else ""
            raise reworded(error, error.args[0].replace(label, f"{label}{place}", 1)) from None

    def values(self, columns: str) -> tuple[Any, ...]:
        """The row's own columns, as companions have them."""
        values = self.known_values.get(columns)
        if values is None:
            if len(self.known_values) >= CHUNK:
                self.known_values.clear()
            values = self.known_values[columns] = tuple(map(_selected_text, self._bindings, json.loads(columns)))
        return values


def look_ahead(compiler: Any) -> None:
    """Let the encrypted columns of a query see its rows in chunks before they convert them one by one."""
    if "apply_converters" not in vars(compiler):
        compiler.apply_converters = functools.partial(_convert_in_chunks, compiler)


class _Column:
    """An encrypted column of a query, and the positions in its rows of the columns that it depends on."""

    def __init__(
        self,
        loader: Loader,
        expression: Any,
        connection: Any,
        is_alone: bool,
        position: int,
        companion: int | None,
        bound: tuple[int, ...] | None,
        pk: tuple[int, ...] | None,
    ) -> None:
        self.loader = loader
        # Selected together with the columns that open it: a subquery, and a reference to an annotation, always are.
        self.is_tagged: bool = getattr(expression, "is_tagged", True)
        # Selected as it is, in a row that has the rest: it need not go through Django's conversion.
        self.is_whole = is_alone and not self.is_tagged and companion is not None and bound is not None
        # Opened while the rows are read, if the query is not for instances that ``only()`` leaves without it.
        self.is_opened = is_alone and self.is_tagged
        self.expression = expression
        self.connection = connection
        self.position = position
        self.companion = companion
        self.bound = bound
        self.pk = pk

    def prepare(self, rows: list[Any], using: str) -> None:
        if self.is_tagged:
            tagged = [value for row in rows if _is_tagged(value := row[self.position])]
            if tagged:
                is_eager = tagged[0].startswith(_EAGER)
                # A batch that outlives its chunk keeps the companions alone. They are asked for if a key is missing.
                texts = _Companions(tagged) if is_eager else list(_Companions(tagged))
                self.loader.batch = Batch(texts, hold=is_eager, path_ends=self._path_ends(tagged, using))
        else:
            texts = [] if self.companion is None else [row[self.companion] for row in rows]
            self.loader.batch = Batch(texts, path_ends=self._path_ends(rows, using))

    def _path_ends(self, rows: list[Any], using: str) -> PathEnds | None:
        """Return the facts kept about the rows for contexts that lie behind relations, and for no others."""
        group = group_of(self.loader.field)
        if not group.source.relations:
            return None
        if isinstance(rows[0], str):
            return PathEnds(group, using, [self.loader.values(_split(row)[0]) for row in rows])
        bound = self.bound or ()
        return PathEnds(group, using, [tuple([row[position] for position in bound]) for row in rows if bound])

    def place(self, row: Sequence[Any], number: int) -> str:
        """The primary key that tells a row from the others of the query, if it was selected."""
        if self.pk is None:
            return f"row {number} of the query"
        fields = self.loader.field.model._meta.pk_fields
        try:
            values = tuple(field.to_python(row[position]) for field, position in zip(fields, self.pk, strict=True))
        except (TypeError, ValueError, ValidationError):
            return f"row {number} of the query"
        return f"pk={values if len(values) > 1 else values[0]!r}"

    def wrap(self, rows: Iterable[list[Any]]) -> Iterator[list[Any]]:
        """Seal the value of each row, together with the columns beside it."""
        loader, position = self.loader, self.position
        companion: Any = self.companion
        batch, outside, stored_text = loader.batch, loader.outside, loader.field.stored_text
        since = loader.since
        bound = self.bound or ()
        only = bound[0] if len(bound) == 1 else None
        for row in rows:
            text = row[position]
            if text is not None:
                if text.__class__ is not str or not text.startswith(_ENVELOPE):
                    text = stored_text(as_text(text) or "")
                keys = row[companion]
                if keys.__class__ is not str:
                    keys = as_text(keys) or ""
                values = tuple([row[each] for each in bound]) if only is None else (row[only],)
                row[position] = Sealed(text, keys, values, batch, None, since, outside)
            yield row

    def open(self, rows: Iterable[list[Any]]) -> Iterator[list[Any]]:
        """Give each row its value, where the query asked for that."""
        loader, position, expression, connection = self.loader, self.position, self.expression, self.connection
        plaintext_of, values_of, outside = loader.plaintext, loader.known_values.get, loader.outside
        from_plaintext, stored_text = loader.field.from_plaintext, loader.field.stored_text
        for row in rows:
            value = row[position]
            if value is not None:
                opened: Any = None
                if value.__class__ is str and value.startswith(_EAGER):
                    # The loader looks into values that were not split, and into failures.
                    columns, _, rest = value[2:].partition(_SEPARATOR)
                    keys, _, text = rest.partition(_SEPARATOR)
                    if not text.startswith(_ENVELOPE):
                        text = stored_text(text)
                    try:
                        plaintext = plaintext_of(keys, text, values_of(columns), outside, loader.batch)
                        opened = None if plaintext is None else (from_plaintext(plaintext),)
                    except Exception:  # noqa: BLE001 - the loader comes to the same, and says what it was.
                        opened = None
                row[position] = loader(value, expression, connection) if opened is None else opened[0]
            yield row

    def complete(self, row: list[Any]) -> None:
        sealed = row[self.position]
        if self.companion is not None and isinstance(sealed, Sealed) and sealed.keys is None:
            sealed.keys = as_text(row[self.companion]) or ""
            if self.bound is not None:
                sealed.values = tuple([row[position] for position in self.bound])


class _Current:
    """The row that is being converted, for the place of an error."""

    def __init__(self) -> None:
        self._row: Sequence[Any] = ()
        self._number = 0

    def over(self, rows: Iterable[Any]) -> Iterator[Any]:
        for row in rows:
            self._row = row
            self._number += 1
            yield row

    def place(self, column: _Column) -> str:
        return column.place(self._row, self._number)


def _convert_in_chunks(compiler: Any, rows: Iterable[Any], converters: dict[int, Any]) -> Iterator[Any]:
    apply_converters = type(compiler).apply_converters
    columns = list(_columns(compiler, converters))
    own = [column for column in columns if column.is_whole or column.is_opened]
    others = [column for column in columns if column not in own]
    left = {position: each for position, each in converters.items() if all(position != one.position for one in own)}
    current = _Current()
    for column in columns:
        column.loader.place = functools.partial(current.place, column)
    rows = iter(rows)
    row: list[Any] = []
    try:
        while chunk := list(islice(rows, CHUNK)):
            for column in columns:
                column.prepare(chunk, compiler.using)
            places = chunk if all(column.is_whole for column in columns) else current.over(chunk)
            converted = apply_converters(compiler, places, left) if left else map(list, places)
            for column in own:
                converted = column.wrap(converted) if column.is_whole else column.open(converted)
            for row in converted:
                for column in others:
                    column.complete(row)
                yield row
    except GeneratorExit:
        raise
    except BaseException as error:
        forget(error)
        # The row before may be another tenant's. The iterating code has made something of it, and still names it.
        row.clear()
        for column in columns:
            column.loader.batch, column.loader.place = Batch(), None  # Django's frames have the loaders.
        chunk = columns = own = others = rows = places = converted = left = converters = current = None  # type: ignore[assignment]
        raise


def _columns(compiler: Any, converters: dict[int, Any]) -> Iterator[_Column]:
    positions = list(selected_columns(compiler))
    for position, (functions, expression) in converters.items():
        loader = next((function for function in functions if isinstance(function, Loader)), None)
        if loader is None:
            continue
        field, group = loader.field, group_of(loader.field)
        companion, bound, pk = None, None, None
        if isinstance(expression, Col):
            companion_field = field.model._meta.get_field(group.companion)
            companion = place_of(compiler, positions, expression.alias, field.model, companion_field)
            find = functools.partial(place_of, compiler, positions, expression.alias, field.model)
            bound = all_found(find(binding.field) for binding in group.bound_columns(field))
            pk = all_found(map(find, field.model._meta.pk_fields))
        # Where another package converts the value too, Django calls one after the other.
        yield _Column(loader, expression, compiler.connection, len(functions) == 1, position, companion, bound, pk)


def _selected_text(binding: Any, text: str | None) -> str | None:
    try:
        selected: str | None = binding.selected_text(text)
    except (ArithmeticError, LookupError, TypeError, ValidationError, ValueError):
        return DAMAGED  # No context has it: opening the value reports that.
    return selected


def _is_tagged(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(_TAG) and value != _TOO_LONG and value[2:] != _DAMAGED


def _split(value: str) -> tuple[str, str, str]:
    columns, keys, text = value[2:].split(_SEPARATOR, 2)
    return columns, keys, text
