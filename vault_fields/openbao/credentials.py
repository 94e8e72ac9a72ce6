"""Sources of the token to call with: a setting, a variable or a file that holds one, or a login by AppRole."""

import math
import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from vault_fields.client import Answer, VaultClient, host_in
from vault_fields.exceptions import VaultError, VaultRefused, VaultUnavailable
from vault_fields.openbao.messages import Payload
from vault_fields.runtime.frames import forgetful

__all__ = [
    "AppRole",
    "FixedToken",
    "GivenSecret",
    "Grant",
    "Secret",
    "SecretFile",
    "SecretVariable",
    "TokenFile",
    "TokenSource",
    "TokenVariable",
    "grant_in",
    "is_secret",
    "seconds_in",
]

_SECRET = re.compile(r"[\x21-\x7e]{1,4096}")

# Seconds for which the token of a file is used before the file is read again.
FILE_AGE = 60.0
# Seconds after which the lifetime of the token in a variable is looked up. The first call costs no further request.
VARIABLE_AGE = 60.0


def is_secret(text: object) -> bool:
    """Whether it can be a token or a secret id: a token must fit into a header."""
    return isinstance(text, str) and _SECRET.fullmatch(text) is not None


class Secret(ABC):
    """A token or a secret id, wherever it is kept."""

    @abstractmethod
    def read(self) -> str:
        """The secret. Raises ``VaultUnavailable`` if there is none now."""


class GivenSecret(Secret):
    """A secret from the settings of the project."""

    @forgetful
    def __init__(self, text: str) -> None:
        self._text = text

    def read(self) -> str:
        return self._text


class SecretFile(Secret):
    """A secret in a file, which somebody else may replace. ``option`` names the file in messages."""

    def __init__(self, path: str | Path, *, option: str, kind: str = "token") -> None:
        self._path = Path(path)
        self._option = option
        self._kind = kind

    @forgetful
    def read(self) -> str:
        try:
            text = self._path.read_text("ascii", errors="replace").strip()
        except OSError as error:
            # Neither the path nor the error, which quotes it, is shown: it may be a secret in the wrong place.
            raise VaultUnavailable(f"the file of {self._option} cannot be read ({error.strerror}).") from None
        if not is_secret(text):
            raise VaultUnavailable(f"the file of {self._option} holds no {self._kind}.")
        return text


class SecretVariable(Secret):
    """A secret in a variable of the environment."""

    def __init__(self, name: str, *, kind: str = "token") -> None:
        self._name = name
        self._kind = kind

    @forgetful
    def read(self) -> str:
        text = os.environ.get(self._name, "")
        if not is_secret(text):
            raise VaultUnavailable(f"the environment variable {self._name} holds no {self._kind}.")
        return text


@dataclass(frozen=True, slots=True)
class Grant:
    """A token and its lifetime in seconds: infinite if the token does not expire or its lifetime is unknown."""

    token: str = field(repr=False)
    seconds: float = math.inf
    renewable: bool = False


class TokenSource(ABC):
    """A source of tokens. Thread-safe."""

    # Whether another call of ``obtain`` may bring another token. The lifetime of any other token is looked up.
    replaces: bool
    # Seconds after which it is looked up.
    look_up_after: float = 0.0

    @abstractmethod
    def obtain(self, client: VaultClient, timeout: float) -> Grant:
        """
        Obtain a token. Raises ``VaultError``. The client calls without a token, or with one that may have expired.
        """

    def has_changed(self, token: str) -> bool:
        """Whether the source is known to have another token by now."""
        return False


class FixedToken(TokenSource):
    """A token from the settings. Its lifetime is looked up if its policies allow that."""

    replaces = False

    @forgetful
    def __init__(self, token: str) -> None:
        self._token = token

    def obtain(self, client: VaultClient, timeout: float) -> Grant:
        return Grant(self._token)


class TokenFile(TokenSource):
    """A token in a file, which an agent keeps valid. A ``watched`` file is read for each call."""

    replaces = True

    def __init__(self, path: str | Path, *, watched: bool = False) -> None:
        self._secret = SecretFile(path, option="token_file")
        self._watched = watched

    def obtain(self, client: VaultClient, timeout: float) -> Grant:
        return Grant(self._secret.read(), FILE_AGE)

    def has_changed(self, token: str) -> bool:
        return self._watched and self._secret.read() != token


class TokenVariable(TokenSource):
    """A token in a variable of the environment, which is read for each call."""

    replaces = False
    look_up_after = VARIABLE_AGE

    def __init__(self, name: str) -> None:
        self._secret = SecretVariable(name)

    def obtain(self, client: VaultClient, timeout: float) -> Grant:
        return Grant(self._secret.read())

    def has_changed(self, token: str) -> bool:
        return self._secret.read() != token


class AppRole(TokenSource):
    """A login by AppRole. ``options`` are the settings to check if it is refused."""

    replaces = True

    @forgetful
    def __init__(self, mount: str, role_id: str, secret_id: Secret, *, options: str) -> None:
        self._path = f"/v1/auth/{mount}/login"
        self._role_id = role_id
        self._secret_id = secret_id
        self._options = options

    def obtain(self, client: VaultClient, timeout: float) -> Grant:
        login = Payload(role_id=self._role_id, secret_id=self._secret_id.read())
        try:
            answer = client.post(self._path, login, timeout=timeout)
        except VaultRefused as error:
            raise VaultRefused(
                f"the login by AppRole was refused (HTTP {error.status}). Check {self._options}.{host_in(error)}",
                status=error.status,
            ) from None
        return grant_in(answer)


def grant_in(answer: Answer) -> Grant:
    """The grant in the answer to a login or a renewal. Raises ``VaultRefused`` if there is none."""
    auth = answer.content.get("auth")
    if not isinstance(auth, dict) or not is_secret(auth.get("client_token")):
        raise _unexpected(answer)
    return Grant(auth["client_token"], seconds_in(answer, auth.get("lease_duration")), auth.get("renewable") is True)


def seconds_in(answer: Answer, value: object) -> float:
    """The time to live in an answer, in which 0 stands for a token that does not expire."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _unexpected(answer)
    return value or math.inf


def _unexpected(answer: Answer) -> VaultError:
    return answer.refusal("the server answered something that is not a token.")
