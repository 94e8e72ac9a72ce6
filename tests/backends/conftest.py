from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.backends.openbao import new_mount, new_token
from tests.byok.peers import Bao, running_bao
from tests.keystores import make_keystore
from tests.server.conftest import running
from tests.testapp.models import Organization
from vault_fields.backends.local import LocalVault
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.server.api import VaultApi
from vault_fields.server.apikeys import ApiKey, ApiKeys, hash_api_key

KINDS = ["memory", "local", "workos", "openbao"]


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with running_bao(tmp_path_factory.mktemp("bao")) as bao:
        yield bao


@pytest.fixture
def entry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], dict[str, Any]]]:
    """An entry of ``VAULTS``, and behind it a vault, of one kind."""
    with ExitStack() as stack:

        def make(kind: str) -> dict[str, Any]:
            backend = "vault_fields.backends."
            local = {"path": str(tmp_path / f"{kind}.sqlite3"), "root_key": generate_root_key()}
            make_keystore(**local)
            if kind == "memory":
                return {"BACKEND": backend + "memory.InMemoryVault"}
            if kind == "local":
                return {"BACKEND": backend + "local.LocalVault", "OPTIONS": local}
            if kind == "openbao":
                bao: Bao = request.getfixturevalue("bao")
                mount = new_mount(bao)
                options = {"addresses": [bao.url], "mount": mount, "token": new_token(bao, mount)}
                return {"BACKEND": backend + "openbao.OpenBaoVault", "OPTIONS": options}
            served = stack.enter_context(closing(LocalVault("served", **local)))
            served.service.unlock()
            url = stack.enter_context(
                running(VaultApi(served.service, ApiKeys([ApiKey(hash_api_key("sk_test_4f9Za81"))])))
            )
            return {
                "BACKEND": backend + "workos.WorkOSVault",
                "OPTIONS": {"api_key": "sk_test_4f9Za81", "base_url": url},
            }

        yield make


@pytest.fixture
def acme(db: None) -> Organization:
    return Organization.objects.create(workos_id="org_acme")


@pytest.fixture
def evil(db: None) -> Organization:
    return Organization.objects.create(workos_id="org_evil")
