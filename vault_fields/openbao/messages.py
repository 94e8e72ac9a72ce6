"""Requests to a transit engine, and readers of its replies."""

from dataclasses import dataclass, field, replace
from typing import Any

from vault_fields.client import Answer
from vault_fields.exceptions import VaultError, VaultRefused
from vault_fields.keys import DATA_KEY_BYTES
from vault_fields.openbao.blob import WrappedCopy
from vault_fields.openbao.errors import failure_in
from vault_fields.text.encoding import decode_lenient_base64

__all__ = [
    "Payload",
    "Reply",
    "Request",
    "Round",
    "batch_results",
    "bytes_in",
    "ciphertext_in",
    "copy_in",
    "data_in",
    "data_key_in",
    "unexpected",
]


class Payload(dict[str, Any]):
    """The body of a request. Its ``repr`` is empty: it may hold a data key, and frames of tracebacks refer to it."""

    def __repr__(self) -> str:
        return "<payload>"


@dataclass(frozen=True, slots=True)
class Request:
    """One request for one transit key: a POST of the payload, or a GET without one."""

    operation: str
    key: str
    payload: Payload | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """The path below the mount."""
        return f"{self.operation}/{self.key}"

    def rule(self, mount: str) -> str:
        """The rule that a policy needs for this request."""
        if self.payload is None:
            capabilities = '"read"'
        else:
            # The engine makes a key that does not exist yet, and then requires the right to create.
            capabilities = '"create", "update"' if self.operation == "encrypt" else '"update"'
        return f'path "{mount}/{self.operation}/+" {{ capabilities = [{capabilities}] }}'


Reply = Answer | VaultError


@dataclass(frozen=True, slots=True)
class Round:
    """Requests that may be sent side by side, ``after`` a pause of so many seconds."""

    requests: list[Request]
    after: float = 0.0


def data_in(reply: Answer) -> Answer:
    data = reply.content.get("data")
    return replace(reply, content=data if isinstance(data, dict) else {})


def batch_results(reply: Reply, size: int) -> list[Answer] | VaultError:
    """One result for each of ``size`` inputs, in their order."""
    if isinstance(reply, VaultError):
        return reply
    results = data_in(reply).content.get("batch_results")
    if not isinstance(results, list) or len(results) != size or not all(isinstance(each, dict) for each in results):
        return unexpected(reply, "a batch of results")
    return [replace(reply, content=each) for each in results]


def data_key_in(result: Answer) -> bytes | VaultError:
    """The data key in a result of a batch, or in the data of an answer."""
    if result.content.get("error"):
        return _failure(result)
    plaintext = bytes_in(result)
    return plaintext if plaintext is not None and len(plaintext) == DATA_KEY_BYTES else unexpected(result, "a data key")


def copy_in(key: str, result: Answer) -> WrappedCopy | VaultError:
    """The wrapped copy in a result of a batch, or in the data of an answer."""
    if result.content.get("error"):
        return _failure(result)
    return WrappedCopy.of(key, result.content.get("ciphertext")) or unexpected(result, "a ciphertext")


def bytes_in(data: Answer) -> bytes | None:
    """The plaintext in the data of an answer; None if there is none."""
    text = data.content.get("plaintext")
    return decode_lenient_base64(text) if isinstance(text, str) else None


def ciphertext_in(data: Answer) -> bytes | None:
    """The ciphertext in the data of an answer, as the text that the engine made of it; None if there is none."""
    text = data.content.get("ciphertext")
    return text.encode() if isinstance(text, str) and text.isascii() else None


def unexpected(reply: Answer, expected: str) -> VaultError:
    return reply.refusal(f"the transit engine answered something that is not {expected}.")


def _failure(result: Answer) -> VaultError:
    error, reason = failure_in(str(result.content["error"])) or (
        VaultRefused,
        "the transit engine refused the encrypted keys",
    )
    return error(result.named(f"{reason}."))
