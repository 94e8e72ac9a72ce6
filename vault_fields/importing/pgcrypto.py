"""The reader of pgcrypto's ``pgp_sym_encrypt``: PostgreSQL itself decrypts."""

from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, transaction
from django.utils.deconstruct import deconstructible

from vault_fields.exceptions import DecryptionError
from vault_fields.importing.reader import Reader
from vault_fields.importing.secrets import Source, require_source, secret
from vault_fields.runtime.frames import forgetful

__all__ = ["Pgcrypto"]

_SQL = (
    "SELECT pgp_sym_decrypt(given.value, %s) FROM unnest(%s::bytea[]) WITH ORDINALITY AS given(value, number) "
    "ORDER BY given.number"
)

# Wrong key or corrupt data, and bytes that are no text: errors of the value. Both are classes of SQLSTATE.
_OF_VALUES = ("39", "22")
# No such function, and no right to call it.
_ABSENT = {"42883", "42501"}


@deconstructible(path="vault_fields.importing.Pgcrypto")
class Pgcrypto(Reader):
    """
    Columns of ``bytea`` that ``pgp_sym_encrypt`` wrote. Costs one query for each batch; for one with a damaged value,
    one for each row.

    The key goes to the database as a parameter. A server that logs the parameters of statements logs it, as it did when
    the values were written.
    """

    @forgetful
    def __init__(self, key: Source) -> None:
        self.key = require_source("key", key)

    def opener(self) -> Callable[[bytes], Any]:
        """Refuse: values are opened many at a time, by a database."""
        raise NotImplementedError("Pgcrypto opens values by read(), which knows the database.")

    @forgetful
    def read(self, stored: Sequence[Any], using: str) -> list[Any]:
        if connections[using].vendor != "postgresql":
            raise ImproperlyConfigured(
                f"DATABASES[{using!r}] is not PostgreSQL, and Pgcrypto reads values that PostgreSQL encrypted."
            )
        key = secret(self.key)
        values = [bytes(each) for each in stored if isinstance(each, (bytes, memoryview))]
        opened = iter(_opened_by(using, key, values))
        return [next(opened) if isinstance(each, (bytes, memoryview)) else _no_bytes() for each in stored]


def _no_bytes() -> DecryptionError:
    return DecryptionError("the old column does not hold bytes, and pgp_sym_encrypt writes bytea.")


def _opened_by(using: str, key: Any, values: list[bytes]) -> list[Any]:
    texts = _decrypted(using, key, values)
    if isinstance(texts, list):
        return texts
    if len(values) > 1:
        return [each for value in values for each in _opened_by(using, key, [value])]
    if texts[:2] in _OF_VALUES:
        return [DecryptionError("pgp_sym_decrypt does not open the old column: its key is another, or it was altered.")]
    raise _refusal(using, texts)


def _decrypted(using: str, key: Any, values: list[bytes]) -> list[bytes] | str:
    """Return the texts, or the SQLSTATE of the error."""
    with transaction.atomic(using):
        found = _answer(connections[using], key, values)
        # Without an exception: one that met another on its way would keep the driver's, whose frames hold the key.
        transaction.set_rollback(isinstance(found, str), using)
    return found


def _answer(connection: Any, key: Any, values: list[bytes]) -> list[bytes] | str:
    binary = connection.Database.Binary
    try:
        # A cursor of the driver: Django's would log the parameters while the project is debugged.
        with connection.create_cursor() as cursor:
            cursor.execute(_SQL, [key, [binary(value) for value in values]])
            return [text.encode() for (text,) in cursor.fetchall()]
    except connection.Database.Error as error:
        return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""


def _refusal(using: str, state: str) -> Exception:
    if state in _ABSENT:
        return ImproperlyConfigured(
            f"DATABASES[{using!r}] has no pgp_sym_decrypt that this user may call. Install the extension: "
            "django.contrib.postgres.operations.CryptoExtension, in an earlier migration."
        )
    return DatabaseError(f"PostgreSQL did not answer pgp_sym_decrypt (SQLSTATE {state or 'unknown'}).")
