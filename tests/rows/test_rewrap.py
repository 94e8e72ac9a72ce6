"""New wrappings are asked for once, and belong to the context that they were asked for."""

from typing import Never

import pytest

from vault_fields.exceptions import DecryptionError, KeyUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.rows.rewrap import Wrappings
from vault_fields.stored import companion as companion_format
from vault_fields.stored.companion import Companion

ACME, GLOBEX, NEW = (KeyContext({"organization_id": name}) for name in ("acme", "globex", "new"))
KEY, OTHER = (DataKey("key-1", "wrapped", bytes([byte]) * 32) for byte in (1, 2))


class Naming:
    """A vault whose encrypted keys do not change with the context, as one that wraps under a single key may have it."""

    def __init__(self, answer=KEY):
        self.asked = []
        self.answer = answer

    def rewrap_data_keys(self, wanted):
        self.asked.append(dict(wanted))
        return {text: f"{text} for {context['organization_id']}" for text, context in wanted.items()}

    def rekey_data_key(self, encrypted_keys, context):
        self.asked.append({encrypted_keys: context})
        return DataKey(self.answer.id, f"{encrypted_keys} for {context['organization_id']}", self.answer.plaintext)


def made(context, encrypted_keys="wrapped"):
    return companion_format.proven(Companion("default", "key-1", encrypted_keys, context, {}), KEY)


def test_two_contexts_of_the_same_encrypted_keys_do_not_get_each_others() -> None:
    wrappings = Wrappings(vault := Naming())
    companions = [made(ACME), made(GLOBEX), made(ACME), made(GLOBEX, "more")]
    wrappings.prepare(companions)
    wrappings.prepare(companions)
    assert vault.asked == [{"wrapped": GLOBEX, "more": GLOBEX}, {"wrapped": ACME}]
    for companion in companions:
        new = wrappings.rewrapped(companion, KEY)
        assert new.encrypted_keys == f"{companion.encrypted_keys} for {companion.context['organization_id']}"
        assert new.context == companion.context
        companion_format.verify(new, KEY)


def test_a_rekey_is_asked_for_once_for_each_context_and_proven_anew() -> None:
    wrappings = Wrappings(vault := Naming())
    for context in (GLOBEX, NEW, GLOBEX):
        new = wrappings.rekeyed(made(ACME), context, KEY)
        assert (new.context, new.encrypted_keys) == (context, f"wrapped for {context['organization_id']}")
        companion_format.verify(new, KEY)
    assert vault.asked == [{"wrapped": GLOBEX}, {"wrapped": NEW}]


def test_a_vault_that_answers_another_data_key_is_not_believed() -> None:
    """The values would be lost: nothing holds their data key any more."""
    wrappings = Wrappings(vault := Naming(OTHER))
    for _ in range(2):
        with pytest.raises(DecryptionError, match="does not belong to its data key"):
            wrappings.rekeyed(made(ACME), GLOBEX, KEY)
    assert len(vault.asked) == 2


def test_a_customers_key_that_is_away_is_asked_once_for_each_batch() -> None:
    class Away(Naming):
        def rekey_data_key(self, encrypted_keys, context) -> Never:
            super().rekey_data_key(encrypted_keys, context)
            raise KeyUnavailable("It does not answer.")

    wrappings = Wrappings(vault := Away())
    for _ in range(2):
        wrappings.prepare([])
        for encrypted_keys in ("wrapped", "more"):
            with pytest.raises(KeyUnavailable):
                wrappings.rekeyed(made(ACME, encrypted_keys), NEW, KEY)
    assert vault.asked == [{"wrapped": NEW}] * 2
