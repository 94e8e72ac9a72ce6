"""The owners of the keys of stored data: how much is under a managed KEK, and how much under a customer's key."""

from collections.abc import Iterable
from dataclasses import dataclass

from vault_fields.audit.companions import Claim, Proofs, Standing, hangs_on, keys_of_item
from vault_fields.audit.places import Place, in_environment, stored_keys
from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.embedded.blob import EncryptedKeys, KeyKind, MalformedBlob
from vault_fields.embedded.objects import StoredObjects
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, silent

__all__ = ["OBJECTS", "OwnerCounts", "owner_counts"]

# The label under which the objects that the vault itself stores are counted.
OBJECTS = "stored objects"


@dataclass(slots=True)
class OwnerCounts:
    """
    Numbers of rows, or objects, whose key context has an item.

    ``unverified`` counts again those that were counted on their own claim: a key of theirs is refused, or belongs to a
    customer, who was not asked. ``unreadable`` counts damaged companions, whatever their item, since they may be any
    tenant's; and altered ones of this item, or under a key of this item.
    """

    managed: int = 0
    customer: int = 0
    unverified: int = 0
    unreadable: int = 0

    def __str__(self) -> str:
        unverified = f", {self.unverified} of these unverified" if self.unverified else ""
        damaged = f", {self.unreadable} unreadable or altered companions" if self.unreadable else ""
        return f"{self.managed} under the managed key, {self.customer} under a customer's key{unverified}{damaged}"


@forgetful
def owner_counts(
    vault: EmbeddedBackend,
    name: str,
    value: str,
    wanted: Iterable[Place],
    *,
    environment: str | None = None,
    progress: Progress = silent,
) -> dict[str, OwnerCounts]:
    """
    Count what is under the keys of an item, by companion column, in the tables ``wanted`` and among the vault's
    objects.

    Another ``environment`` than the vault's own has only objects. Reads every row, a page in memory at a time, and
    writes nothing. Opens each data key of the item that is only under managed KEKs, to verify what was stored with it;
    no customer's provider is asked.
    """
    service, wanted = in_environment(vault, environment, wanted)
    found = {place.label: OwnerCounts() for place in wanted}
    counter = _Counter(Proofs(vault, service), keys_of_item(service, name, value), name, value)
    for row in stored_keys(wanted, progress=progress):
        if row.claim is None:
            found[row.label].unreadable += 1
        elif row.claim.companion.vault == vault.alias:
            counter.count(found[row.label], row.claim)
    found[OBJECTS] = OwnerCounts()
    for claim in StoredObjects(service).claims():
        if claim is None:
            found[OBJECTS].unreadable += 1
        else:
            counter.count(found[OBJECTS], claim)
    return found


@dataclass(frozen=True, slots=True)
class _Counter:
    proofs: Proofs
    keys: frozenset[bytes]
    name: str
    value: str

    def count(self, counts: OwnerCounts, claim: Claim) -> None:
        if claim.context.get(self.name) != self.value:
            # Nothing is wrapped under a key of an item that is not in its context.
            counts.unreadable += hangs_on(claim.encrypted_keys, self.keys)
            return
        standing = self.proofs.of(claim)
        kind = _kind(claim, self.name)
        if standing is Standing.FALSE or kind is None:
            counts.unreadable += 1
            return
        counts.unverified += standing is Standing.UNVERIFIED
        if kind == KeyKind.CUSTOMER:
            counts.customer += 1
        else:
            counts.managed += 1


def _kind(claim: Claim, name: str) -> KeyKind | None:
    try:
        # The copies are in the order of the context's items.
        copies = zip(sorted(claim.context), EncryptedKeys.decode(claim.encrypted_keys).copies, strict=True)
        return dict(copies)[name].kind
    except (MalformedBlob, ValueError):
        return None
