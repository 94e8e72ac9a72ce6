"""A process that waits for a starting gun and then makes a data key of a tenant that nobody has heard of."""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.calls import Calls
from tests.chaos.journal import Journal, entries
from tests.chaos.world import journal_in, journals_in
from vault_fields.keys import KeyContext
from vault_fields.vaults import vaults

__all__ = ["GUN", "opened", "run"]

GUN = "gun"
_NEW_TENANT = KeyContext({"organization_id": "new"})


def _fingerprint(key: bytes) -> str:
    """What tells one key from others and gives none away."""
    return hashlib.sha256(b"chaos " + key).hexdigest()


def run(directory: Path, slot: int, incarnation: int, seed: str, go_on: Callable[[], bool]) -> None:
    journal = Journal(journal_in(directory, slot, incarnation))
    gun = os.open(directory / GUN, os.O_RDONLY)
    journal.say(ready=True)
    # Whoever fires holds the lock alone until then, and all that wait for it are let go at once.
    fcntl.flock(gun, fcntl.LOCK_SH)
    with journal.operation("create", {}, (), Calls()):
        key = vaults["default"].create_data_key(_NEW_TENANT)
    journal.say(encrypted_keys=key.encrypted_keys, fingerprint=_fingerprint(key.plaintext))
    fcntl.flock(gun, fcntl.LOCK_UN)
    while go_on():
        time.sleep(0.2)


def opened(directory: Path) -> dict[str, str]:
    """What the encrypted keys of all of them open to, in a process that has none."""
    answers = [entries(path)[-1]["encrypted_keys"] for path in journals_in(directory)]
    keys = {encrypted_keys: vaults["default"].decrypt_data_key(encrypted_keys) for encrypted_keys in answers}
    return {encrypted_keys: _fingerprint(key.plaintext) for encrypted_keys, key in keys.items()}
