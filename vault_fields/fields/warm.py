"""
The short way from stored text to the user's value, for values whose data key is in the cache.

Facts that are the same for all values - the group, its columns, the associated data - are found once for each field.
Everything unusual, and everything that fails, takes the long way through ``opening``, which asks the Vault, compares
with the database and reports faults. Nothing is opened here that would not be opened there.
"""

from asyncio import _get_running_loop
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from cryptography.exceptions import InvalidTag
from django.db.models import Model

from vault_fields.fields.batch import Batch
from vault_fields.fields.bindings import attribute_text
from vault_fields.fields.groups import group_of
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.proofs import known_proof, names_of
from vault_fields.keys import DataKey
from vault_fields.stored import envelope as envelope_format
from vault_fields.stored.cipher import open_under
from vault_fields.stored.envelope import AssociatedData

__all__ = ["WarmReader", "warm_reader"]

# By model and not on the field, which is copied with all that it holds into other models.
_readers: WeakKeyDictionary[type[Model], dict[str, "WarmReader"]] = WeakKeyDictionary()


class WarmReader:
    """
    A reader that opens values of one encrypted field with keys that a cache holds.

    ``plaintext`` takes the parts of a ``Sealed`` - companion, text, values, outside, batch - and returns the text that
    was encrypted, or None if the value takes the long way. Its errors say no more than None does.
    """

    __slots__ = ("plaintext",)

    def __init__(self, field: Encrypted) -> None:
        plaintext = _plaintext_of(field)
        self.plaintext = _unpadded(plaintext) if field.padded_to else plaintext


def warm_reader(field: Encrypted) -> WarmReader:
    """Return the one reader of a field of a model."""
    readers = _readers.setdefault(field.model, {})
    reader = readers.get(field.name)
    if reader is None:
        reader = readers[field.name] = WarmReader(field)
    return reader


def _plaintext_of(field: Encrypted) -> Callable[..., str | None]:
    """Return a function, so that facts common to all values are at hand for each without a look-up."""
    group = group_of(field)
    names = names_of(dict.fromkeys(binding.name for binding in group.bindings))
    # The place of the columns of ``bind_to`` among the values of a row, if there are any.
    bound_from = len(group.bindings) if group.bound[field.name] else None
    is_single = len(names) == 1
    has_outside = bool(group.source.outside)
    labels = [AssociatedData(label) for label in (field.label, *field.former_labels)]
    alone = [associated_data.alone for associated_data in labels]
    sealed_after = envelope_format.sealed_after

    def plaintext(
        companion: str | None,
        stored: str,
        values: tuple[Any, ...] | None,
        outside: Mapping[str, str | None] | None,
        batch: Batch | None,
    ) -> str | None:
        proof = known_proof(companion)  # type: ignore[arg-type]  # There is none for None.
        # In an event loop the long way decides whether a value may be opened at all.
        if proof is None or proof.names is not names or values is None or _get_running_loop() is not None:
            return None
        held = proof.held
        key = held.key
        if key is None or not proof.cache.is_fresh(held):
            return None
        if is_single:
            value = values[0]
            if (str(value) if value.__class__ is int else attribute_text(value)) != proof.texts[0]:
                return None
        elif _differ(values, proof.texts):
            return None
        if has_outside and not _is_where_it_was(outside, proof.context):
            return None
        raw = sealed_after(proof.prefix, stored)
        if raw is None:
            return None
        candidates = alone
        if bound_from is not None:
            bound = list(map(attribute_text, values[bound_from:]))
            candidates = [associated_data.with_bound(bound) for associated_data in labels]
        opened = _opened(key, raw, candidates)
        if opened is not None:
            held.used = True
            if batch is not None:
                batch.settled.add(proof.encrypted_keys)
        return opened

    return plaintext


def _unpadded(plaintext: Callable[..., str | None]) -> Callable[..., str | None]:
    """Return the function that leaves out the spaces with which a field fills its texts."""

    def unpadded(*parts: Any) -> str | None:
        text = plaintext(*parts)
        return None if text is None else text.rstrip(" ")

    return unpadded


def _opened(key: DataKey, raw: bytes, candidates: list[bytes]) -> str | None:
    for candidate in candidates:
        try:
            return open_under(key, raw, candidate)
        except InvalidTag:
            continue  # It was written under another label.
    return None


def _differ(values: tuple[Any, ...], texts: tuple[str | None, ...]) -> bool:
    """Whether the row has other columns than the companion. Those of ``bind_to`` come behind, and are no part of it."""
    return any(attribute_text(value) != text for value, text in zip(values, texts, strict=False))


def _is_where_it_was(outside: Mapping[str, str | None] | None, context: Mapping[str, str]) -> bool:
    return outside is not None and all(name in context and context[name] == value for name, value in outside.items())
