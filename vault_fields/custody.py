"""In whose custody stored data are: how much hangs on a managed KEK, and how much on a customer's key."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.embedded.blob import EncryptedKeys, KeyKind, MalformedBlob
from vault_fields.fields.groups import Group
from vault_fields.progress import Progress, silent
from vault_fields.storedkeys import in_environment, stored_keys

__all__ = ["OBJECTS", "Custody", "custody_of"]

# Under which the objects that the vault itself stores are counted.
OBJECTS = "stored objects"


@dataclass(slots=True)
class Custody:
    """
    Numbers of rows, or objects, whose key context has an item.

    ``unreadable`` counts companions that are damaged, whatever their item: they may be any tenant's.
    """

    managed: int = 0
    customer: int = 0
    unreadable: int = 0

    def __str__(self) -> str:
        damaged = f", {self.unreadable} unreadable companions" if self.unreadable else ""
        return f"{self.managed} under the managed key, {self.customer} under a customer's key{damaged}"


def custody_of(
    vault: EmbeddedBackend,
    name: str,
    value: str,
    wanted: Iterable[tuple[str, Group]],
    *,
    environment: str | None = None,
    progress: Progress = silent,
) -> dict[str, Custody]:
    """
    What hangs on the keys of an item, by companion column, in the tables ``wanted`` and among the vault's objects.

    Of another ``environment`` than the vault's own there are objects only.
    Reads every row, a page in memory at a time. Opens nothing and writes nothing.
    """
    service, wanted = in_environment(vault, environment, wanted)
    found = {f"{group.model._meta.label}.{group.companion}": Custody() for _, group in wanted}
    for row in stored_keys(wanted, progress=progress):
        if row.companion is None:
            found[row.label].unreadable += 1
        elif row.companion.vault == vault.alias:
            _count(found[row.label], row.companion.encrypted_keys, row.companion.context, name, value)
    objects = found[OBJECTS] = Custody()
    for encrypted_keys, context in service.objects_keys():
        _count(objects, encrypted_keys, context, name, value)
    return found


def _count(custody: Custody, encrypted_keys: str, context: Mapping[str, str], name: str, value: str) -> None:
    if context.get(name) != value:
        return
    try:
        # The copies stand in the order of the context's items.
        copy = dict(zip(sorted(context), EncryptedKeys.decode(encrypted_keys).copies, strict=True))[name]
    except (MalformedBlob, ValueError):
        custody.unreadable += 1
        return
    if copy.kind == KeyKind.CUSTOMER:
        custody.customer += 1
    else:
        custody.managed += 1
