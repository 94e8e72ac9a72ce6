"""
Index keys: one for each key context, vault and database, opened for as long as the vault's cache keeps data keys.

The wrapped key is a row of ``vault_fields.models.IndexKey``, beside the rows that it serves: it is read where they are
read, in their transaction, and never remembered. What a rolled back transaction made is not used by the next one.
"""

import hashlib
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.models import Q

from vault_fields.exceptions import DecryptionError, EnvelopeError
from vault_fields.fields.batch import Batch
from vault_fields.fields.proofs import is_proven, note_proof
from vault_fields.keys import DataKey, KeyContext
from vault_fields.stored import companion as companion_format
from vault_fields.stored.companion import Companion
from vault_fields.vaults import vaults

__all__ = ["Wanted", "find_keys", "make_key"]

# The name of the item in the companion's row that no attribute of a model can have: so neither a row's companion
# passes for an index key, nor an index key's for that of a row.
_PURPOSE = "index key"

_GENERATION = "1"


class Wanted(NamedTuple):
    """The name of an index key: the alias of the vault that the field declares, and the key context."""

    vault: str
    context: KeyContext


def find_keys(wanted: Iterable[Wanted], using: str) -> dict[Wanted, DataKey]:
    """
    Return the keys that exist. One query, and one ``decrypt`` for each key that is not cached, all at once.

    Raises ``EnvelopeError`` or ``DecryptionError`` for a row that was altered, and the errors of the Vault: a key that
    does not open must not read as one that nobody made.
    """
    names = {(each.vault, _hash(each.context)): each for each in wanted}
    if not names:
        return {}
    stored = _stored(names, using)
    companions = {names[name]: _decoded(names[name], text) for name, text in stored.items()}
    batch = Batch(stored.values(), hold=True)
    return {
        each: _opened(each, stored[each.vault, _hash(each.context)], said, batch) for each, said in companions.items()
    }


def make_key(wanted: Wanted, using: str) -> DataKey:
    """
    Make the key of a context that has none, or return the one that somebody else made meanwhile. One ``create``.
    """
    alias = vaults.writer(wanted.vault)
    key = vaults[alias].create_data_key(wanted.context)
    said = Companion(alias, key.id, key.encrypted_keys, wanted.context, {_PURPOSE: _GENERATION})
    text = companion_format.encode(companion_format.proven(said, key))
    name = (wanted.vault, _hash(wanted.context))
    model = _model()
    row = model(vault=name[0], context_hash=name[1], companion=text)
    has_target = connections[using].features.supports_update_conflicts_with_target
    # An upsert that changes nothing waits for a row that another transaction is inserting. INSERT IGNORE with a
    # locking read deadlocks on MariaDB.
    model._base_manager.using(using).bulk_create(
        [row],
        update_conflicts=True,
        update_fields=["generation"],
        unique_fields=["vault", "context_hash", "generation"] if has_target else None,
    )
    found = _stored({name: wanted}, using) or _stored({name: wanted}, using, lock=True)
    if found[name] == text:
        return key
    return _opened(wanted, found[name], _decoded(wanted, found[name]), Batch([found[name]], hold=True))


def _model() -> Any:
    try:
        return apps.get_model("vault_fields", "IndexKey")
    except LookupError:
        raise ImproperlyConfigured(
            "A blind index needs the table of index keys: add 'vault_fields' to INSTALLED_APPS and run migrate."
        ) from None


def _stored(names: Collection[tuple[str, str]], using: str, *, lock: bool = False) -> dict[tuple[str, str], str]:
    """Return the companions' texts that the database has. ``lock`` reads what others have committed since."""
    condition = Q(vault__in={vault for vault, _ in names}, context_hash__in={digest for _, digest in names})
    rows = _model()._base_manager.using(using).filter(condition)
    rows = rows.select_for_update() if lock else rows
    columns = rows.values_list("vault", "context_hash", "companion")
    found = {(vault, digest): text for vault, digest, text in columns}
    return {name: found[name] for name in names if name in found}


def _decoded(wanted: Wanted, text: str) -> Companion:
    said = companion_format.decode(text)
    if said.context != wanted.context or dict(said.row) != {_PURPOSE: _GENERATION}:
        raise EnvelopeError(
            f"the index key of {sorted(wanted.context)} is that of another key context, or of a row: the table of "
            "index keys was altered. Bring its row back from a backup, or run `manage.py vault_index --rebuild`."
        )
    return said


def _opened(wanted: Wanted, text: str, said: Companion, batch: Batch) -> DataKey:
    try:
        key = batch.key(said)
        if not is_proven(text, key):
            companion_format.verify(said, key)
            note_proof(text, said, key)
    except DecryptionError:
        raise DecryptionError(
            f"the index key of {sorted(wanted.context)} does not open. Bring its row in the table of index keys back "
            "from a backup, or run `manage.py vault_index --rebuild`."
        ) from None
    return key


def _hash(context: KeyContext) -> str:
    return hashlib.sha256(context.canonical).hexdigest()
