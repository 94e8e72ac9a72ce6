"""What can happen to the stored values of a model, so that they do not open, and what the admin says then."""

import pytest
from django.db import connection

from vault_fields.vaults import vaults


class Damages:
    """
    Damages done to all rows of a tenant, past the ORM.

    ``column`` and ``keys`` are the columns of the value and of its companion in ``model``.
    """

    def __init__(self, execute, model, column, keys, tenant, other_tenant):
        self.execute = execute
        self.table = model._meta.db_table
        self.column, self.keys = column, keys
        self.tenant, self.other_tenant = tenant, other_tenant

    def set(self, column, expression, *params) -> None:
        self.execute(
            f"UPDATE {self.table} SET {column} = {expression} WHERE organization_id = %s", *params, self.tenant.pk
        )
        vaults["default"].purge()

    def withdrawn(self) -> None:
        vaults["default"].revoke("organization_id", str(self.tenant.pk))

    def refused(self) -> None:
        self.set(self.keys, f"""REPLACE({self.keys}, '"keys":"', '"keys":"AAAA')""")

    def unknown_vault(self) -> None:
        self.set(self.keys, f"""REPLACE({self.keys}, '"vault":"default"', '"vault":"gone"')""")

    def flipped(self) -> None:
        """As long as it was, and so not to be told from another value but by its key."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id, {self.column} FROM {self.table} WHERE organization_id = %s", [self.tenant.pk])
            for pk, text in cursor.fetchall():
                flipped = text[:-12] + ("B" if text[-12] == "A" else "A") + text[-11:]
                self.execute(f"UPDATE {self.table} SET {self.column} = %s WHERE id = %s", flipped, pk)
        vaults["default"].purge()

    def without_companion(self) -> None:
        self.set(self.keys, "NULL")

    def cut(self) -> None:
        self.set(self.column, f"SUBSTR({self.column}, 1, 60)")

    def altered(self) -> None:
        self.set(self.column, f"REPLACE({self.column}, '$vf$1$', '$vf$7$')")

    def plaintext(self) -> None:
        self.set(self.column, "%s", "stray plaintext")

    def no_text(self) -> None:
        self._set_bytes(self.column)

    def companion_of_no_text(self) -> None:
        self._set_bytes(self.keys)

    def _set_bytes(self, column) -> None:
        if connection.vendor != "sqlite":
            pytest.skip("Elsewhere a column of text takes nothing else.")
        self.set(column, "x'c328'")

    def moved(self) -> None:
        self.set("organization_id", "%s", self.other_tenant.pk)


REASONS = {
    "withdrawn": "Cannot be opened: its key was withdrawn.",
    "refused": "Cannot be opened: its key is not available.",
    "unknown_vault": "Cannot be opened: the vault that has its key is not configured.",
    "flipped": "Cannot be opened: the log says why.",
    "without_companion": "Cannot be opened: it is damaged.",
    "cut": "Cannot be opened: it is damaged.",
    "altered": "Cannot be opened: it is damaged.",
    "plaintext": "Not shown: the column holds a value that is not encrypted.",
    "no_text": "Cannot be opened: it is damaged.",
    "companion_of_no_text": "Cannot be opened: it is damaged.",
    "moved": "Cannot be opened: it was encrypted for another key context than this row&#x27;s.",
}
AWAY = "Cannot be opened now: the Vault does not answer. Try again later."
