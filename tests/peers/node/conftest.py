"""WorkOS's SDK for Node as it comes from npm: the release for the Node that is here, and the newest with its own."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.peers.conftest import Served

SCRIPT = Path(__file__).with_name("peer.mjs")

# Version 9 and later need Node 22, which is on npm too.
RELEASES = {"8": ["@workos-inc/node@8"], "11": ["@workos-inc/node@11", "node@22"]}

Sdk = Callable[..., Any]


@pytest.fixture(scope="session", params=sorted(RELEASES))
def sdk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, served: Served) -> Sdk:
    """``sdk(command, *arguments)`` runs ``peer.mjs`` and returns what it prints."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.fail("The SDK for Node needs node (20 or later) and npm on the PATH: apt install nodejs npm.")
    directory = tmp_path_factory.mktemp(f"sdk-{request.param}")
    shutil.copy(SCRIPT, directory)
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--no-save", *RELEASES[request.param]]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    own = directory / "node_modules" / ".bin" / "node"
    interpreter = str(own) if own.exists() else node

    def run(*arguments: str) -> Any:
        environment = os.environ | {"VAULT_PORT": str(served.port), "VAULT_KEY": served.key}
        done = subprocess.run(
            [interpreter, SCRIPT.name, *arguments],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
