"""
Writes of named columns only, as by ``save(update_fields=…)``: no other write is lost, and every value opens in its row.

``save(update_fields=…)`` and ``bulk_update()`` come here. The values that the caller named are encrypted first, while
no row is locked. Then, in one transaction, the rows are locked and read. Each is written if

- its columns that decide whether a value opens are those that it was encrypted for, or are written along, and
- nothing that was encrypted together with the named values has been written by somebody else meanwhile.

A row of another key context than the caller holds is refused. Where only the second fails, the lock is given back, the
stored values replace those that were read before, and the row is encrypted again. A row whose data key stays gets the
named columns and no others. See ``docs/decisions/0067-partial-writes-are-compared.md``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field as dataclass_field
from time import monotonic
from typing import Any, TypeVar

from django.db import connections, transaction
from django.db.models import Model

from vault_fields.exceptions import KeyContextError
from vault_fields.fields.barerows import StoredColumns
from vault_fields.fields.bindings import Binding
from vault_fields.fields.damaged import as_text
from vault_fields.fields.groups import Group, all_groups_of, groups_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.newkeys import NewKeys
from vault_fields.fields.plaintext import leave_in_the_clear
from vault_fields.fields.saving import settle_context
from vault_fields.fields.sealed import Pending, Sealed
from vault_fields.fields.sealing import seal
from vault_fields.fields.state import GroupState

__all__ = ["PartialWrite"]

Result = TypeVar("Result")

# After this many attempts the rows stay locked while the Vault is asked: other writers have to come to an end too.
ATTEMPTS = 3


@dataclass(slots=True, eq=False)
class _Piece:
    """One group of one row, of which the caller named a column."""

    state: GroupState
    names: frozenset[str]
    # The values of the instance when the write began: the members to write, and those that the caller did not name.
    named: dict[str, Any] = dataclass_field(default_factory=dict)
    aside: dict[str, Any] = dataclass_field(default_factory=dict)
    others: list[Encrypted] = dataclass_field(default_factory=list)
    # The deferred columns, which stay so: a loaded one would be written by the next save, over what others wrote
    # meanwhile.
    deferred: list[str] = dataclass_field(default_factory=list)
    # The stored row that it was encrypted together with, if memory did not tell.
    basis: Mapping[str, Any] | None = None
    written: frozenset[str] = frozenset()
    # The hashes that the instance had, beside the values set aside.
    hashes: dict[str, Any] = dataclass_field(default_factory=dict)

    @property
    def instance(self) -> Model:
        return self.state.instance

    @property
    def group(self) -> Group:
        return self.state.group

    def set_aside(self) -> bool:
        """Take out what the caller did not name. Return whether memory tells what to encrypt with which key."""
        data = self.instance.__dict__
        bound = (binding.attname for binding in self.group.all_bindings)
        self.deferred = [name for name in (*self.group.columns, *bound) if name not in data]
        is_known = (
            all(binding.attname in data for binding in self.group.all_bindings)
            and self.state.companion is not None
            and not self.state.changed_columns()
        )
        for member in self.group.members:
            # A deferred value that Django would load in order to write it back is left alone.
            if member.attname in self.names and member.attname in data:
                self.named[member.attname] = data[member.attname]
            else:
                self.others.append(member)
                if member.attname in data:
                    self.aside[member.attname] = data.pop(member.attname)
                hashes = self.group.hashes_of({member.attname})
                self.hashes |= {name: data.pop(name) for name in hashes if name in data}
        # Where only encrypted values stay encrypted, the stored row tells which these are.
        if self.group.writes_plaintext:
            return False
        return is_known or not self.others

    def base_on(self, stored: Mapping[str, Any]) -> None:
        """Begin again from the stored row, and from the values that the caller assigned."""
        self.basis = stored
        self._take_others(stored)
        for member in self.group.members:
            if member.attname not in self.named:
                continue
            held = self.named[member.attname]
            if isinstance(held, Pending):
                previous = self._stored_value(member, stored)
                same = held.previous if _is_same(held.previous, previous) else previous
                held = Pending(held.value, same)
            self.instance.__dict__[member.attname] = held

    def is_settled(self, stored: Mapping[str, Any] | None) -> bool:
        """Whether it can be written over the row that is stored now. Raises ``KeyContextError`` if it never can."""
        if stored is None:
            for member in self.others:
                self.instance.__dict__.setdefault(member.attname, None)
            self.written = self._named_columns
            return True  # The row is gone, and Django reports that.
        self.require_context(stored)
        if self.basis is None:
            self._take_others(stored)
            is_settled = not self.state.must_be_sealed
        else:
            relevant = [self.group.companion, *(member.attname for member in self.others)]
            relevant += [binding.attname for binding in self.group.all_bindings]
            is_settled = all(self.basis[name] == stored[name] for name in relevant)
        self.written = self._named_columns if self._keeps_others(stored) else self.group.columns
        return is_settled

    def require_context(self, stored: Mapping[str, Any]) -> None:
        """Require that the row as it will be stored has the columns in memory; take columns that memory lacks."""
        data = self.instance.__dict__
        differing: list[Binding] = []
        for binding in self.group.all_bindings:
            if binding.attname not in data:
                data[binding.attname] = stored[binding.attname]
            elif not self.names & {binding.field.name, binding.attname} and (
                binding.text(data[binding.attname]) != binding.text(stored[binding.attname])
            ):
                differing.append(binding)
        if differing:
            names = ", ".join(binding.attname for binding in differing)
            raise KeyContextError(
                f"{self.group.members[0].label} (pk={self.instance.pk!r}): {names} differs from that of the stored row "
                "and decides whether the value opens, but is not among the fields to be saved: it was changed here, or "
                f"by somebody else since. Save it as well, or take what is stored: refresh_from_db(fields="
                f"{[binding.attname for binding in differing]!r})."
            )

    def restore(self, *, named: bool) -> None:
        """Give the caller back what it did not name; give back what it named only if nothing was written."""
        data = self.instance.__dict__
        if named:
            data.update(self.named)
        for member in self.others:
            if (name := member.attname) not in self.aside:
                continue
            held, stored = self.aside[name], data.get(name)
            data[name] = held if named else _returned(held, stored)
            # A hash stays beside the value that it was read with.
            if data[name] is held:
                data.update(
                    {
                        index.attname: self.hashes[index.attname]
                        for index in self.group.indexes[member.name]
                        if index.attname in self.hashes
                    }
                )
        for name in self.deferred:
            data.pop(name, None)
        for field in [binding.field for binding in self.group.all_bindings if binding.attname in self.deferred]:
            # Django would load the column to compare it with the row that the context was read from.
            self.instance._state.fields_cache.pop(field.name, None)

    @property
    def _named_columns(self) -> frozenset[str]:
        """The columns that the caller named, with those of their hashes."""
        return frozenset(self.named).union(self.group.hashes_of(self.named))

    def _keeps_others(self, stored: Mapping[str, Any]) -> bool:
        """Whether the companion and the columns that the caller did not name stay as they are stored."""
        held = [(self.instance.__dict__[member.attname], stored[member.attname]) for member in self.others]
        return self.state.written_companion == stored[self.group.companion] and all(
            (value.text if isinstance(value, Sealed) else value) == text for value, text in held
        )

    def _take_others(self, stored: Mapping[str, Any]) -> None:
        for member in self.others:
            self.instance.__dict__[member.attname] = self._stored_value(member, stored)
            for index in self.group.indexes[member.name]:
                self.instance.__dict__[index.attname] = stored[index.attname]

    def _stored_value(self, member: Encrypted, stored: Mapping[str, Any]) -> Sealed | None:
        text = as_text(stored[member.attname])
        if text is None:
            return None
        values = tuple([stored[binding.attname] for binding in self.group.bound_columns(member)])
        keys = as_text(stored[self.group.companion]) or ""
        return Sealed(member.stored_text(text), keys, values, loaded=monotonic())


class PartialWrite:
    """
    One ``save()`` or ``bulk_update()`` of the columns ``named``, in the database ``using``.

    Costs a query that locks the rows, for every portion of keys that the database takes, and what ``seal`` costs in
    Vault calls; a query more where memory does not tell which data key to use, or somebody else wrote meanwhile.
    """

    def __init__(self, instances: Sequence[Model], model: type[Model], named: Iterable[str], using: str) -> None:
        self._named = frozenset(named)
        self._using = using
        groups = [group for group in all_groups_of(model) if self._named & (group.member_names | group.context_names)]
        self._fields = [field for field in model._meta.concrete_fields if self._named & {field.name, field.attname}]
        self._instances = distinct = list({id(instance): instance for instance in instances}.values())
        self._pieces = [_Piece(GroupState(instance, group), self._named) for group in groups for instance in distinct]
        columns = {name for group in groups for name in group.columns}
        columns |= {binding.attname for group in groups for binding in group.all_bindings}
        self._stored = StoredColumns(model, columns, using)
        self._new_keys = NewKeys(shared=True)
        self._is_written = False

    def __bool__(self) -> bool:
        """Whether any value is concerned."""
        return bool(self._pieces)

    def run(self, statement: Callable[[], Result]) -> Result:
        """Encrypt, lock, compare, and call ``statement``, which writes the columns in ``names``. Retries by itself."""
        for instance in {id(piece.instance): piece.instance for piece in self._pieces}.values():
            settle_context(instance, self._named)
        unknown = [piece for piece in self._pieces if not piece.set_aside()]
        self._base_on(unknown, self._read(unknown))
        attempt = 0
        while True:
            attempt += 1
            self._seal()
            with transaction.atomic(self._using, savepoint=False):
                stored = self._read(self._pieces, lock=True)
                unsettled, refusal = self._judged(stored)
                if unsettled and not refusal and attempt == ATTEMPTS:
                    # The rows stay locked: others were faster each time.
                    self._base_on(unsettled, stored)
                    self._seal()
                    unsettled, refusal = self._judged(stored)
                if not unsettled and not refusal:
                    self._is_written = True
                    return statement()
            # Raised outside, since raising it here would end the caller's transaction.
            if refusal:
                raise refusal
            self._base_on(unsettled, stored)

    def names(self, *tables: type[Model]) -> frozenset[str]:
        """The columns to write of these tables' groups, and those named that belong to none; for the statement."""
        names = self._named
        for group in [group for table in tables for group in groups_of(table)]:
            names -= group.columns
            names = names.union(*(piece.written for piece in self._pieces if piece.group is group))
        return names

    def finish(self) -> None:
        """Restore what the caller did not name, in place of the stored values."""
        for piece in self._pieces:
            piece.restore(named=not self._is_written)

    def _read(self, pieces: Sequence[_Piece], *, lock: bool = False) -> dict[int, Mapping[str, Any]]:
        instances = {id(piece.instance): piece.instance for piece in pieces}
        # Where the transaction goes on afterwards, an unlocked read might show rows as they were when it began.
        lock = lock or connections[self._using].in_atomic_block
        return self._stored.of(list(instances.values()), lock=lock) if instances else {}

    def _base_on(self, pieces: Sequence[_Piece], stored: Mapping[int, Mapping[str, Any]]) -> None:
        for piece in pieces:
            if (row := stored.get(id(piece.instance))) is not None:
                piece.require_context(row)
                piece.base_on(row)

    def _seal(self) -> None:
        rows = [(piece.instance, piece.group) for piece in self._pieces]
        leave_in_the_clear(rows)
        seal(rows, self._new_keys, using=self._using, written=self._instances, fields=self._fields)
        for piece in self._pieces:
            piece.instance.__dict__[piece.group.companion] = piece.state.written_companion

    def _judged(self, stored: Mapping[int, Mapping[str, Any]]) -> tuple[list[_Piece], KeyContextError | None]:
        """Return the pieces to encrypt again, or the reason why nothing can be written."""
        try:
            return [piece for piece in self._pieces if not piece.is_settled(stored.get(id(piece.instance)))], None
        except KeyContextError as error:
            return [], error


def _is_same(held: Sealed | None, stored: Sealed | None) -> bool:
    return held is not None and stored is not None and (held.text, held.keys) == (stored.text, stored.keys)


def _returned(held: Any, stored: Any) -> Any:
    if isinstance(held, Pending):
        return Pending(held.value, stored if isinstance(stored, Sealed) else None)
    if not isinstance(held, Sealed) or not isinstance(stored, Sealed) or held.keys == stored.keys:
        return held
    # It was encrypted again meanwhile. The part that the caller has seen stays; the rest is as it is stored.
    return stored if held.opened is None else Pending(held.opened.value, stored)
