"""A vault that is kept across a fork, as by a module that is imported before workers are forked."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.backends.conftest import KINDS
from tests.byok.peers import Bao

ROOT = Path(__file__).parent.parent.parent


def locks(config: dict[str, Any], **environment: str) -> set[str]:
    """The names of the locks that were held while children were forked, each of which got through."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.backends.forking", json.dumps(config)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


COMMON = {"vaults._lock", "vault._calls_lock", "vault._share._lock", "vault._reserve._lock", "vault.cache._lock"}
EMBEDDED = {
    "vault.service._ring._lock",
    "vault.service._ring._looking",
    "vault.service._ring.store.events._lock",
    "vault.service._ring.store.events._flush_lock",
    "vault.service._customer_keys._providers._lock",
    "vault.service._customer_keys._circuits._lock",
}
REMOTE = {
    *("vault._client._lines._lock", "vault._client._overdue._lock"),
    "vault._async_client._look_ups._lock",
}
TOKEN = {"vault._engine._session._lock"}
EXPECTED = {"memory": EMBEDDED, "local": EMBEDDED, "workos": REMOTE, "openbao": REMOTE | TOKEN}


@pytest.mark.parametrize("kind", KINDS)
def test_child_goes_on_whatever_lock_was_held(entry: Callable[[str], dict[str, Any]], kind: str) -> None:
    """It speaks on no connection of its parent, closes none, and the parent goes on too."""
    assert locks({"entry": entry(kind)}) == COMMON | EXPECTED[kind]


def test_child_goes_on_with_customers_keys(entry: Callable[[str], dict[str, Any]], bao: Bao) -> None:
    config = {"entry": entry("local"), "provider": {"provider": "openbao", "settings": bao.settings()}}

    assert locks(config, BAO_TOKEN_OF_THE_TESTS=bao.new_token()) >= COMMON | EMBEDDED
