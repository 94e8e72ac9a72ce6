import base64
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.byok.peers import AWS_ENVIRONMENT, Bao, Gate, Kms, running_bao, running_kms
from tests.keystores import make_keystore
from vault_fields.backends.local import LocalVault
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.keys import KeyContext

ROOT_KEY = generate_root_key()
ACME = KeyContext({"organization_id": "acme"})
PAIR = KeyContext({"organization_id": "acme", "purpose": "care"})
OTHER = KeyContext({"organization_id": "other"})
ITEM = ("organization_id", "acme")

PAGE = (Path(__file__).parents[2] / "docs" / "byok.md").read_text("utf-8")

MakeVault = Callable[..., LocalVault]


@pytest.fixture(scope="session")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AWS_ENVIRONMENT.items():
            patch.setenv(name, value)
        with running_kms(tmp_path_factory.mktemp("kms")) as kms:
            yield kms


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with running_bao(tmp_path_factory.mktemp("bao")) as bao, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAO_TOKEN_OF_THE_TESTS", bao.new_token())
        yield bao


@pytest.fixture
def gate() -> Iterator[Callable[[str], Gate]]:
    with ExitStack() as stack:

        def before(url: str) -> Gate:
            made = Gate(url)
            stack.callback(made.shut)
            return made

        yield before


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "customer.key"
    path.touch(0o400)
    path.chmod(0o600)
    path.write_bytes(secrets.token_bytes(32))
    return path


@pytest.fixture(params=["file", "aws", "openbao"])
def customer(request: pytest.FixtureRequest) -> dict[str, object]:
    """A customer's key of each kind, as ``configure`` takes it."""
    if request.param == "file":
        return {"provider": "file", "settings": {"path": str(request.getfixturevalue("key_file"))}}
    peer = request.getfixturevalue({"aws": "kms", "openbao": "bao"}[request.param])
    return {"provider": request.param, "settings": peer.settings()}


@pytest.fixture
def make_vault(tmp_path: Path) -> Iterator[MakeVault]:
    """Vaults over one keystore, each with caches of its own, as another process would have."""
    with ExitStack() as stack:

        def make(**options: object) -> LocalVault:
            settings: dict[str, object] = {
                "path": tmp_path / "vault.sqlite3",
                "root_key": ROOT_KEY,
                "timeout": 60,
                **options,
            }
            make_keystore(tmp_path / "vault.sqlite3", ROOT_KEY)
            return stack.enter_context(closing(LocalVault("tested", **settings)))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def vault(make_vault: MakeVault) -> LocalVault:
    return make_vault()


def activate(vault: LocalVault, customer: dict[str, object], name: str = ITEM[0], value: str = ITEM[1]) -> None:
    vault.byok.configure(name, value, **customer)  # type: ignore[arg-type]
    vault.byok.verify(name, value)
    vault.byok.activate(name, value)


def on_the_page(heading: str, language: str) -> str:
    """The first block in this language under a heading of the page on customers' keys."""
    section = PAGE.partition(f"\n### {heading}\n")[2]
    return section.partition(f"```{language}\n")[2].partition("```")[0]


def forms_of(secret: bytes) -> list[bytes]:
    """What a log would hold of a secret that was sent, in any usual spelling."""
    return [secret, base64.b64encode(secret), secret.hex().encode(), repr(secret).encode()]
