"""Counts of values under each version of a managed KEK, which would be refused if older versions were retired."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from vault_fields.audit.companions import Claim, Proofs, Standing, hangs_on
from vault_fields.audit.places import Place, in_environment, stored_keys
from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.embedded.blob import EncryptedKeys
from vault_fields.embedded.objects import StoredObjects
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, silent

__all__ = ["Usage", "versions_in_use"]


@dataclass(slots=True)
class Usage:
    """
    Numbers of values by version of the KEK.

    ``unverified`` counts again those of which it is unknown whether they open: a key of theirs is disabled, retired or
    destroyed, or is a customer's. ``altered`` ones are not among ``versions``: they name the KEK, and do not belong to
    their data key.
    """

    versions: Counter[int] = field(default_factory=Counter)
    unverified: Counter[int] = field(default_factory=Counter)
    altered: int = 0


@forgetful
def versions_in_use(
    vault: EmbeddedBackend,
    kek_id: UUID,
    wanted: Iterable[Place],
    *,
    environment: str | None = None,
    progress: Progress = silent,
) -> Usage:
    """
    Count the values under a KEK, in the tables ``wanted`` and among the objects of the environment.

    Another environment than the vault's own has only objects. Opens each data key that the KEK has wrapped, to verify
    what was stored with it, and no customer's provider is asked.
    """
    found = Usage()
    service, wanted = in_environment(vault, environment, wanted)
    counter = _Counter(found, Proofs(vault, service), kek_id.bytes)
    for row in stored_keys(wanted, progress=progress):
        if row.claim is not None and row.claim.companion.vault == vault.alias:
            counter.count(row.claim)
    for claim in StoredObjects(service).claims():
        if claim is not None:
            counter.count(claim)
    return found


@dataclass(frozen=True, slots=True)
class _Counter:
    found: Usage
    proofs: Proofs
    kek_id: bytes

    def count(self, claim: Claim) -> None:
        if not hangs_on(claim.encrypted_keys, frozenset([self.kek_id])):
            return
        standing = self.proofs.of(claim)
        if standing is Standing.FALSE:
            self.found.altered += claim.values
            return
        for copy in EncryptedKeys.decode(claim.encrypted_keys).copies:
            if copy.kek_id == self.kek_id:
                self.found.versions[copy.kek_version] += claim.values
                if standing is Standing.UNVERIFIED:
                    self.found.unverified[copy.kek_version] += claim.values
