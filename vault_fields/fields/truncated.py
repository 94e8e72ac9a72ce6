"""
The rows that a lookup by truncated hashes means: of those whose hash fits, the ones whose value is what is looked for.

A truncated hash fits other values too, and those of other tenants. Rows of other tenants are left out by the columns
and by the companion's key context, before anything of theirs is opened.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

from django.core.exceptions import FieldError
from django.db.models import Q

from vault_fields.exceptions import DecryptionError, EnvelopeError, VaultError
from vault_fields.fields.barerows import StoredColumns
from vault_fields.fields.batch import Batch
from vault_fields.fields.blindindex import IndexField
from vault_fields.fields.damaged import as_text
from vault_fields.fields.groups import Group, group_of
from vault_fields.fields.indexing import indexed_text, normal_of
from vault_fields.fields.opening import open_sealed, reworded
from vault_fields.fields.pathends import PathEnds
from vault_fields.fields.sealed import Sealed
from vault_fields.keys import KeyContext
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import companion as companion_format

__all__ = ["MAX_CANDIDATES", "Sought", "hits"]

# The number of rows that one lookup opens at most.
MAX_CANDIDATES = 10_000


class Sought(NamedTuple):
    """
    The objects of a search: hashes, the normalized texts behind them by context, None for all contexts, and the
    condition for rows that may have such a context.
    """

    hashes: Sequence[UUID]
    texts: Mapping[KeyContext | None, set[str]]
    rows: Q


class _Candidate(NamedTuple):
    """A row whose hash fits."""

    pk: Any
    sealed: Sealed
    texts: set[str]


@forgetful
def hits(index: IndexField, sought: Sought, using: str) -> list[Any]:
    """
    Return the primary keys of the rows whose value is what is looked for.

    Costs one query, and one ``decrypt`` for each data key that is not cached, all at once. Raises ``DecryptionError``
    or ``VaultError`` for a row that does not open, since nobody knows whether it is one of them, and ``FieldError`` for
    more than ``MAX_CANDIDATES`` rows whose hash fits.
    """
    field = index.encrypted
    group = group_of(field)
    found = list(_candidates(index, group, sought, using))
    batch = Batch([each.sealed.keys for each in found], hold=True, path_ends=PathEnds(group, using))
    pks = []
    for each in found:
        each.sealed.batch = batch
        try:
            text = indexed_text(field, open_sealed(field, each.sealed, None))
        except (DecryptionError, VaultError) as error:
            raise reworded(error, f"{error.args[0]} It may be what is looked for: pk={each.pk!r}.") from None
        if normal_of(index, text, field.label) in each.texts:
            pks.append(each.pk)
    return pks


def _candidates(index: IndexField, group: Group, sought: Sought, using: str) -> Iterator[_Candidate]:
    """Yield the rows of the contexts in which is searched whose hash fits."""
    member = index.encrypted
    bound = [binding.attname for binding in group.bound_columns(member)]
    columns = StoredColumns(group.model, {member.attname, group.companion, *bound}, using)
    rows = columns.queryset.filter(sought.rows, **{f"{index.attname}__in": sought.hashes})
    stored = list(columns.read(rows[: MAX_CANDIDATES + 1]))
    if len(stored) > MAX_CANDIDATES:
        raise FieldError(
            f"{member.label} is looked up by hashes of {index.bits} bits, and they fit more rows than the "
            f"{MAX_CANDIDATES} that one lookup opens. Keep more bits of the hashes."
        )
    for row in map(columns.row, stored):
        text, keys = as_text(row[member.attname]), as_text(row[group.companion]) or ""
        context = None
        with suppress(EnvelopeError):  # Opening the value says so: nobody knows whose it is.
            context = None if None in sought.texts else companion_format.decode(keys).context
        texts = set().union(*sought.texts.values()) if context is None else sought.texts.get(context)
        if text is not None and texts:
            values = tuple(row[name] for name in bound)
            yield _Candidate(columns.pk(row), Sealed(member.stored_text(text), keys, values, loaded=monotonic()), texts)
