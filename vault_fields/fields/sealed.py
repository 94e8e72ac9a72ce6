"""What an instance's ``__dict__`` holds for an encrypted field, and the batch of rows that were read together."""

import copy
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from django.views.decorators.debug import sensitive_variables

from vault_fields import companion as companion_format
from vault_fields.companion import Companion
from vault_fields.exceptions import DecryptionError, EnvelopeError, VaultError, VaultRefused
from vault_fields.keycache import KeyCache, Outcome
from vault_fields.keys import DataKey
from vault_fields.vaults import vaults

if TYPE_CHECKING:
    from django.db.models import Model

__all__ = ["Batch", "Handover", "Opened", "Pending", "Sealed"]


class Opened:
    """The plaintext of a sealed value: as the user sees it, and as the text that was encrypted."""

    __slots__ = ("encode", "text", "value")

    def __init__(self, value: Any, text: str, encode: Callable[[Any], str]) -> None:
        self.value = value
        self.text = text
        self.encode = encode

    @property
    def is_changed(self) -> bool:
        """Whether a mutable value was changed in place since it was opened."""
        return not isinstance(self.value, str) and not self.is_text_of(self.value)

    @sensitive_variables("value")
    def is_text_of(self, value: Any) -> bool:
        """Whether this is what would be encrypted of a value. It is not of one that cannot be: sealing says why."""
        try:
            return self.encode(value) == self.text
        except Exception:  # noqa: BLE001 - an encoder is the project's own code, and sealing tells that it failed.
            return False

    def __repr__(self) -> str:
        return "<opened>"


class Sealed:
    """
    A value as the database holds it, opened on first touch.

    ``text`` is the value column; ``keys`` the companion, and ``values`` the row's own columns that the value is bound
    to, both as they were read together with it - None where the query did not say, and the instance has to.
    ``loaded`` says that it came from the database; otherwise nobody knows whether it got there, since a transaction
    may be rolled back at any later time. ``anchored`` says that the row's columns that it was sealed for are, for all
    that is known, those that are stored. Pickles carry no plaintext.
    """

    __slots__ = ("anchored", "batch", "keys", "loaded", "opened", "text", "values")

    def __init__(
        self,
        text: str,
        keys: str | None = None,
        values: tuple[Any, ...] | None = None,
        batch: "Batch | None" = None,
        opened: Opened | None = None,
        *,
        loaded: bool = False,
        anchored: bool = False,
    ) -> None:
        self.text = text
        self.loaded = loaded
        self.anchored = loaded or anchored
        self.keys = keys
        self.values = values
        self.batch = batch
        self.opened = opened

    @property
    def is_changed(self) -> bool:
        """Whether its value was changed in place since it was opened."""
        return self.opened is not None and self.opened.is_changed

    def __reduce__(self) -> tuple[Any, ...]:
        if self.is_changed:
            raise TypeError("A value that was changed in place cannot be pickled before it is saved: it would be lost.")
        return _restore, (self.text, self.keys, self.values, self.loaded, self.anchored)

    def __copy__(self) -> "Sealed":
        return self.with_opened(self.opened)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Sealed":
        opened = self.opened
        if opened is not None:
            opened = Opened(copy.deepcopy(opened.value, memo), opened.text, opened.encode)
        return self.with_opened(opened)

    def with_opened(self, opened: Opened | None) -> "Sealed":
        return Sealed(self.text, self.keys, self.values, self.batch, opened, loaded=self.loaded, anchored=self.anchored)

    def __repr__(self) -> str:
        return "<sealed>"


def _restore(text: str, keys: str | None, values: tuple[Any, ...] | None, loaded: bool, anchored: bool) -> Sealed:
    return Sealed(text, keys, values, loaded=loaded, anchored=anchored)


class Pending:
    """A value that was assigned and not yet saved, and the sealed value that it takes the place of, if any."""

    __slots__ = ("previous", "value")

    def __init__(self, value: Any, previous: Sealed | None = None) -> None:
        self.value = value
        self.previous = previous

    def __reduce__(self) -> NoReturn:
        raise TypeError("An encrypted field that was assigned cannot be pickled before it is saved: save it first.")

    def __copy__(self) -> "Pending":
        return Pending(self.value, self.previous)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Pending":
        return Pending(copy.deepcopy(self.value, memo), self.previous)

    def __repr__(self) -> str:
        return "<pending>"


class Handover:
    """
    Stands in an instance while Django reads its attributes to write them somewhere else.

    Reading the attribute then gives ``stored`` itself, neither opened nor encrypted again.
    """

    __slots__ = ("stored",)

    def __init__(self, stored: Any) -> None:
        self.stored = stored


class Batch:
    """
    The companions of rows that one query read together: whoever needs a key asks for those of all its peers.

    Knows texts, or weak references to instances whose query could not say; never rows that the caller dropped. With
    ``hold`` it keeps the opened keys itself, for rows that are all opened at once.
    """

    __slots__ = ("_held", "_peers", "_settled", "_texts")

    def __init__(self, texts: Iterable[str | None] = (), *, hold: bool = False) -> None:
        self._texts = texts
        self._peers: list[tuple[weakref.ref[Model], str]] = []
        # The encrypted keys that are not worth asking for again on behalf of another row: that of a row that was
        # touched has been used, and one that was refused would be refused again each time.
        self._settled: set[str] = set()
        self._held: dict[str, Outcome] | None = {} if hold else None

    def add_peer(self, instance: "Model", companion_name: str) -> None:
        self._peers.append((weakref.ref(instance), companion_name))

    def key(self, companion: Companion) -> DataKey:
        """The data key of one row's companion. A call for each key of the batch that is missing, or none."""
        outcome = self._outcome(companion)
        if isinstance(outcome, VaultError):
            raise outcome
        return outcome

    def _outcome(self, companion: Companion) -> Outcome:
        if companion.vault not in vaults:
            raise DecryptionError(
                f"its keys are in the vault {companion.vault!r}, which settings.VAULTS does not name."
            )
        vault = vaults[companion.vault]
        wanted = companion.encrypted_keys
        self._settled.add(wanted)
        if self._held is not None and wanted in self._held:
            return self._held[wanted]
        key = vault.cache.get(wanted)
        if key is not None:
            return key
        # Companions have yet to prove which context a key belongs to: until then, any purge drops it.
        outcomes = vault.decrypt_data_keys(dict.fromkeys((wanted, *self._peers_of(companion, vault.cache))))
        if self._held is not None:
            self._held.update(outcomes)
        self._settled.update(name for name, outcome in outcomes.items() if isinstance(outcome, VaultRefused))
        return outcomes[wanted]

    def _peers_of(self, companion: Companion, cache: KeyCache) -> set[str]:
        """What to ask for along with one key: the others of its vault, as far as they can be kept until used."""
        peers: set[str] = set()
        room = cache.max_keys - 1 if cache.keeps_keys else 0
        for text in {*self._texts, *self._peer_texts()}:
            if self._held is None and len(peers) >= room:
                break
            if not text:
                continue
            try:
                peer = companion_format.decode(text)
            except EnvelopeError:
                continue  # The row that has it will say so, if it is touched.
            if peer.vault == companion.vault and peer.encrypted_keys not in self._settled:
                peers.add(peer.encrypted_keys)
        return peers

    def _peer_texts(self) -> Iterable[str | None]:
        for reference, name in self._peers:
            instance = reference()
            if instance is not None:
                yield instance.__dict__.get(name)
