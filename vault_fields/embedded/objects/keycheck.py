"""
The check, in the transaction that stores encrypted keys, that the keys that wrapped them are still in the keystore.
"""

from sqlite3 import Connection

from vault_fields.embedded.blob import EncryptedKeys, KeyKind, WrappedCopy
from vault_fields.embedded.customer.store import ACTIVE
from vault_fields.embedded.managed.store import ENABLED
from vault_fields.embedded.managed.tags import TaggedRows, VaultReplaced

__all__ = ["require_standing"]

_KEK = (
    "SELECT 1 FROM kek JOIN kek_version ON kek_id = id"
    " WHERE id = ? AND version = ? AND state = ? AND version >= minimum_version"
)
_CUSTOMERS = "SELECT 1 FROM byok_key WHERE id = ? AND state = ?"


def require_standing(rows: TaggedRows, vault_id: str, encrypted_keys: str) -> None:
    """
    Raise ``VaultReplaced`` unless every key that wrapped these is in the keystore, which is that vault's.

    They were there when the encrypted keys were handed out, but a backup may have been restored since.
    """
    rows.require_vault(vault_id)
    for copy in EncryptedKeys.decode(encrypted_keys).copies:
        if not _stands(rows.connection, copy):
            raise VaultReplaced(f"Keys of the keystore {rows.location} were replaced or withdrawn. Try again.")


def _stands(connection: Connection, copy: WrappedCopy) -> bool:
    if copy.kind == KeyKind.CUSTOMER:
        found = connection.execute(_CUSTOMERS, [copy.kek_id, ACTIVE])
    else:
        found = connection.execute(_KEK, [copy.kek_id, copy.kek_version, ENABLED])
    return found.fetchone() is not None
