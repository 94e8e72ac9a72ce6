"""The transit engine of OpenBao or HashiCorp Vault: what a team runs itself that outgrows one machine."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vault_fields.backends.remote import RemoteVault
from vault_fields.client import Endpoint
from vault_fields.datakeys.cache import Outcome
from vault_fields.exceptions import VaultError
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import Deadline
from vault_fields.runtime.frames import forgetful, forgetful_class
from vault_fields.transit.blob import EncryptedKeys, MalformedBlob
from vault_fields.transit.dialogue import Dialogue
from vault_fields.transit.meaning import is_batch, judge_openbao
from vault_fields.transit.names import PREFIX
from vault_fields.transit.session import Session
from vault_fields.transit.sources import AppRole, FixedToken, Source, TokenFile, is_token
from vault_fields.transit.steps import Transit

__all__ = ["OpenBaoVault"]

T = TypeVar("T")

# How long the newest version of a transit key is taken for the newest, while rows are looked through.
VERSION_AGE = 60.0

UNWRAP_POLICIES = ("all", "first")

A_PATH = "a path of letters, digits and ._-, without slashes around it"
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")


@forgetful_class
class OpenBaoVault(RemoteVault):
    """
    A vault over a transit engine: one transit key for each context item, made when it is first needed.

    ``addresses`` are those of the nodes of one cluster, tried in turn. It calls with a ``token``, with that of a
    ``token_file`` which an agent keeps, or by AppRole with ``role_id`` and ``secret_id``. ``mount`` and
    ``approle_mount`` are paths within ``namespace``. The names of its transit keys begin with ``key_prefix``.
    ``ca_file`` has the certificates to trust instead of the system's.

    ``unwrap`` says how many copies of a data key must open: ``"all"``, or the ``"first"`` whose key is neither
    withdrawn nor out of reach.

    ``calls`` counts requests, of which an operation may take several: see the documentation. The coroutines need a
    thread for a token.
    """

    def __init__(
        self,
        alias: str = "default",
        *,
        addresses: Sequence[str],
        token: str | None = None,
        token_file: str | Path | None = None,
        role_id: str | None = None,
        secret_id: str | None = None,
        approle_mount: str = "approle",
        mount: str = "transit",
        namespace: str | None = None,
        key_prefix: str = "vault-fields",
        unwrap: str = "all",
        ca_file: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(alias, **options)
        if unwrap not in UNWRAP_POLICIES:
            raise self.misconfigured("unwrap must be 'all' or 'first'.")
        if not _is_list(addresses) or not addresses:
            raise self.misconfigured("addresses must be a list of at least one URL.")
        self._require("mount", mount, _PATH, A_PATH)
        self._require("approle_mount", approle_mount, _PATH, A_PATH)
        if namespace is not None:
            self._require("namespace", namespace, _PATH, A_PATH)
        self._require("key_prefix", key_prefix, PREFIX, "a name of at most 64 letters, digits and ._-")
        self._transit = Transit(prefix=key_prefix, unwrap_all=unwrap == "all")
        source = self._source(token, token_file, role_id, secret_id, approle_mount)
        session = Session(source, namespace, alias=alias)
        self._connect(
            Endpoint(
                addresses,
                alias=alias,
                headers=session.headers,
                judge=judge_openbao,
                answers=is_batch,
                ca_file=ca_file,
                option="addresses",
            )
        )
        self._dialogue = Dialogue(
            session,
            self._client,
            self._async_client,
            alias=alias,
            mount=mount,
            timeout=self.seconds,
            concurrency=self._max_concurrency,
            count=self._count,
        )
        self._versions: dict[str, tuple[int, float]] = {}

    def key_name(self, name: str, value: str) -> str:
        """The name of the transit key for a context item."""
        return self._transit.names({name: value})[0]

    def wraps_so(self, encrypted_keys: str, context: KeyContext) -> bool:
        """As for every vault. One call for each transit key whose version was not asked for in the last minute."""
        blob = _decoded(encrypted_keys)
        return blob is not None and blob.names == self._transit.names(context) and self._is_current(blob)

    def rewrap_data_keys(self, wanted: Mapping[str, KeyContext]) -> dict[str, str | VaultError]:
        """As for every vault. One call for each transit key in any of them, and no data key leaves the engine."""
        # Those that are wrapped by keys of other names, which had another prefix, must be wrapped by other keys.
        renamed = {
            text: context
            for text, context in wanted.items()
            if (blob := _decoded(text)) is not None and blob.names != self._transit.names(context)
        }
        others = [text for text in wanted if text not in renamed]
        outcomes = self._named(self._dialogue.run("rewrap", self._transit.rewrap(others)))
        return super().rewrap_data_keys(renamed) | outcomes

    def _create(self, context: KeyContext) -> DataKey:
        return self._key(self._dialogue.run("create", self._transit.create(context), counted=1))

    def _decrypt(self, encrypted_keys: str, deadline: Deadline) -> DataKey:
        return self._key(self._decrypt_many([encrypted_keys], deadline)[encrypted_keys])

    def _rekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        return self._key(self._dialogue.run("rekey", self._transit.rekey(encrypted_keys, context), counted=1))

    async def _acreate(self, context: KeyContext) -> DataKey:
        return self._key(await self._dialogue.arun("create", self._transit.create(context), counted=1))

    async def _arekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        return self._key(await self._dialogue.arun("rekey", self._transit.rekey(encrypted_keys, context), counted=1))

    def _decrypt_many(self, encrypted_keys: list[str], deadline: Deadline) -> dict[str, Outcome]:
        return self._named(self._dialogue.run("decrypt", self._transit.open(encrypted_keys), deadline))

    async def _adecrypt_many(self, encrypted_keys: list[str], deadline: Deadline) -> dict[str, Outcome]:
        return self._named(await self._dialogue.arun("decrypt", self._transit.open(encrypted_keys), deadline))

    def _is_current(self, blob: EncryptedKeys) -> bool:
        now = time.monotonic()
        unknown = [name for name in blob.names if name not in self._versions or self._versions[name][1] <= now]
        if unknown:
            for name, version in self._named(self._dialogue.run("version", self._transit.versions(unknown))).items():
                if isinstance(version, VaultError):
                    raise version
                self._versions[name] = version, now + VERSION_AGE
        return all(copy.version >= self._versions[copy.key][0] for copy in blob.copies)

    def _key(self, outcome: Outcome) -> DataKey:
        if isinstance(outcome, VaultError):
            outcome.alias = self.alias
            raise outcome
        return outcome

    def _named(self, outcomes: dict[str, T]) -> dict[str, T]:
        """The same, in which every error says by what alias it was asked."""
        for outcome in outcomes.values():
            if isinstance(outcome, VaultError):
                outcome.alias = self.alias
        return outcomes

    @forgetful
    def _source(
        self, token: str | None, token_file: str | Path | None, role_id: str | None, secret_id: str | None, mount: str
    ) -> Source:
        given = [name for name, value in (("token", token), ("token_file", token_file), ("role_id", role_id)) if value]
        if len(given) != 1 or (role_id is None) != (secret_id is None):
            raise self.misconfigured("give either token, or token_file, or role_id with secret_id.")
        if role_id is not None and secret_id is not None:
            if not is_token(role_id) or not is_token(secret_id):
                raise self.misconfigured("role_id and secret_id must be texts without spaces around them.")
            return AppRole(mount, role_id, secret_id)
        if token_file is not None:
            # Relative to what? A server and a command that is run beside it start in two directories.
            path = Path(token_file)
            if not path.is_absolute():
                raise self.misconfigured("token_file must be an absolute path.")
            return TokenFile(path)
        if token is None or not is_token(token):
            raise self.misconfigured("token must be a text without spaces around it.")
        return FixedToken(token)

    def _require(self, name: str, value: object, pattern: re.Pattern[str], what: str) -> None:
        if not isinstance(value, str) or not pattern.fullmatch(value) or ".." in value:
            raise self.misconfigured(f"{name} must be {what}.")


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _decoded(encrypted_keys: str) -> EncryptedKeys | None:
    try:
        return EncryptedKeys.decode(encrypted_keys)
    except MalformedBlob:
        return None
