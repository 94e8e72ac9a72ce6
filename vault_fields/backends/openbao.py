"""A vault over the transit engine of OpenBao or HashiCorp Vault, for teams that outgrow one machine."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vault_fields.backends.remote import RemoteVault
from vault_fields.client import Endpoint
from vault_fields.datakeys.cache import Outcome
from vault_fields.exceptions import VaultError
from vault_fields.keys import DataKey, KeyContext
from vault_fields.openbao.blob import EncryptedKeys, MalformedBlob
from vault_fields.openbao.credentials import AppRole, FixedToken, GivenSecret, TokenFile, TokenSource, is_secret
from vault_fields.openbao.datakeys import Transit
from vault_fields.openbao.engine import Engine
from vault_fields.openbao.errors import is_batch, judge_openbao
from vault_fields.openbao.names import A_PATH, is_path, is_prefix
from vault_fields.openbao.session import Session
from vault_fields.runtime.deadline import Deadline
from vault_fields.runtime.frames import forgetful, forgetful_class

__all__ = ["OpenBaoVault"]

T = TypeVar("T")

# Seconds for which the newest version of a transit key is remembered while many rows are looked at.
VERSION_AGE = 60.0

UNWRAP_POLICIES = ("all", "first")


@forgetful_class
class OpenBaoVault(RemoteVault):
    """
    A vault over a transit engine: one transit key for each context item, made when it is first needed.

    ``addresses`` are those of the nodes of one cluster, tried in turn. The token to call with is ``token``, is read
    from ``token_file``, which an agent keeps valid, or comes from a login by AppRole with ``role_id`` and
    ``secret_id``. ``mount`` and ``approle_mount`` are paths within ``namespace``. The names of the transit keys begin
    with ``key_prefix``. ``ca_file`` has the certificates to trust instead of the system's.

    ``unwrap`` says how many copies of a data key must open: ``"all"``, or the ``"first"`` whose key is neither
    withdrawn nor out of reach.

    ``calls`` counts requests. An operation may take several: see the documentation. Coroutines use a thread only to
    get a token.
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
        for name, path in (("mount", mount), ("approle_mount", approle_mount), ("namespace", namespace)):
            if not is_path(path) and not (name == "namespace" and path is None):
                raise self.misconfigured(f"{name} must be {A_PATH}.")
        if not is_prefix(key_prefix):
            raise self.misconfigured("key_prefix must be a name of at most 64 letters, digits and ._-.")
        self._transit = Transit(prefix=key_prefix, unwrap_all=unwrap == "all")
        source = self._source(token, token_file, role_id, secret_id, approle_mount)
        session = Session(source, namespace, label=f"VAULTS[{alias!r}]")
        self._connect(
            Endpoint(
                addresses,
                alias=alias,
                headers=session.headers,
                judge=judge_openbao,
                answers=is_batch,
                ca_file=ca_file,
                option="addresses",
                budget=self._budget,
            )
        )
        self._engine = Engine(
            session,
            self._client,
            self._async_client,
            mount=mount,
            alias=alias,
            timeout=self.seconds,
            concurrency=self._max_concurrency,
            count=self._count,
        )
        self._versions: dict[str, tuple[int, float]] = {}

    def key_name(self, name: str, value: str) -> str:
        """The name of the transit key for a context item."""
        return self._transit.names({name: value})[0]

    def is_current(self, encrypted_keys: str, context: KeyContext) -> bool:
        """
        Whether the newest versions of today's keys wrap them. One call for each transit key, at most once a minute.
        """
        blob = _decoded(encrypted_keys)
        return blob is not None and blob.names == self._transit.names(context) and self._is_current(blob)

    def rewrap_data_keys(self, wanted: Mapping[str, KeyContext]) -> dict[str, str | VaultError]:
        """Rewrap data keys. One call for each transit key in any of them, and no data key leaves the engine."""
        # A former prefix gave keys other names. Data keys under those must be wrapped by the keys of today.
        renamed = {
            text: context
            for text, context in wanted.items()
            if (blob := _decoded(text)) is not None and blob.names != self._transit.names(context)
        }
        others = [text for text in wanted if text not in renamed]
        outcomes = self._named(self._engine.run("rewrap", self._transit.rewrap(others)))
        return super().rewrap_data_keys(renamed) | outcomes

    def _create(self, context: KeyContext) -> DataKey:
        return self._key(self._engine.run("create", self._transit.create(context), counted=1))

    def _decrypt(self, encrypted_keys: str, deadline: Deadline) -> DataKey:
        return self._key(self._decrypt_many([encrypted_keys], deadline)[encrypted_keys])

    def _rekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        return self._key(self._engine.run("rekey", self._transit.rekey(encrypted_keys, context), counted=1))

    async def _acreate(self, context: KeyContext) -> DataKey:
        return self._key(await self._engine.arun("create", self._transit.create(context), counted=1))

    async def _arekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        return self._key(await self._engine.arun("rekey", self._transit.rekey(encrypted_keys, context), counted=1))

    def _decrypt_many(self, encrypted_keys: list[str], deadline: Deadline) -> dict[str, Outcome]:
        return self._named(self._engine.run("decrypt", self._transit.open(encrypted_keys), deadline))

    async def _adecrypt_many(self, encrypted_keys: list[str], deadline: Deadline) -> dict[str, Outcome]:
        return self._named(await self._engine.arun("decrypt", self._transit.open(encrypted_keys), deadline))

    def _is_current(self, blob: EncryptedKeys) -> bool:
        now = time.monotonic()
        unknown = [name for name in blob.names if name not in self._versions or self._versions[name][1] <= now]
        if unknown:
            for name, version in self._named(self._engine.run("version", self._transit.versions(unknown))).items():
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
        """The same outcomes, with the alias of this vault in every error."""
        for outcome in outcomes.values():
            if isinstance(outcome, VaultError):
                outcome.alias = self.alias
        return outcomes

    @forgetful
    def _source(
        self, token: str | None, token_file: str | Path | None, role_id: str | None, secret_id: str | None, mount: str
    ) -> TokenSource:
        given = [name for name, value in (("token", token), ("token_file", token_file), ("role_id", role_id)) if value]
        if len(given) != 1 or (role_id is None) != (secret_id is None):
            raise self.misconfigured("give either token, or token_file, or role_id with secret_id.")
        if role_id is not None and secret_id is not None:
            if not is_secret(role_id) or not is_secret(secret_id):
                raise self.misconfigured("role_id and secret_id must be texts without spaces around them.")
            options = "role_id, secret_id and approle_mount"
            return AppRole(mount, role_id, GivenSecret(secret_id), options=options)
        if token_file is not None:
            # A server, and a command that is run beside it, may start in two directories.
            path = Path(token_file)
            if not path.is_absolute():
                raise self.misconfigured("token_file must be an absolute path.")
            return TokenFile(path)
        if token is None or not is_secret(token):
            raise self.misconfigured("token must be a text without spaces around it.")
        return FixedToken(token)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _decoded(encrypted_keys: str) -> EncryptedKeys | None:
    try:
        return EncryptedKeys.decode(encrypted_keys)
    except MalformedBlob:
        return None
