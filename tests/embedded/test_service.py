import base64
import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from vault_fields.embedded.blob import EncryptedKeys, WrappedCopy
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.embedded.managed.rootkey import RootKey
from vault_fields.embedded.managed.store import KeyStore
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import KeyRevoked, VaultRefused
from vault_fields.keys import DataKey, KeyContext

ACME = KeyContext({"organization_id": "acme"})
PAIR = KeyContext({"organization_id": "acme", "purpose": "care"})
REFUSAL = re.escape("The encrypted keys do not open in this vault.")


def altered(key: DataKey, *, copies: list[WrappedCopy] | None = None, data_key_id: bytes | None = None) -> str:
    blob = EncryptedKeys.decode(key.encrypted_keys)
    return EncryptedKeys(data_key_id or blob.data_key_id, tuple(copies or blob.copies)).encode()


def copies(key: DataKey) -> tuple[WrappedCopy, ...]:
    return EncryptedKeys.decode(key.encrypted_keys).copies


def test_data_keys_are_random_and_open_again(vault: EmbeddedVault) -> None:
    first, second = vault.create(ACME), vault.create(ACME)

    assert first.plaintext != second.plaintext
    assert uuid.UUID(first.id).version == 4
    assert first.id != second.id
    opened = vault.decrypt(first.encrypted_keys)
    assert (opened.id, opened.plaintext, opened.encrypted_keys) == (first.id, first.plaintext, first.encrypted_keys)


def test_one_kek_per_context_item(vault: EmbeddedVault) -> None:
    [alone] = copies(vault.create(ACME))
    organization, purpose = copies(vault.create(PAIR))
    [other] = copies(vault.create(KeyContext({"organization_id": "other"})))

    assert organization.kek_id == alone.kek_id
    assert len({alone.kek_id, purpose.kek_id, other.kek_id}) == 3


def test_names_and_values_do_not_run_into_each_other(vault: EmbeddedVault) -> None:
    keks = [copies(vault.create(KeyContext({name: value})))[0].kek_id for name, value in [("ab", "c"), ("a", "bc")]]

    assert keks[0] != keks[1]


@pytest.mark.parametrize("value", ["", "\x00", "a\x00b", "é", "e\u0301", "中文", "🙂" * 500, "'; DROP TABLE kek; --"])
def test_every_value_is_an_item_of_its_own(vault: EmbeddedVault, value: str) -> None:
    key = vault.create(KeyContext({"item": value}))
    neighbour = vault.create(KeyContext({"item": value[:-1] + "x"}))

    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext
    assert copies(key)[0].kek_id != copies(neighbour)[0].kek_id


def test_ten_items_open(vault: EmbeddedVault) -> None:
    key = vault.create(KeyContext({f"name {n}": "🙂" * 500 for n in range(10)}))

    assert len(base64.b64decode(key.encrypted_keys)) == 27 + 10 * 95
    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_rekey_keeps_the_data_key_and_its_id(vault: EmbeddedVault) -> None:
    key = vault.create(ACME)

    moved = vault.rekey(key.encrypted_keys, PAIR)

    assert (moved.id, moved.plaintext) == (key.id, key.plaintext)
    assert moved.encrypted_keys != key.encrypted_keys
    assert vault.decrypt(moved.encrypted_keys).plaintext == key.plaintext


def test_every_truncation_is_refused(vault: EmbeddedVault) -> None:
    text = vault.create(PAIR).encrypted_keys
    blob = base64.b64decode(text)

    truncated = [text[:length] for length in range(len(text))]
    truncated += [base64.b64encode(blob[:length]).decode() for length in range(len(blob))]
    for each in truncated:
        with pytest.raises(VaultRefused, match=REFUSAL):
            vault.decrypt(each)


def test_every_flipped_bit_is_refused(vault: EmbeddedVault) -> None:
    """In the blob and in its text; always with the same words."""
    text = vault.create(PAIR).encrypted_keys
    blob = base64.b64decode(text)

    flipped = []
    for position in range(len(blob)):
        for bit in range(8):
            copy = bytearray(blob)
            copy[position] ^= 1 << bit
            flipped.append(base64.b64encode(copy).decode())
    flipped += [
        text[:position] + chr(ord(text[position]) ^ 1 << bit) + text[position + 1 :]
        for position in range(len(text))
        for bit in range(7)
    ]
    for each in flipped:
        with pytest.raises(VaultRefused, match=REFUSAL) as caught:
            vault.decrypt(each)
        assert type(caught.value) is VaultRefused


def test_copies_cannot_be_moved_removed_repeated_or_reordered(vault: EmbeddedVault) -> None:
    key, sibling = vault.create(PAIR), vault.create(PAIR)
    first, second = copies(key)
    forgeries = [
        altered(key, copies=[first]),
        altered(key, copies=[second]),
        altered(key, copies=[second, first]),
        altered(key, copies=[first, second, second]),
        altered(key, copies=[first, first]),
        altered(key, copies=[first, copies(sibling)[1]]),
        altered(key, copies=list(copies(sibling))),
        altered(key, copies=[*copies(vault.create(ACME)), second]),
        altered(key, data_key_id=uuid.uuid4().bytes),
    ]

    for forgery in forgeries:
        with pytest.raises(VaultRefused, match=REFUSAL):
            vault.decrypt(forgery)
        with pytest.raises(VaultRefused, match=REFUSAL):
            vault.rekey(forgery, ACME)


def test_copies_that_disagree_are_refused(path: Path, root_key: RootKey) -> None:
    """Only who has the KEKs could make such a blob. It is refused all the same: which of the keys would be the one?"""
    ring = KeyRing(KeyStore.at(path), root_key)
    vault = EmbeddedVault(ring)
    blob = EncryptedKeys.decode(vault.create(PAIR).encrypted_keys)
    keks = [ring.find(copy.kek_id, copy.kek_version) for copy in blob.copies]
    associated = vault._wrapper._associated_data(
        vault.store.vault_id(), blob.data_key_id, [copy.name for copy in blob.copies]
    )
    forged = tuple(
        WrappedCopy(kek.id, kek.version, kek.wrapping.wrap(bytes([n]) * 32, associated[n]))
        for n, kek in enumerate(keks)
        if kek is not None
    )

    with pytest.raises(VaultRefused, match=REFUSAL):
        vault.decrypt(EncryptedKeys(blob.data_key_id, forged).encode())
    vault.close()


def test_blob_of_another_vault_is_refused(vault: EmbeddedVault, tmp_path: Path, root_key: RootKey) -> None:
    """Even under the same root key and for the same context."""
    other = EmbeddedVault(KeyRing(KeyStore.at(tmp_path / "other.sqlite3"), root_key))

    with pytest.raises(VaultRefused, match=REFUSAL):
        vault.decrypt(other.create(ACME).encrypted_keys)
    other.close()


def test_environments_share_no_kek(open_vault: Callable[..., EmbeddedVault]) -> None:
    production, staging = open_vault(environment="production"), open_vault(environment="staging")
    key = production.create(ACME)

    assert copies(key)[0].kek_id != copies(staging.create(ACME))[0].kek_id
    with pytest.raises(VaultRefused, match=REFUSAL):
        staging.decrypt(key.encrypted_keys)
    with pytest.raises(VaultRefused, match=REFUSAL):
        staging.rekey(key.encrypted_keys, ACME)


def test_disabled_kek_refuses_whatever_it_has_a_part_in(vault: EmbeddedVault) -> None:
    alone, pair, other = vault.create(ACME), vault.create(PAIR), vault.create(KeyContext({"organization_id": "other"}))

    vault.disable("organization_id", "acme")

    for call in (
        lambda: vault.decrypt(alone.encrypted_keys),
        lambda: vault.decrypt(pair.encrypted_keys),
        lambda: vault.create(ACME),
        lambda: vault.rekey(alone.encrypted_keys, KeyContext({"organization_id": "other"})),
        lambda: vault.rekey(other.encrypted_keys, PAIR),
    ):
        with pytest.raises(KeyRevoked, match="'organization_id' is disabled"):
            call()
    assert vault.decrypt(other.encrypted_keys).plaintext == other.plaintext


def test_copy_of_a_disabled_kek_cannot_be_cut_out(vault: EmbeddedVault) -> None:
    """Else who can write the companion column could undo a revocation."""
    key = vault.create(PAIR)
    vault.disable("organization_id", "acme")

    with pytest.raises(VaultRefused, match=REFUSAL):
        vault.decrypt(altered(key, copies=[copies(key)[1]]))


def test_enabled_again_it_opens(vault: EmbeddedVault) -> None:
    key = vault.create(ACME)
    vault.disable("organization_id", "acme")
    vault.enable("organization_id", "acme")

    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_item_without_a_kek_can_be_disabled_beforehand(vault: EmbeddedVault) -> None:
    vault.disable("organization_id", "acme")

    with pytest.raises(KeyRevoked):
        vault.create(ACME)


def test_rekey_of_refused_keys_changes_nothing(vault: EmbeddedVault) -> None:
    key = vault.create(ACME)

    with pytest.raises(VaultRefused, match=REFUSAL):
        vault.rekey("nonsense", PAIR)
    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_closed_vault_opens_again(vault: EmbeddedVault) -> None:
    key = vault.create(ACME)

    vault.close()

    assert vault.decrypt(key.encrypted_keys).plaintext == key.plaintext


def test_refusals_leave_no_key_in_the_traceback(vault: EmbeddedVault) -> None:
    """Error reports show the local variables of every frame."""
    key = vault.create(PAIR)
    forged = altered(key, copies=[copies(key)[0], copies(vault.create(PAIR))[1]])

    with pytest.raises(VaultRefused) as caught:
        vault.decrypt(forged)

    shown = "".join(repr(entry.frame.f_locals) for entry in caught.traceback[1:])
    assert repr(key.plaintext) not in shown
    assert key.plaintext.hex() not in shown


def test_copies_of_a_keystore_refuse_what_the_other_made(
    vault: EmbeddedVault, tmp_path: Path, root_key: RootKey
) -> None:
    """Of new items each makes a KEK of its own; what both had from before opens in both."""
    before = vault.create(ACME)
    vault.back_up(tmp_path / "copy.sqlite3")
    copy = EmbeddedVault(KeyRing(KeyStore.at(tmp_path / "copy.sqlite3"), root_key))
    here, there = vault.create(PAIR), copy.create(PAIR)

    assert copy.decrypt(before.encrypted_keys).plaintext == before.plaintext
    for other, key in ((copy, here), (vault, there)):
        with pytest.raises(VaultRefused, match=REFUSAL):
            other.decrypt(key.encrypted_keys)
    copy.close()
