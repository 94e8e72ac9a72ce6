"""A row as a query has read it, which becomes an instance of its model only for code that needs one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from time import monotonic
from typing import Any

from django.db.models import Model

from vault_fields.exceptions import DecryptionError, EnvelopeError, VaultError
from vault_fields.fields.barerows import StoredColumns
from vault_fields.fields.batch import Batch
from vault_fields.fields.damaged import as_text
from vault_fields.fields.groups import Group
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.opening import locate, located
from vault_fields.fields.sealed import Sealed
from vault_fields.stored import companion as companion_format, envelope as envelope_format
from vault_fields.stored.companion import Companion

__all__ = ["Row", "Shape", "open_together"]


class Shape:
    """The columns that the rows of one walk have: those of a group, those that decide its key context, and others."""

    def __init__(self, group: Group, using: str, besides: Iterable[str] = ()) -> None:
        self.group = group
        self.using = using
        bound = [binding for member in group.members for binding in group.bound_columns(member)]
        names = {group.companion, *(member.attname for member in group.members), *(each.attname for each in bound)}
        names.update(besides, group.index_names)
        self.columns = StoredColumns(group.model, names, using)
        self.position = {name: number for number, name in enumerate(self.columns.attnames)}
        # The primary key of the row that was read; of a composite one, a tuple.
        self.pk: Callable[[tuple[Any, ...]], Any] = itemgetter(
            *(self.position[field.attname] for field in group.model._meta.pk_fields)
        )

    def instance(self, stored: tuple[Any, ...]) -> Model:
        """Return an instance with these columns; all others are deferred."""
        attnames, group = self.columns.attnames, self.group
        values = dict(zip(attnames, stored, strict=True))
        keys = values[group.companion] = as_text(values[group.companion])
        for member in group.members:
            if (column := as_text(values[member.attname])) is not None:
                bound = tuple([values[binding.attname] for binding in group.bound_columns(member)])
                values[member.attname] = Sealed(member.stored_text(column), keys or "", bound, loaded=monotonic())
        return group.model.from_db(self.using, attnames, list(values.values()))


class Row:
    """
    A row with the columns of one group, and those that decide its key context.

    It has the values that were read, until there is an instance; then it has the instance's.
    """

    __slots__ = ("_instance", "_shape", "pk", "stored")

    def __init__(self, shape: Shape, stored: tuple[Any, ...]) -> None:
        self._shape = shape
        self._instance: Model | None = None
        self.stored = stored
        self.pk = shape.pk(stored)

    @property
    def group(self) -> Group:
        return self._shape.group

    @property
    def instance(self) -> Model:
        """The row as its model has it, made when it is first asked for."""
        if self._instance is None:
            self._instance = self._shape.instance(self.stored)
        return self._instance

    def hashes(self) -> list[Any]:
        """The hashes of the values, in the order of ``group.index_names``, sorted."""
        return [self.instance.__dict__[name] for name in sorted(self.group.index_names)]

    @property
    def companion(self) -> str | None:
        """The companion's text."""
        if self._instance is None:
            return as_text(self.read(self._shape.group.companion))
        text: str | None = self._instance.__dict__[self._shape.group.companion]
        return text

    def read(self, attname: str) -> Any:
        """Return the column's content when the row was read."""
        return self.stored[self._shape.position[attname]]

    def text(self, member: Encrypted) -> str | None:
        """The text in the column of ``member``: an envelope, plaintext or nothing."""
        if self._instance is None:
            column = as_text(self.read(member.attname))
            return None if column is None else member.stored_text(column)
        held = self._instance.__dict__[member.attname]
        return held.text if isinstance(held, Sealed) else None

    def is_encrypted(self, member: Encrypted) -> bool:
        text = self.text(member)
        return text is not None and envelope_format.is_envelope(text)

    def is_respelled(self, member: Encrypted) -> bool:
        """Whether an envelope was read in another spelling than it is written; see ``EncryptedField.stored_text``."""
        column = as_text(self.read(member.attname))
        return column is not None and column != member.stored_text(column)

    def sealed_members(self) -> list[Encrypted]:
        """Return the members whose values are encrypted."""
        return [member for member in self.group.members if self.is_encrypted(member)]

    @property
    def label(self) -> str:
        """The name, in messages, of the first value that is encrypted, and of the row."""
        return locate(self.sealed_members()[0], self.instance)

    @contextmanager
    def locating(self) -> Iterator[None]:
        """Add the row to errors that are raised within the block."""
        try:
            yield
        except (DecryptionError, VaultError) as error:
            raise located(error, self.sealed_members()[0], self.instance) from None

    def paired_companion(self) -> Companion:
        """Return the companion of the row's values. Raises ``EnvelopeError`` if they do not belong together."""
        with self.locating():
            if not self.companion:
                raise EnvelopeError(f"the value is encrypted, but its companion {self.group.companion!r} is empty.")
            companion = companion_format.decode(self.companion)
            for member in self.sealed_members():
                if envelope_format.decode(self.text(member) or "").key_id != companion.key_id:
                    raise EnvelopeError(
                        f"{member.name!r} and {self.group.companion!r} were written with different data keys."
                    )
            return companion

    def envelope(self, member: Encrypted) -> Sealed | None:
        """The value of ``member``, if it is encrypted."""
        if not self.is_encrypted(member):
            return None
        held: Sealed = self.instance.__dict__[member.attname]
        return held


def open_together(rows: Sequence[Row]) -> None:
    """Let the first value of these rows that is opened ask for the data keys of all of them."""
    batch = Batch([row.companion for row in rows], hold=True, goes_on=True)
    for row in rows:
        for member in row.group.members:
            if (sealed := row.envelope(member)) is not None:
                sealed.batch = batch
