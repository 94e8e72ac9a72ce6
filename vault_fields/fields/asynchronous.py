"""Opening values ahead of async code, where reading an attribute may not wait for a Vault."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from asgiref.sync import sync_to_async
from django.db.models import Model

from vault_fields.datakeys.cache import Outcome
from vault_fields.exceptions import DecryptionError, EnvelopeError, UnknownVault, VaultError
from vault_fields.fields.batch import Batch, asked_ahead
from vault_fields.fields.damaged import Damaged, as_text
from vault_fields.fields.descriptor import EncryptedAttribute
from vault_fields.fields.fetchmodes import fetched
from vault_fields.fields.groups import all_groups_of
from vault_fields.fields.sealed import Sealed
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import companion as companion_format, envelope as envelope_format
from vault_fields.vaults import vaults

__all__ = ["aopen"]

Rows = Sequence[tuple[Model, Sequence[str]]]


@forgetful
async def aopen(instances: Iterable[Model], *names: str, strict: bool = True) -> None:
    """
    Open the encrypted fields of these instances (all of them, or those named), so that reading them never blocks.

    A value that does not open raises its error; without ``strict``, where it is read, and the others are opened.

    Costs what reading them costs: one round of Vault calls for rows that were loaded together, which coroutines make
    where the vault has some. Deferred fields that are not named stay deferred.
    """
    rows = [(instance, names or _loaded_names(instance)) for instance in instances]
    if any(_lacks(instance, name) for instance, wanted in rows for name in wanted):
        await sync_to_async(_load)(rows)
    # The database may have to be asked where a row was moved, and the values may be large. So they open in a thread,
    # but nobody waits for a Vault there.
    with asked_ahead(await _keys_of(rows)):
        await sync_to_async(_open)(rows, strict)


async def _keys_of(rows: Rows) -> Mapping[tuple[str, str], Outcome]:
    """Return the data keys that the values need and the cache does not hold, and the errors that stand in their way."""
    wanted: dict[str, dict[str, None]] = {}
    batches: set[Batch] = set()
    for instance, names in rows:
        for name in names:
            found = _unopened(instance, name)
            if found is None:
                continue
            sealed, keys = found
            try:
                companion = companion_format.decode(keys)
                names_of_vault = wanted.setdefault(companion.vault, {})
                if companion.encrypted_keys not in names_of_vault:
                    batch = sealed.batch or Batch()
                    names_of_vault |= dict.fromkeys(batch.missing(companion))
                    batches.add(batch)
            except (EnvelopeError, UnknownVault):
                continue  # Opening the value reports it.
    aliases = [alias for alias, asked in wanted.items() if asked]
    answers = await asyncio.gather(*(vaults[alias].adecrypt_data_keys(wanted[alias]) for alias in aliases))
    for batch in batches:
        for outcomes in answers:
            batch.settle(outcomes)
    return {
        (alias, encrypted_keys): outcome
        for alias, outcomes in zip(aliases, answers, strict=True)
        for encrypted_keys, outcome in outcomes.items()
    }


def _unopened(instance: Model, name: str) -> tuple[Sealed, str] | None:
    """Return a value that is not opened yet, with its companion's text."""
    attribute = _attribute(instance, name)
    held = instance.__dict__.get(name)
    if attribute is None or not isinstance(held, Sealed) or held.opened is not None:
        return None
    keys = held.keys if held.keys is not None else as_text(instance.__dict__.get(attribute.field.companion_name))
    if not keys or isinstance(keys, Damaged) or not envelope_format.is_envelope(held.text):
        return None
    return held, keys


def _lacks(instance: Model, name: str) -> bool:
    """Whether the database must be asked before it is known which key the value needs."""
    attribute = _attribute(instance, name)
    if attribute is None:
        return False
    if name not in instance.__dict__:
        return True
    held = instance.__dict__[name]
    return isinstance(held, Sealed) and held.keys is None and attribute.field.companion_name not in instance.__dict__


def _load(rows: Rows) -> None:
    for instance, names in rows:
        for name in names:
            attribute = _attribute(instance, name)
            if attribute is not None and _lacks(instance, name):
                attribute.held_by(instance)
                if _lacks(instance, name):
                    fetched(instance, attribute.field.companion_name)


def _open(rows: Rows, strict: bool) -> None:
    for instance, names in rows:
        for name in names:
            try:
                getattr(instance, name)
            except (DecryptionError, VaultError):
                if strict:
                    raise


def _attribute(instance: Model, name: str) -> EncryptedAttribute | None:
    attribute = getattr(type(instance), name, None)
    return attribute if isinstance(attribute, EncryptedAttribute) else None


def _loaded_names(instance: Model) -> list[str]:
    return [
        member.attname
        for group in all_groups_of(type(instance))
        for member in group.members
        if member.attname in instance.__dict__
    ]
