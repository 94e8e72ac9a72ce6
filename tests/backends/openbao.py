"""A vault over a real OpenBao server: a mount of its own, and a token that may do what the documentation grants."""

import re
import uuid
from pathlib import Path
from typing import Any

from tests.byok.peers import Bao
from vault_fields.backends.openbao import OpenBaoVault

PAGE = Path(__file__).parent.parent.parent / "docs" / "openbao.md"


def granted_policy(mount: str) -> str:
    """The policy that the documentation says to paste."""
    found = re.search(r"^```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found[1].replace('"transit/', f'"{mount}/')


def new_mount(bao: Bao) -> str:
    mount = f"transit-{uuid.uuid4().hex}"
    bao.call(f"sys/mounts/{mount}", {"type": "transit"})
    return mount


def new_policy(bao: Bao, rules: str) -> str:
    policy = f"policy-{uuid.uuid4().hex}"
    bao.call(f"sys/policies/acl/{policy}", {"policy": rules})
    return policy


def new_token(bao: Bao, mount: str, **options: Any) -> str:
    policy = new_policy(bao, granted_policy(mount))
    token: str = bao.call("auth/token/create", {"policies": [policy], **options})["auth"]["client_token"]
    return token


def new_vault(bao: Bao, **options: Any) -> OpenBaoVault:
    """One that shares nothing with any other on the same server."""
    mount = options.pop("mount", None) or new_mount(bao)
    if not options.keys() & {"token", "token_file", "role_id"}:
        options["token"] = new_token(bao, mount)
    # The server is real, and the machine may be slow.
    return OpenBaoVault("tested", addresses=[bao.url], mount=mount, **{"timeout": 60, **options})
