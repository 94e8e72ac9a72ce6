"""A customer's key in the transit engine of OpenBao or HashiCorp Vault."""

import base64
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from django.core.exceptions import ImproperlyConfigured

from vault_fields.byok.settings import associated_data, checked
from vault_fields.client import Answer, Endpoint, RetryPolicy, VaultClient, host_in
from vault_fields.embedded.customer.provider import Binding, KeyProvider
from vault_fields.exceptions import KeyRevoked, VaultError, VaultRefused, VaultUnavailable
from vault_fields.runtime.forks import follow_forks
from vault_fields.runtime.frames import forgetful, forgetful_class
from vault_fields.transit.asking import data_in, nonsense
from vault_fields.transit.meaning import TransitDoesNotOpen, TransitVersionMissing, meaning, said_in
from vault_fields.transit.sources import is_token

__all__ = ["OpenBaoTransit"]

_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_CAPABILITIES = "/v1/sys/capabilities-self"


@forgetful_class
class OpenBaoTransit(KeyProvider):
    """
    A symmetric key of a transit engine.

    Settings: ``address`` (https; plain http on this machine only), ``key``, and where the token is found: the name of
    an environment variable, ``token_env``, or the absolute path of a file, ``token_file``, which an agent may renew.
    Also ``mount`` (``transit``) and ``namespace``. The token itself is never a setting.
    """

    name = "OPENBAO_TRANSIT"

    def __init__(self, settings: Mapping[str, str]) -> None:
        optional = ["token_env", "token_file", "mount", "namespace"]
        self._settings = checked(settings, required=["address", "key"], optional=optional)
        if ("token_env" in settings) == ("token_file" in settings):
            raise ValueError("give either token_env or token_file.")
        if not os.path.isabs(settings.get("token_file", "/")):  # noqa: PTH117 - it stays the text that was configured.
            raise ValueError("token_file must be absolute.")
        self._mount = self._settings.get("mount", "transit")
        for name, path in (("key", self._settings["key"]), ("mount", self._mount)):
            if not _PATH.fullmatch(path) or (name == "key" and "/" in path) or ".." in path:
                raise ValueError(f"{name} must be a name of letters, digits and ._-.")
        self.reset_in_child()
        follow_forks(self)
        try:
            # What is wrong with the address shows now and not in use.
            self._endpoint("")
        except ImproperlyConfigured as error:
            raise ValueError(str(error).partition(": ")[2]) from None

    def __repr__(self) -> str:
        return f"<OpenBaoTransit {self._mount}/{self._settings['key']} at {self._settings['address']}>"

    def wrap(self, sealed: bytes, binding: Binding, *, timeout: float) -> bytes:
        payload = {"plaintext": _text(sealed), "associated_data": _text(associated_data(binding))}
        data = self._data("encrypt", payload, timeout)
        ciphertext = data.content.get("ciphertext")
        if not isinstance(ciphertext, str) or not ciphertext.isascii():
            raise nonsense(data, "a ciphertext")
        return ciphertext.encode()

    def unwrap(self, wrapped: bytes, binding: Binding, *, timeout: float) -> bytes:
        try:
            payload = {"ciphertext": wrapped.decode("ascii"), "associated_data": _text(associated_data(binding))}
        except UnicodeDecodeError:
            raise InvalidTag from None
        try:
            data = self._data("decrypt", payload, timeout)
        except (TransitDoesNotOpen, TransitVersionMissing):
            raise InvalidTag from None
        plaintext = data.content.get("plaintext")
        try:
            return base64.b64decode(plaintext if isinstance(plaintext, str) else "?", validate=True)
        except ValueError:
            raise nonsense(data, "a plaintext") from None

    def inspect(self, *, timeout: float) -> None:
        """A token that may create keys would have a deleted one made anew, silently and under the same name."""
        path = f"{self._mount}/encrypt/{self._settings['key']}"
        try:
            answer = self._client().post(_CAPABILITIES, {"paths": [path]}, timeout=timeout)
        except KeyRevoked as error:
            message = "the token is not valid, or may not look at its capabilities in sys/."
            raise VaultRefused(f"{message}{host_in(error)}", status=error.status) from None
        capabilities = answer.content.get("capabilities")
        if not isinstance(capabilities, list) or {"create", "root", "sudo"} & set(map(str, capabilities)):
            message = f"the token may create keys. Give it only the capability 'update' on {path}."
            raise VaultRefused(answer.named(message))

    def reset_in_child(self) -> None:
        """In a forked child; the client leaves its connections to the parent by itself."""
        self._lock = threading.Lock()
        self._held: tuple[str, VaultClient] | None = None

    def close(self) -> None:
        with self._lock:
            held, self._held = self._held, None
        if held is not None:
            held[1].close()

    def _data(self, operation: str, payload: Mapping[str, str], timeout: float) -> Answer:
        path = f"/v1/{self._mount}/{operation}/{self._settings['key']}"
        return data_in(self._client().post(path, payload, timeout=timeout))

    @forgetful
    def _client(self) -> VaultClient:
        token = self._token()
        with self._lock:
            if self._held is None or self._held[0] != token:
                # Calls that are under way end with the connections of the former token.
                former, self._held = self._held, (token, VaultClient(self._endpoint(token), RetryPolicy()))
                if former is not None:
                    former[1].close()
            return self._held[1]

    @forgetful
    def _endpoint(self, token: str) -> Endpoint:
        headers = {"X-Vault-Token": token}
        if "namespace" in self._settings:
            headers["X-Vault-Namespace"] = self._settings["namespace"]
        label = f"The transit key {self._mount}/{self._settings['key']}"
        return Endpoint(self._settings["address"], label=label, headers=headers, judge=_judge, option="address")

    @forgetful
    def _token(self) -> str:
        if (variable := self._settings.get("token_env")) is not None:
            token, source = os.environ.get(variable, ""), f"the environment variable {variable}"
        else:
            source = "the file of token_file"
            try:
                token = Path(self._settings["token_file"]).read_text("ascii", errors="replace").strip()
            except OSError as error:
                raise VaultUnavailable(f"the file of token_file cannot be read ({error.strerror}).") from None
        if not is_token(token):
            raise VaultUnavailable(f"{source} holds no token.")
        return token


def _judge(status: int, content: Mapping[str, Any]) -> tuple[type[VaultError], str] | None:
    """What a failure of the engine means, where its status alone does not say it."""
    if status in {403, 404}:
        return KeyRevoked, f"the transit engine does not let the key be used (HTTP {status})."
    found = meaning(said_in(content)) if status == 400 else None
    return found and (found[0], f"{found[1]} (HTTP {status}).")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
