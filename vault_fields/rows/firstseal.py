"""
The first sealing of rows that hold plaintext and no data key yet, as nearly every row of a column to encrypt does.

Rows whose own columns agree have one key context, which is derived once a batch, and rows that share a data key share
the companion's text. So a row costs its share of the query and the sealing of its values, and no instance of its
model.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from vault_fields.exceptions import VaultError
from vault_fields.fields.bindings import column_type
from vault_fields.fields.damaged import Damaged
from vault_fields.fields.deriving import derive_contexts
from vault_fields.fields.encoding import Unencodable, encode
from vault_fields.fields.groups import Group
from vault_fields.fields.newkeys import NewKeys
from vault_fields.fields.opening import located
from vault_fields.keys import DataKey, KeyContext
from vault_fields.rows.row import Row
from vault_fields.rows.walk import ROW_ERRORS, Change
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import cipher, companion as companion_format, envelope as envelope_format
from vault_fields.stored.companion import Companion
from vault_fields.stored.envelope import Envelope

__all__ = ["FirstSeal"]

# Equal values of these types have one text.
_PLAIN_TYPES = frozenset({int, str, UUID, type(None)})

# The number of tenants' contexts and companions remembered for the batches that follow.
MAX_REMEMBERED = 10_000


class _Place(NamedTuple):
    """The facts shared by rows whose own columns agree."""

    columns: dict[str, str | None]
    context: KeyContext


class _Plain(NamedTuple):
    """A row with its own columns that decide its key context, and with the texts of the group's members."""

    row: Row
    columns: tuple[Any, ...]
    texts: list[str | None]


class FirstSeal:
    """The first sealing of a group's rows. One operation keeps it from batch to batch, with its ``new_keys``."""

    def __init__(self, group: Group, new_keys: NewKeys) -> None:
        self._group = group
        self._new_keys = new_keys
        self._names = [binding.attname for binding in group.bindings]
        self._members = [
            (member, member.migrating is True, envelope_format.associated_data(member.label))
            for member in group.members
        ]
        # A function of the row may read all of it, and the values of ``bind_to`` may differ in each.
        self._is_apt = (
            group.source.function is None
            and not any(group.bound.values())
            and not group.index_names
            and not any(hasattr(column_type(binding.field), "from_db_value") for binding in group.bindings)
        )
        # Values in other rows, or around them, may be others for the next batch.
        self._stays = not (group.source.relations or group.source.outside)
        self._places: dict[tuple[Any, ...], _Place] = {}
        # The companion's text for a place, with its data key.
        self._companions: dict[tuple[tuple[Any, ...], KeyContext], tuple[DataKey, str, str]] = {}

    @forgetful
    def changes(self, rows: Sequence[Row]) -> tuple[list[Change], list[Row]]:
        """
        Return the values to write to the rows that are sealed here, and the other rows, which are not touched.

        Costs what ``vault_fields.fields.sealing.seal`` costs. If something is wrong with one row, all are left to that
        function, which reports it. Raises ``VaultError`` for a vault that is away.
        """
        if not self._is_apt:
            return [], list(rows)
        others = []
        plain = []
        for row in rows:
            if (found := self._plain(row)) is None:
                others.append(row)
            else:
                plain.append(found)
        try:
            return self._sealed(plain), others
        except (*ROW_ERRORS, Unencodable):
            return [], list(rows)

    def _plain(self, row: Row) -> _Plain | None:
        columns = tuple(map(row.read, self._names))
        if row.companion or not _PLAIN_TYPES.issuperset(map(type, columns)):
            return None
        texts = []
        for member, is_sealed, _ in self._members:
            text = row.text(member)
            if text is not None and (not is_sealed or isinstance(text, Damaged) or envelope_format.is_envelope(text)):
                return None
            texts.append(text)
        return _Plain(row, columns, texts)

    def _sealed(self, rows: Sequence[_Plain]) -> list[Change]:
        places = self._places_of(rows)
        vault = self._group.vault
        changes: list[Change] = []
        self._prepare(vault, rows, places)
        if len(self._companions) > MAX_REMEMBERED:
            self._companions.clear()
        for row, columns, texts in rows:
            place = places[columns]
            try:
                key = self._new_keys.take(vault, place.context)
            except VaultError as error:
                raise located(error, self._group.members[0], row.instance) from None
            known = self._companions.get((columns, place.context))
            if known is None or known[0] is not key:
                known = self._companions[columns, place.context] = (key, *_companion(vault, place, key))
            _, key_id, keys = known
            values: list[str | None] = [keys]
            for (member, _, associated), text in zip(self._members, texts, strict=True):
                if text is None:
                    values.append(None)
                    continue
                plaintext = member.padded(encode(member, member.from_plaintext(text))).encode()
                values.append(envelope_format.encode(Envelope(key_id, cipher.seal(key, plaintext, associated))))
            changes.append((row, values))
        return changes

    def _prepare(self, vault: str, rows: Sequence[_Plain], places: Mapping[tuple[Any, ...], _Place]) -> None:
        try:
            self._new_keys.prepare([(vault, place.context) for place in places.values()])
        except VaultError as error:
            raise located(error, self._group.members[0], rows[0].row.instance) from None

    def _places_of(self, rows: Sequence[_Plain]) -> dict[tuple[Any, ...], _Place]:
        """Return the shared facts of the rows, by the columns that they have. One query for each relation."""
        if len(self._places) > MAX_REMEMBERED:
            self._places.clear()
        places = {columns: self._places.get(columns) for _, columns, _ in rows}
        missing = {columns: row for row, columns, _ in rows if places[columns] is None}
        contexts = derive_contexts([(row.instance, self._group) for row in missing.values()], None)
        for (columns, row), context in zip(missing.items(), contexts, strict=True):
            texts = {binding.name: binding.text(row.read(binding.attname)) for binding in self._group.bindings}
            places[columns] = _Place(texts, context)
        found = {columns: place for columns, place in places.items() if place is not None}
        if self._stays:
            self._places.update(found)
        return found


def _companion(vault: str, place: _Place, key: DataKey) -> tuple[str, str]:
    """Return the key's id and the companion's text. Raises ``EnvelopeError`` for one that would not be readable."""
    said = Companion(vault, key.id, key.encrypted_keys, place.context, place.columns)
    text = companion_format.encode(companion_format.proven(said, key))
    return companion_format.decode(text).key_id, text
