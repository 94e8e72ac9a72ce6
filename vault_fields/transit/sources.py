"""Where the token of a vault over OpenBao comes from."""

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from vault_fields.client import Answer, VaultClient, host_in
from vault_fields.exceptions import VaultError, VaultRefused, VaultUnavailable
from vault_fields.runtime.frames import forgetful
from vault_fields.transit.asking import Payload

__all__ = ["AppRole", "FixedToken", "Grant", "Source", "TokenFile", "grant_in", "is_token"]

_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")

# How long the token of a file is used before the file is read again.
FILE_AGE = 60.0


def is_token(text: object) -> bool:
    """Whether it can stand in a header."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Grant:
    """A token, and for how many seconds it can be used: forever, if it does not expire or that is not known."""

    token: str = field(repr=False)
    seconds: float = math.inf
    renewable: bool = False


class Source(ABC):
    """Thread-safe."""

    # Whether asking again may bring another token.
    replaces: bool

    @abstractmethod
    def obtain(self, client: VaultClient, timeout: float) -> Grant:
        """Raises ``VaultError``. The client calls without a token, or with one that may have expired."""


class FixedToken(Source):
    """A token from the settings. How long it lasts is looked up, if it is allowed to look."""

    replaces = False

    def __init__(self, token: str) -> None:
        self._token = token

    def obtain(self, client: VaultClient, timeout: float) -> Grant:
        return Grant(self._token)


class TokenFile(Source):
    """A token in a file, which an agent keeps valid."""

    replaces = True

    def __init__(self, path: Path) -> None:
        self._path = path

    @forgetful
    def obtain(self, client: VaultClient, timeout: float) -> Grant:
        try:
            token = self._path.read_text("ascii", errors="replace").strip()
        except OSError as error:
            # The path is not shown, nor the error that has it: it may be a token in the wrong place.
            raise VaultUnavailable(f"the file of token_file cannot be read ({error.strerror}).") from None
        if not is_token(token):
            raise VaultUnavailable("the file of token_file holds no token.")
        return Grant(token, FILE_AGE)


class AppRole(Source):
    """A login by ``role_id`` and ``secret_id``."""

    replaces = True

    @forgetful
    def __init__(self, mount: str, role_id: str, secret_id: str) -> None:
        self._path = f"/v1/auth/{mount}/login"
        self._login = Payload(role_id=role_id, secret_id=secret_id)

    def obtain(self, client: VaultClient, timeout: float) -> Grant:
        try:
            answer = client.post(self._path, self._login, timeout=timeout)
        except VaultRefused as error:
            raise VaultRefused(
                f"the login by AppRole was refused (HTTP {error.status}). Check role_id, secret_id and approle_mount."
                f"{host_in(error)}",
                status=error.status,
            ) from None
        return grant_in(answer)


def grant_in(answer: Answer) -> Grant:
    """The grant in the answer to a login or a renewal, or ``VaultRefused``."""
    auth = answer.content.get("auth")
    if not isinstance(auth, dict) or not is_token(auth.get("client_token")):
        raise _nonsense(answer)
    return Grant(auth["client_token"], seconds_in(answer, auth.get("lease_duration")), auth.get("renewable") is True)


def seconds_in(answer: Answer, value: object) -> float:
    """A time to live out of an answer, where 0 stands for a token that does not expire."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _nonsense(answer)
    return value or math.inf


def _nonsense(answer: Answer) -> VaultError:
    return answer.refusal("the server answered something that is not a token.")
