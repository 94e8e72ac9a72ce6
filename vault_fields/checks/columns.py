"""The checks of column options that ciphertext cannot have."""

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error

from vault_fields.fields.interface import Encrypted

__all__ = ["check_column"]

_COMPARING = ("primary_key", "db_index", "unique_for_date", "unique_for_month", "unique_for_year")


def check_column(field: Encrypted) -> Iterator[CheckMessage]:
    options = [option for option in _COMPARING if getattr(field, option)]
    if options:
        named = ", ".join(options)
        yield Error(
            f"An encrypted field cannot have {named}: its ciphertext is different each time, so the database has "
            "nothing to compare.",
            hint=f"Take {named} away.",
            obj=field,
            id="vault_fields.E010",
        )
    if field.has_db_default():
        yield Error(
            "An encrypted field cannot have db_default, which would put plaintext into the database.",
            hint="Write default= in place of db_default=.",
            obj=field,
            id="vault_fields.E011",
        )
