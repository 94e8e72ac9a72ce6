"""
Operations of a transit engine, as generators without I/O: above all those on data keys.

An operation yields a round of requests, is sent the replies in the same order, and returns an outcome. Errors are
replies and outcomes. None is raised here: a traceback would have data keys in its frames.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID, uuid4

from vault_fields.client import Answer, host_in
from vault_fields.datakeys.cache import Outcome
from vault_fields.exceptions import KeyRevoked, VaultError, VaultRefused, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.openbao.blob import EncryptedKeys, MalformedBlob, WrappedCopy
from vault_fields.openbao.errors import NOT_KNOWN_YET, TransitKeyMissing, TransitVersionMissing
from vault_fields.openbao.messages import (
    Payload,
    Reply,
    Request,
    Round,
    batch_results,
    copy_in,
    data_in,
    data_key_in,
    unexpected,
)
from vault_fields.openbao.names import key_name
from vault_fields.text.encoding import encode_base64

__all__ = ["Steps", "Transit", "asked"]

T = TypeVar("T")
Steps = Generator[Round, list[Reply], T]

# OpenBao refuses JSON with more than 1,000 strings (its max_request_json_strings), and each copy makes two of them.
BATCH_SIZE = 400

# Nobody can take such a key out of the engine, nor delete it by a single call.
NEW_KEY = {"type": "aes256-gcm96", "exportable": False, "allow_plaintext_backup": False}

# Seconds to wait before each further request to a standby node that may not have heard of a key, or a version, yet.
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)


def asked(request: Request, *, places: int) -> Steps[Reply]:
    """
    One request. Of several ``places`` one may not have heard of a key's newest version yet, and is asked again.

    A key that is missing is believed: it was there when it was configured.
    """
    [reply] = yield Round([request])
    for pause in PAUSES if places > 1 else ():
        if not isinstance(reply, TransitVersionMissing):
            break
        [reply] = yield Round([request], after=pause)
    return reply


class Transit:
    """The keys of a vault in a transit engine: one for each context item. Their names begin with ``prefix``."""

    def __init__(self, *, prefix: str, unwrap_all: bool) -> None:
        self._prefix = prefix
        self._unwrap_all = unwrap_all

    def names(self, context: Mapping[str, str]) -> list[str]:
        return [key_name(self._prefix, name, value) for name, value in context.items()]

    def create(self, context: KeyContext) -> Steps[Outcome]:
        first, *others = self.names(context)
        [reply] = yield from _making_keys([Request("datakey/plaintext", first, Payload())])
        if isinstance(reply, VaultError):
            return reply
        plaintext, copy = data_key_in(data_in(reply)), copy_in(first, data_in(reply))
        if isinstance(plaintext, VaultError):
            return plaintext
        if isinstance(copy, VaultError):
            return copy
        return (yield from self._wrap(uuid4().bytes, plaintext, [copy], others))

    def rekey(self, text: str, context: KeyContext) -> Steps[Outcome]:
        """Wrap the same data key, with the same id, for another context."""
        outcome = (yield from self.open([text]))[text]
        if isinstance(outcome, VaultError):
            return outcome
        return (yield from self._wrap(UUID(outcome.id).bytes, outcome.plaintext, [], self.names(context)))

    def open(self, texts: Iterable[str]) -> Steps[dict[str, Outcome]]:
        outcomes: dict[str, Outcome] = {}
        pending = _decoded(texts, outcomes)
        if self._unwrap_all:
            opened = yield from _decrypted(copy for blob in pending.values() for copy in blob.copies)
            for text, blob in pending.items():
                outcomes[text] = _proved(text, blob, [opened[copy] for copy in blob.copies])
            return outcomes
        failures: defaultdict[str, list[VaultError]] = defaultdict(list)
        position = 0
        while pending:
            opened = yield from _decrypted(blob.copies[position] for blob in pending.values())
            for text, blob in list(pending.items()):
                found = opened[blob.copies[position]]
                if isinstance(found, (KeyRevoked, VaultUnavailable)):
                    failures[text].append(found)
                    if len(failures[text]) < len(blob.copies):
                        continue
                    outcomes[text] = _most_hopeful(failures[text])
                else:
                    outcomes[text] = _proved(text, blob, [found])
                del pending[text]
            position += 1
        return outcomes

    def rewrap(self, texts: Iterable[str]) -> Steps[dict[str, str | VaultError]]:
        """
        Wrap the same copies by the newest versions of their keys. A text whose copies all are stays as it is.

        The engine does it inside: no data key leaves it.
        """
        refused: dict[str, Outcome] = {}
        blobs = _decoded(texts, refused)
        renewed = yield from _in_batches(
            "rewrap",
            (copy for blob in blobs.values() for copy in blob.copies),
            lambda copy, found: copy_in(copy.key, found),
        )
        outcomes: dict[str, str | VaultError] = {
            text: outcome for text, outcome in refused.items() if isinstance(outcome, VaultError)
        }
        for text, blob in blobs.items():
            outcomes[text] = _rewrapped(blob, renewed)
        return outcomes

    def versions(self, names: Sequence[str]) -> Steps[dict[str, int | VaultError]]:
        """The newest version of each of these keys."""
        replies = yield Round([Request("keys", name) for name in names])
        return {name: _version(reply) for name, reply in zip(names, replies, strict=True)}

    def _wrap(
        self, data_key_id: bytes, plaintext: bytes, copies: list[WrappedCopy], names: Sequence[str]
    ) -> Steps[Outcome]:
        text = encode_base64(plaintext)
        requests = [Request("encrypt", name, Payload(plaintext=text)) for name in names]
        replies = (yield from _making_keys(requests)) if requests else []
        for name, reply in zip(names, replies, strict=True):
            copy = reply if isinstance(reply, VaultError) else copy_in(name, data_in(reply))
            if isinstance(copy, VaultError):
                return copy
            copies.append(copy)
        encrypted_keys = EncryptedKeys.of(data_key_id, plaintext, copies).encode()
        return DataKey(str(UUID(bytes=data_key_id)), encrypted_keys, plaintext)


def _making_keys(requests: list[Request]) -> Steps[list[Reply]]:
    """Send the requests. Where a key does not exist yet, make it and send its request again."""
    replies = list((yield Round(requests)))
    missing = [index for index, reply in enumerate(replies) if isinstance(reply, TransitKeyMissing)]
    if not missing:
        return replies
    made = yield Round([Request("keys", requests[index].key, Payload(NEW_KEY)) for index in missing])
    for index, reply in zip(missing, made, strict=True):
        replies[index] = reply
    again = [index for index in missing if not isinstance(replies[index], VaultError)]
    late: dict[int, TransitKeyMissing] = {}
    for pause in (0.0, *PAUSES):
        if not again:
            break
        found = yield Round([requests[index] for index in again], after=pause)
        for index, reply in zip(again, found, strict=True):
            replies[index] = reply
        late = {index: each for index, each in zip(again, found, strict=True) if isinstance(each, TransitKeyMissing)}
        again = list(late)
    for index, missed in late.items():
        # It was made, so nobody revoked it. A node is far behind, as when the cluster has just lost its leader.
        told = "a transit key was made and is not known yet to the node that was asked."
        replies[index] = VaultUnavailable(f"{told}{host_in(missed)}")
    return replies


def _decoded(texts: Iterable[str], outcomes: dict[str, Outcome]) -> dict[str, EncryptedKeys]:
    """The blobs by their texts. A text that is not a blob gets a refusal in ``outcomes``."""
    blobs = {}
    for text in texts:
        try:
            blobs[text] = EncryptedKeys.decode(text)
        except MalformedBlob:
            outcomes[text] = VaultRefused("the encrypted keys are not of this kind of vault, or are damaged.")
    return blobs


def _decrypted(copies: Iterable[WrappedCopy]) -> Steps[dict[WrappedCopy, bytes | VaultError]]:
    return (yield from _in_batches("decrypt", copies, lambda copy, found: data_key_in(found)))


def _in_batches(
    operation: str, copies: Iterable[WrappedCopy], read: Callable[[WrappedCopy, Answer], T | VaultError]
) -> Steps[dict[WrappedCopy, T | VaultError]]:
    """Send all copies in one request for each key, or for each ``BATCH_SIZE`` copies of a key."""
    outcomes: dict[WrappedCopy, T | VaultError] = {}
    wanted = list(dict.fromkeys(copies))
    for pause in (0.0, *PAUSES):
        batches = _batches(wanted)
        if not batches:
            break
        replies = yield Round(
            [Request(operation, batch[0].key, _payload(operation, batch)) for batch in batches], after=pause
        )
        for batch, reply in zip(batches, replies, strict=True):
            results = batch_results(reply, len(batch))
            for index, copy in enumerate(batch):
                outcomes[copy] = results if isinstance(results, VaultError) else read(copy, results[index])
        wanted = [copy for copy in wanted if isinstance(outcomes[copy], NOT_KNOWN_YET)]
    return outcomes


def _batches(copies: Iterable[WrappedCopy]) -> list[list[WrappedCopy]]:
    by_key: defaultdict[str, list[WrappedCopy]] = defaultdict(list)
    for copy in copies:
        by_key[copy.key].append(copy)
    return [
        found[start : start + BATCH_SIZE] for found in by_key.values() for start in range(0, len(found), BATCH_SIZE)
    ]


def _payload(operation: str, copies: Sequence[WrappedCopy]) -> Payload:
    payload = Payload(batch_input=[{"ciphertext": copy.ciphertext} for copy in copies])
    if operation == "decrypt":
        # Without it, one copy that does not open would hide the results of the others.
        payload["partial_failure_response_code"] = 200
    return payload


def _proved(text: str, blob: EncryptedKeys, opened: Sequence[bytes | VaultError]) -> Outcome:
    failures = [found for found in opened if isinstance(found, VaultError)]
    if failures:
        return _most_final(failures)
    plaintexts = {found for found in opened if isinstance(found, bytes)}
    if len(plaintexts) != 1 or not blob.belongs_to(next(iter(plaintexts))):
        return VaultRefused("the encrypted keys do not open.")
    return DataKey(str(UUID(bytes=blob.data_key_id)), text, plaintexts.pop())


def _rewrapped(blob: EncryptedKeys, renewed: Mapping[WrappedCopy, WrappedCopy | VaultError]) -> str | VaultError:
    copies = []
    for copy in blob.copies:
        new = renewed[copy]
        if isinstance(new, VaultError):
            return new
        copies.append(copy if new.version == copy.version else new)
    return EncryptedKeys(blob.data_key_id, tuple(copies), blob.commitment).encode()


def _version(reply: Reply) -> int | VaultError:
    if isinstance(reply, VaultError):
        return reply
    version = data_in(reply).content.get("latest_version")
    return version if isinstance(version, int) and version > 0 else unexpected(reply, "a version")


def _most_final(failures: Sequence[VaultError]) -> VaultError:
    # All copies are needed: while one is revoked, waiting for another is useless.
    return next((error for error in failures if not isinstance(error, VaultUnavailable)), failures[0])


def _most_hopeful(failures: Sequence[VaultError]) -> VaultError:
    # One copy is enough: while one key may come back, trying again may help.
    return next((error for error in failures if isinstance(error, VaultUnavailable)), failures[0])
