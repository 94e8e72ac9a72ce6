"""The checks of column options that ciphertext cannot have, or that tell too much beside a hash."""

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error, Warning as CheckWarning

from vault_fields.fields.blindindex import indexes_of
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
    if field.choices and (indexes := indexes_of(field)):
        named = ", ".join(repr(index.name) for index in indexes)
        yield CheckWarning(
            f"Its index {named} is over choices: whoever has the database guesses which hash is which from how often "
            "each occurs.",
            hint="Take index away, and compare in Python what other columns have found; or silence this check if the "
            "frequencies tell nothing.",
            obj=field,
            id="vault_fields.W031",
        )
