"""Key contexts and data keys: the two values that everything else passes around."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault_fields.exceptions import KeyContextError
from vault_fields.runtime.frames import forgetful, forgetful_class
from vault_fields.text.encoding import compact_json

__all__ = ["DATA_KEY_BYTES", "MAX_ITEMS", "MAX_NAME_LENGTH", "MAX_VALUE_LENGTH", "DataKey", "KeyContext"]

# The limits of the specification, in characters, not bytes.
MAX_ITEMS = 10
MAX_NAME_LENGTH = 120
MAX_VALUE_LENGTH = 500

DATA_KEY_BYTES = 32


class KeyContext(Mapping[str, str]):
    """
    The immutable set of name → value items that decides which keys encrypt a value.

    Takes 1 to 10 items; names of 1 to 120 and values of 0 to 500 characters, all of them strings that UTF-8 can hold.
    Anything else raises ``KeyContextError``. Two contexts with the same items are equal and hash alike, whatever
    their order.
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, str]) -> None:
        if not isinstance(items, Mapping):
            raise KeyContextError(f"A key context is a mapping of names to values, not {type(items).__name__}.")
        if not items:
            raise KeyContextError("A key context needs at least one item.")
        if len(items) > MAX_ITEMS:
            raise KeyContextError(f"A key context has at most {MAX_ITEMS} items, not {len(items)}.")
        for name, value in items.items():
            _check_name(name)
            _check_value(name, value)
        self._items = {name: items[name] for name in sorted(items)}
        self._hash = hash(tuple(self._items.items()))

    @property
    def canonical(self) -> bytes:
        """The one byte string for these items: compact JSON in UTF-8, names in code point order."""
        return compact_json(self._items).encode()

    def __getitem__(self, name: str) -> str:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, KeyContext):
            return self._items == other._items
        if isinstance(other, Mapping):
            return self._items == dict(other)
        return NotImplemented

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"KeyContext({self._items!r})"


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise KeyContextError(f"Names in a key context are strings, not {type(name).__name__}.")
    if not name:
        raise KeyContextError("An item of a key context needs a name; this one is empty.")
    if len(name) > MAX_NAME_LENGTH:
        raise KeyContextError(
            f"Names in a key context have at most {MAX_NAME_LENGTH} characters, not {len(name)}: {name[:20]!r}…"
        )
    _check_encodable(name, "A name")


def _check_value(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise KeyContextError(f"Values in a key context are strings; {name!r} has {type(value).__name__}.")
    if len(value) > MAX_VALUE_LENGTH:
        raise KeyContextError(
            f"Values in a key context have at most {MAX_VALUE_LENGTH} characters; {name!r} has {len(value)}."
        )
    _check_encodable(value, f"The value of {name!r}")


def _check_encodable(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise KeyContextError(f"{what} in a key context holds a lone surrogate, which UTF-8 cannot encode.") from None


@forgetful_class
@dataclass(frozen=True, slots=True, eq=False)
class DataKey:
    """
    A data key in the clear, with the encrypted keys that the Vault can open again.

    ``id`` is the Vault's name for it, ``encrypted_keys`` is opaque text to store beside the data, ``plaintext`` is
    32 bytes. It stays in this process: ``repr`` hides the key, and copying or pickling one raises ``TypeError``.
    """

    id: str
    encrypted_keys: str
    plaintext: bytes = field(repr=False)
    _aead: AESGCM | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if len(self.plaintext) != DATA_KEY_BYTES:
            raise ValueError(f"A data key has {DATA_KEY_BYTES} bytes, not {len(self.plaintext)}.")

    @property
    def aead(self) -> AESGCM:
        """The cipher of this key. Building it costs more than one use of it, so it is built once, on first use."""
        aead = self._aead
        if aead is None:
            aead = AESGCM(self.plaintext)
            object.__setattr__(self, "_aead", aead)
        return aead

    @forgetful
    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("A data key cannot be pickled or copied: it must not leave this process in the clear.")
