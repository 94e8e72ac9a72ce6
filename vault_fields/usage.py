"""How many values hang on each version of a managed KEK: what would be refused if older ones were retired."""

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.embedded.blob import EncryptedKeys, MalformedBlob
from vault_fields.fields.groups import Group
from vault_fields.progress import Progress, silent
from vault_fields.storedkeys import in_environment, stored_keys

__all__ = ["versions_in_use"]


def versions_in_use(
    vault: EmbeddedBackend,
    kek_id: UUID,
    wanted: Iterable[tuple[str, Group]],
    *,
    environment: str | None = None,
    progress: Progress = silent,
) -> Counter[int]:
    """
    Numbers of values by version, in the tables ``wanted`` and among the objects of the environment. Opens nothing.

    Of another environment than the vault's own there are objects only.
    """
    found: Counter[int] = Counter()
    service, wanted = in_environment(vault, environment, wanted)
    for row in stored_keys(wanted, progress=progress):
        if row.companion is not None and row.companion.vault == vault.alias:
            _count(found, row.companion.encrypted_keys, kek_id, row.values)
    for encrypted_keys, _ in service.objects_keys():
        _count(found, encrypted_keys, kek_id, 1)
    return found


def _count(found: Counter[int], encrypted_keys: str, kek_id: UUID, values: int) -> None:
    try:
        copies = EncryptedKeys.decode(encrypted_keys).copies
    except MalformedBlob:
        return  # It does not open either way.
    for copy in copies:
        if copy.kek_id == kek_id.bytes:
            found[copy.kek_version] += values
