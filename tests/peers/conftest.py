"""The embedded Vault as ``manage.py vault_serve`` serves it, for SDKs that take it for WorkOS."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.testapp.models import Organization, Patient
from vault_fields.backends.local import LocalVault
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.server.apikeys import hash_api_key

ROOT = Path(__file__).resolve().parent.parent.parent

KEY, OTHER_KEY = "sk_test_peers", "sk_test_other"

SETTINGS = """
from tests.settings import *

VAULTS["default"] = {{
    "BACKEND": "vault_fields.backends.local.LocalVault",
    "OPTIONS": {{"path": {path!r}, "root_key": {root_key!r}}},
}}
VAULT_SERVER = {{
    "keys": [
        {{"name": "Peers", "environment": "peers", "sha256": {key!r}}},
        {{"name": "Others", "environment": "others", "sha256": {other_key!r}}},
    ]
}}
"""


@dataclass(frozen=True)
class Served:
    url: str
    key: str = KEY
    other_key: str = OTHER_KEY

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    path, root_key = directory / "vault.sqlite3", generate_root_key()
    with closing(LocalVault(path=path, root_key=root_key)) as vault:
        vault.service.create_keystore()
    (directory / "peers_settings.py").write_text(
        SETTINGS.format(
            path=str(path),
            root_key=root_key,
            key=hash_api_key(KEY),
            other_key=hash_api_key(OTHER_KEY),
        )
    )
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "peers_settings",
        "PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)]),
    }
    command = [sys.executable, "-m", "django", "vault_serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"Vault ready at (http://127\.0\.0\.1:\d+)\n", line)
        try:
            assert found, line
            yield Served(found[1])
        finally:
            process.kill()


@pytest.fixture
def patient(served: Served, settings: Any, db: None) -> Patient:
    """A row whose data key is of the Vault that the SDKs call too."""
    options = {"api_key": served.key, "base_url": served.url}
    settings.VAULTS = {"default": {"BACKEND": "vault_fields.backends.workos.WorkOSVault", "OPTIONS": options}}
    organization = Organization.objects.create(workos_id="org_1")
    row = Patient.objects.create(organization=organization, ssn="123-45-6789", history={"grüße": [1, None, "🙂"]})
    return Patient.objects.get(pk=row.pk)
