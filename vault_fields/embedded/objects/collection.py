"""
Stored objects: named values in a Vault's keeping, encrypted by the key context that each was given.

Every version of an object has a data key of its own, wrapped under the KEKs of the context as any other.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from vault_fields.embedded.customer.provider import ProviderRefused
from vault_fields.embedded.database.failures import damaged
from vault_fields.embedded.database.paging import Page, Window
from vault_fields.embedded.events.event import Actor, Event, current_actor, timestamp
from vault_fields.embedded.managed.keyring import ATTEMPTS
from vault_fields.embedded.managed.tags import VaultReplaced
from vault_fields.embedded.objects import sealing
from vault_fields.embedded.objects.pruning import Outdated, Pruning
from vault_fields.embedded.objects.rows import ObjectQuery, ObjectSummary, ObjectVersion, StoredVersion, new_id
from vault_fields.embedded.objects.store import ObjectStore
from vault_fields.embedded.objects.values import ObjectClaim, ObjectMetadata, StoredObject, check, require_text
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import KeyRevoked, KeyUnavailable, VaultRefused, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.frames import forgetful, forgetful_class
from vault_fields.runtime.progress import Progress, silent

__all__ = ["StoredObjects"]

OnProblem = Callable[[str], object]


@forgetful_class
class StoredObjects:
    """
    The objects of a vault's environment. Thread-safe, and safe for any number of processes on one machine.

    Each call raises the errors of the vault's operations, and ``ObjectMissing``, and ``ObjectConflict`` for a name
    that is taken or a version that is not the current one. A change is on the disk on return, with its event.
    """

    def __init__(self, vault: EmbeddedVault) -> None:
        self._vault = vault
        self._store = ObjectStore(vault.store.connections, vault.tags, vault.environment)

    def create(self, name: str, value: str, context: Mapping[str, str]) -> ObjectMetadata:
        """Create an object. Raises ``ValueRefused`` for a name or value beyond the limits, and ``KeyContextError``."""
        check(name, value)
        object_id, key_context = new_id(), KeyContext(context)
        for _ in range(ATTEMPTS):
            version = self._seal(object_id, name, key_context, value)
            with suppress(VaultReplaced):
                self._store.add(version, self._written("vault.data.created", version))
                return self._described(version)
        raise self._replaced()

    def update(self, object_id: str, value: str, *, version_check: str | None = None) -> ObjectMetadata:
        """
        Add a version to an object, with a fresh data key for the same context.

        With ``version_check`` it does so only if that is the current version: of any number of callers who name the
        same one, one succeeds, and the others get ``ObjectConflict``.
        """
        check("name", value)
        for _ in range(ATTEMPTS):
            before = self._store.get(object_id)
            version = self._seal(object_id, before.name, _context(before), value)
            with suppress(VaultReplaced):
                self._store.replace(version, version_check, self._written("vault.data.updated", version))
                return self._described(version)
        raise self._replaced()

    def delete(self, object_id: str, *, version_check: str | None = None) -> str:
        """Delete an object with all its versions; return its name."""
        return self._store.delete(object_id, version_check)

    def read(self, object_id: str, *, version_id: str | None = None) -> StoredObject:
        """Return an object in its current version, or in an earlier one."""
        return self._opened(self._store.get(object_id, version_id))

    def read_by_name(self, name: str) -> StoredObject:
        require_text(name)
        return self._opened(self._store.get_by_name(name))

    def describe(self, object_id: str) -> ObjectMetadata:
        """Return an object without its value."""
        version = self._store.get(object_id)
        self._note("vault.metadata.read", kv_name=version.name)
        return self._described(version)

    def page(
        self,
        query: ObjectQuery | None = None,
        *,
        limit: int = 10,
        after: str | None = None,
        before: str | None = None,
        descending: bool = True,
    ) -> Page[ObjectSummary]:
        """
        Return a page of objects, the newest first; ``after`` and ``before`` are ids of objects, also of deleted ones.
        """
        page = self._store.page(query or ObjectQuery(), Window(limit, after, before, descending))
        self._note("vault.names.listed")
        return page

    def versions(self, object_id: str) -> list[ObjectVersion]:
        """Return all versions, the newest first."""
        return self._store.versions(object_id)

    def version_page(
        self,
        object_id: str,
        *,
        limit: int = 10,
        after: str | None = None,
        before: str | None = None,
        descending: bool = True,
    ) -> Page[ObjectVersion]:
        """Return a page of versions; ``after`` and ``before`` are ids of versions, also of deleted ones."""
        return self._store.version_page(object_id, Window(limit, after, before, descending))

    def prune(
        self, *, keep: int | None = None, replaced_before: datetime | None = None, progress: Progress = silent
    ) -> int:
        """
        Delete older versions of all objects, and never a current one; return how many.

        With ``keep`` that many of the newest versions of each object stay. With ``replaced_before`` those stay that
        another version has replaced since then. With both, a version stays if either keeps it. Works in portions, so
        that others can write, and can be interrupted.

        Raises ``VaultUnavailable`` after all others are done, if the row of an object was edited.
        """
        outdated = Outdated(keep, replaced_before)
        pruning = Pruning(self._vault.store.connections, self._vault.tags, self._vault.environment, outdated)
        with progress("Deleting versions", pruning.count) as advance:
            return pruning.run(advance)

    def claims(self) -> Iterator[ObjectClaim | None]:
        """
        Yield the claim of each version of each object about its keys, with nothing opened; None for one that has none.
        """
        for version in self._store.each_version():
            if version.is_altered:
                yield None
            else:
                yield ObjectClaim(
                    _label(version), version.encrypted_keys, _context(version), partial(self._opens, version)
                )

    def number_of_versions(self) -> int:
        """Return the number of versions of all objects."""
        return self._store.number_of_versions()

    def rewrap(self, *, progress: Progress = silent, on_problem: OnProblem | None = None) -> int:
        """
        Wrap the data keys of all versions anew under the current KEKs; return how many.

        Run it after a rotation, before the versions of KEKs that wrapped them are retired. Values are not changed, but
        each is opened first: only that shows that its context, whose keys are to open it from now on, was not edited.
        A version that cannot be opened, because a key of it is revoked, is left as it is. Can be interrupted and run
        again.

        With ``on_problem``, which is called for each, a customer's key that does not answer keeps only its own
        versions from being wrapped. Raises ``VaultUnavailable`` after all others are done, if one was damaged or
        tampered with. Raises ``VaultReplaced`` at once if a backup was restored meanwhile: all of this may have to be
        done in it.
        """
        done, damaged = 0, None
        with progress("Wrapping keys", self.number_of_versions) as advance:
            for version in self._store.each_version():
                try:
                    done += self._rewrapped(version)
                except _Damaged as error:
                    damaged = damaged or error
                except VaultReplaced:
                    raise self._restored() from None
                except (KeyUnavailable, ProviderRefused) as error:
                    if on_problem is None:
                        raise
                    on_problem(f"{_label(version)}: {error}")
                advance(1)
        if damaged is not None:
            raise damaged
        return done

    def _rewrapped(self, version: StoredVersion) -> bool:
        """Whether the version could be wrapped; it could not if a key of it is revoked."""
        if version.is_altered:
            raise self._damaged(version)
        try:
            self._value(version)
            key = self._vault.rewrap_data_key(version.encrypted_keys, _context(version))
        except KeyRevoked:
            return False
        self._store.rewrap(version, key.encrypted_keys)
        return True

    @forgetful
    def _seal(self, object_id: str, name: str, context: KeyContext, value: str) -> StoredVersion:
        version_id, vault_id = new_id(), self._vault.store.vault_id()
        canonical = context.canonical.decode()
        places = object_id, name, canonical, version_id
        associated = sealing.associated_data(vault_id, self._vault.environment, *places)
        actor, moment = current_actor(), timestamp(datetime.now(UTC))
        key = self._vault.new_data_key(context)
        sealed = sealing.sealed(key, value, associated)
        return StoredVersion(
            object_id,
            name,
            canonical,
            version_id,
            key.id,
            key.encrypted_keys,
            sealed,
            sealing.etag(sealed),
            actor.id,
            actor.name,
            moment,
            vault_id,
        )

    def _opened(self, version: StoredVersion) -> StoredObject:
        metadata = self._described(version)
        value = self._value(version)
        self._note("vault.data.read", kv_name=version.name, key_id=version.data_key_id)
        return StoredObject(metadata, value)

    def _value(self, version: StoredVersion) -> str:
        value = self._decrypted(version, self._data_key(version))
        if value is None:
            raise self._damaged(version)
        return value

    def _opens(self, version: StoredVersion, key: DataKey) -> bool:
        return self._decrypted(version, key) is not None

    def _decrypted(self, version: StoredVersion, key: DataKey) -> str | None:
        # The facts beside the value follow from it, and nothing else would reveal that they were edited.
        if version.data_key_id != key.id or version.etag != sealing.etag(version.sealed):
            return None
        places = version.object_id, version.name, version.context, version.version_id
        associated = sealing.associated_data(version.vault_id, self._vault.environment, *places)
        return sealing.opened(key, version.sealed, associated)

    def _data_key(self, version: StoredVersion) -> DataKey:
        try:
            return self._vault.open_data_key(version.encrypted_keys)
        except (KeyRevoked, ProviderRefused):
            raise
        except VaultRefused:
            raise self._damaged(version) from None

    def _replaced(self) -> VaultUnavailable:
        return VaultUnavailable(
            f"The keys in the keystore {self._vault.store.location} changed {ATTEMPTS} times while an object was being "
            "stored. Try again."
        )

    def _restored(self) -> VaultReplaced:
        return VaultReplaced(
            f"A backup was restored into the keystore {self._vault.store.location}, or keys were withdrawn there, "
            "while the data keys of its objects were being wrapped anew. Try again: that wraps everything that is "
            "there now."
        )

    def _damaged(self, version: StoredVersion) -> VaultUnavailable:
        return damaged(self._vault.store.location, f"{_label(version)} does not open", _Damaged)

    def _described(self, version: StoredVersion) -> ObjectMetadata:
        return ObjectMetadata(
            version.object_id,
            version.name,
            self._vault.environment,
            _context(version),
            version.data_key_id,
            version.version_id,
            Actor(version.actor_id, version.actor_name),
            version.created_at,
        )

    def _written(self, event: str, version: StoredVersion) -> Event:
        return Event.now(
            self._vault.environment,
            event,
            kv_name=version.name,
            key_id=version.data_key_id,
            key_context=json.loads(version.context),
        )

    def _note(self, event: str, **data: str) -> None:
        self._vault.store.events.note(Event.now(self._vault.environment, event, **data))


class _Damaged(VaultUnavailable):
    """The parts of a stored object do not belong together."""


def _label(version: StoredVersion) -> str:
    return f"version {version.version_id} of a stored object"


def _context(version: StoredVersion) -> KeyContext:
    return KeyContext(json.loads(version.context))
