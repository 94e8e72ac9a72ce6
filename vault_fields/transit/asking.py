"""What is asked of a transit engine, and what is read from its replies."""

import base64
from dataclasses import dataclass, field, replace
from typing import Any

from vault_fields.client import Answer
from vault_fields.exceptions import VaultError, VaultRefused
from vault_fields.keys import DATA_KEY_BYTES
from vault_fields.transit.blob import WrappedCopy
from vault_fields.transit.meaning import meaning

__all__ = ["Ask", "Payload", "Reply", "Round", "batch_results", "copy_in", "data_in", "nonsense", "plaintext_in"]


class Payload(dict[str, Any]):
    """What is sent. It does not show: a data key may be in it, and the frames of a traceback have it."""

    def __repr__(self) -> str:
        return "<payload>"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for one transit key: a POST of the payload, or a GET without one."""

    operation: str
    key: str
    payload: Payload | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """Within the mount."""
        return f"{self.operation}/{self.key}"

    def rule(self, mount: str) -> str:
        """What the policies of a token must have in them for this."""
        if self.payload is None:
            capabilities = '"read"'
        else:
            # Where its key does not exist yet, the engine makes it and takes the request for a creation.
            capabilities = '"create", "update"' if self.operation == "encrypt" else '"update"'
        return f'path "{mount}/{self.operation}/+" {{ capabilities = [{capabilities}] }}'


Reply = Answer | VaultError


@dataclass(frozen=True, slots=True)
class Round:
    """What can be asked side by side, ``after`` a pause of so many seconds."""

    asks: list[Ask]
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
        return nonsense(reply, "a batch of results")
    return [replace(reply, content=each) for each in results]


def plaintext_in(result: Answer) -> bytes | VaultError:
    """The data key in a result, or in the data of an answer."""
    if result.content.get("error"):
        return _failure(result)
    text = result.content.get("plaintext")
    try:
        plaintext = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        plaintext = b""
    return plaintext if len(plaintext) == DATA_KEY_BYTES else nonsense(result, "a data key")


def copy_in(key: str, result: Answer) -> WrappedCopy | VaultError:
    """The wrapped copy in a result, or in the data of an answer."""
    if result.content.get("error"):
        return _failure(result)
    return WrappedCopy.of(key, result.content.get("ciphertext")) or nonsense(result, "a ciphertext")


def nonsense(reply: Answer, expected: str) -> VaultError:
    return reply.refusal(f"the transit engine answered something that is not {expected}.")


def _failure(result: Answer) -> VaultError:
    said = str(result.content["error"])
    error, reason = meaning(said) or (VaultRefused, "the transit engine refused the encrypted keys")
    return error(result.named(f"{reason}."))
