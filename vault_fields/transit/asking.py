"""What is asked of a transit engine, and what is read from its replies."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vault_fields.client import Answer
from vault_fields.exceptions import VaultError, VaultRefused
from vault_fields.keys import DATA_KEY_BYTES
from vault_fields.transit.blob import WrappedCopy
from vault_fields.transit.meaning import meaning

__all__ = ["Ask", "Payload", "Reply", "batch_results", "copy_in", "data_in", "plaintext_in"]


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


def data_in(reply: Answer) -> Mapping[str, Any]:
    data = reply.content.get("data")
    return data if isinstance(data, dict) else {}


def batch_results(reply: Reply, size: int) -> list[Mapping[str, Any]] | VaultError:
    """One result for each of ``size`` inputs, in their order."""
    if isinstance(reply, VaultError):
        return reply
    results = data_in(reply).get("batch_results")
    if not isinstance(results, list) or len(results) != size or not all(isinstance(each, dict) for each in results):
        return _nonsense("a batch of results")
    return results


def plaintext_in(result: Mapping[str, Any]) -> bytes | VaultError:
    """The data key in a result, or in the data of an answer."""
    if result.get("error"):
        return _failure(result)
    text = result.get("plaintext")
    try:
        plaintext = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        plaintext = b""
    return plaintext if len(plaintext) == DATA_KEY_BYTES else _nonsense("a data key")


def copy_in(key: str, result: Mapping[str, Any]) -> WrappedCopy | VaultError:
    """The wrapped copy in a result, or in the data of an answer."""
    if result.get("error"):
        return _failure(result)
    return WrappedCopy.of(key, result.get("ciphertext")) or _nonsense("a ciphertext")


def _failure(result: Mapping[str, Any]) -> VaultError:
    error, reason = meaning(str(result["error"])) or (VaultRefused, "the transit engine refused the encrypted keys")
    return error(f"{reason}.")


def _nonsense(expected: str) -> VaultError:
    return VaultRefused(f"the transit engine answered something that is not {expected}.", status=200)
