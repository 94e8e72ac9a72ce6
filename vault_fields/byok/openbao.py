"""A customer key in the transit engine of OpenBao or HashiCorp Vault."""

import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from django.core.exceptions import ImproperlyConfigured

from vault_fields.byok.settings import associated_data, checked
from vault_fields.client import Answer, AsyncVaultClient, Endpoint, RetryPolicy, VaultClient, address_fault, host_in
from vault_fields.embedded.customer.provider import Binding, KeyProvider
from vault_fields.exceptions import KeyRevoked, VaultError, VaultRefused
from vault_fields.openbao.credentials import (
    AppRole,
    Secret,
    SecretFile,
    SecretVariable,
    TokenFile,
    TokenSource,
    TokenVariable,
    is_secret,
)
from vault_fields.openbao.datakeys import asked
from vault_fields.openbao.engine import Engine
from vault_fields.openbao.errors import TransitDoesNotOpen, TransitVersionMissing, judge_customer_key
from vault_fields.openbao.messages import Payload, Request, bytes_in, ciphertext_in, data_in, unexpected
from vault_fields.openbao.names import is_path
from vault_fields.openbao.session import Session
from vault_fields.runtime.deadline import Deadline
from vault_fields.runtime.frames import forgetful_class
from vault_fields.text.encoding import encode_base64

__all__ = ["OpenBaoTransit"]

_CAPABILITIES = "/v1/sys/capabilities-self"

_OPTIONAL = [
    "address",
    "addresses",
    "token_env",
    "token_file",
    "role_id",
    "secret_id_env",
    "secret_id_file",
    "approle_mount",
    "mount",
    "namespace",
    "ca_file",
]


@forgetful_class
class OpenBaoTransit(KeyProvider):
    """
    A symmetric key of a transit engine.

    Settings: ``key``, and the ``address`` of the server or the ``addresses`` of the nodes of one cluster, separated by
    commas (https; plain http on this machine only). The token to call with is found by one of ``token_env``, the name
    of an environment variable, ``token_file``, the absolute path of a file that an agent may renew, and ``role_id``,
    for a login by AppRole whose secret id ``secret_id_env`` or ``secret_id_file`` leads to. Tokens and secret ids are
    never settings. Optional: ``mount`` (``transit``), ``approle_mount`` (``approle``), ``namespace`` of both, and
    ``ca_file``, the absolute path of the certificates to trust instead of the system's.
    """

    name = "OPENBAO_TRANSIT"

    def __init__(self, settings: Mapping[str, str]) -> None:
        settings = checked(settings, required=["key"], optional=_OPTIONAL)
        option, self._addresses = _addresses(settings)
        source = _token_source(settings)
        self._key, self._mount = settings["key"], settings.get("mount", "transit")
        # A namespace may be written as OpenBao shows it, with a slash at its end.
        namespace = settings.get("namespace", "none").strip("/")
        for name, path in (("key", self._key), ("mount", self._mount), ("namespace", namespace)):
            if not is_path(path) or (name == "key" and "/" in path):
                raise ValueError(f"{name} must be a name of letters, digits and ._-.")
        label = f"The transit key {self._mount}/{self._key}"
        session = Session(source, settings.get("namespace"), label=label)
        endpoint = Endpoint(
            self._addresses,
            label=label,
            headers=session.headers,
            judge=judge_customer_key,
            ca_file=_absolute(settings, "ca_file"),
            option=option,
        )
        self._client = VaultClient(endpoint, RetryPolicy())
        self._engine = Engine(session, self._client, AsyncVaultClient(endpoint), mount=self._mount)

    def __repr__(self) -> str:
        return f"<OpenBaoTransit {self._mount}/{self._key} at {', '.join(self._addresses)}>"

    def wrap(self, sealed: bytes, binding: Binding, *, timeout: float) -> bytes:
        data = self._data("encrypt", Payload(plaintext=encode_base64(sealed)), binding, timeout)
        ciphertext = ciphertext_in(data)
        if ciphertext is None:
            raise unexpected(data, "a ciphertext")
        return ciphertext

    def unwrap(self, wrapped: bytes, binding: Binding, *, timeout: float) -> bytes:
        try:
            data = self._data("decrypt", Payload(ciphertext=wrapped.decode("ascii")), binding, timeout)
        except (UnicodeDecodeError, TransitDoesNotOpen, TransitVersionMissing):
            raise InvalidTag from None
        plaintext = bytes_in(data)
        if plaintext is None:
            raise unexpected(data, "a plaintext")
        return plaintext

    def inspect(self, *, timeout: float) -> None:
        """Refuse a token that may create keys: a deleted key would be made anew, silently and under the same name."""
        path = f"{self._mount}/encrypt/{self._key}"
        try:
            answer = self._engine.post(_CAPABILITIES, {"paths": [path]}, Deadline(timeout))
        except KeyRevoked as error:
            message = "the token is not valid, or may not look at its capabilities in sys/."
            raise VaultRefused(f"{message}{host_in(error)}", status=error.status) from None
        except ImproperlyConfigured as error:
            raise VaultRefused(str(error)) from None
        capabilities = answer.content.get("capabilities")
        if not isinstance(capabilities, list) or {"create", "root", "sudo"} & set(map(str, capabilities)):
            message = f"the token may create keys. Give it only the capability 'update' on {path}."
            raise VaultRefused(answer.named(message))

    def close(self) -> None:
        self._client.close()

    def _data(self, operation: str, payload: Payload, binding: Binding, timeout: float) -> Answer:
        payload["associated_data"] = encode_base64(associated_data(binding))
        steps = asked(Request(operation, self._key, payload), places=len(self._addresses))
        try:
            reply = self._engine.run(operation, steps, Deadline(timeout))
        except ImproperlyConfigured as error:
            # Certificates are read when they are first needed.
            raise VaultRefused(str(error)) from None
        if isinstance(reply, VaultError):
            raise reply
        return data_in(reply)


def _addresses(settings: Mapping[str, str]) -> tuple[str, list[str]]:
    """The name of the setting that has the addresses, and the addresses."""
    if ("address" in settings) == ("addresses" in settings):
        raise ValueError("give either address or addresses.")
    option = "address" if "address" in settings else "addresses"
    addresses = [settings["address"]] if option == "address" else [*map(str.strip, settings["addresses"].split(","))]
    for address in addresses:
        if fault := address_fault(address):
            raise ValueError(f"{option} {fault}")
    return option, addresses


def _token_source(settings: Mapping[str, str]) -> TokenSource:
    if len({"token_env", "token_file", "role_id"} & set(settings)) != 1:
        raise ValueError("give either token_env or token_file or role_id.")
    if (role_id := settings.get("role_id")) is not None:
        mount = settings.get("approle_mount", "approle")
        if not is_secret(role_id) or not is_path(mount):
            raise ValueError(
                "role_id must be a text without spaces, and approle_mount a path of letters, digits and ._-."
            )
        secret_id, name = _secret_id(settings)
        return AppRole(mount, role_id, secret_id, options=f"role_id, {name} and approle_mount")
    if {"secret_id_env", "secret_id_file", "approle_mount"} & set(settings):
        raise ValueError("secret_id_env, secret_id_file and approle_mount are for role_id.")
    if (path := _absolute(settings, "token_file")) is not None:
        return TokenFile(path, watched=True)
    return TokenVariable(settings["token_env"])


def _secret_id(settings: Mapping[str, str]) -> tuple[Secret, str]:
    """The secret id, and the name of the setting that leads to it."""
    if ("secret_id_env" in settings) == ("secret_id_file" in settings):
        raise ValueError("role_id needs either secret_id_env or secret_id_file.")
    if (path := _absolute(settings, "secret_id_file")) is not None:
        return SecretFile(path, option="secret_id_file", kind="secret id"), "secret_id_file"
    return SecretVariable(settings["secret_id_env"], kind="secret id"), "secret_id_env"


def _absolute(settings: Mapping[str, str], name: str) -> str | None:
    path = settings.get(name)
    if path is not None and not os.path.isabs(path):  # noqa: PTH117 - it stays the text that was configured.
        raise ValueError(f"{name} must be absolute.")
    return path
