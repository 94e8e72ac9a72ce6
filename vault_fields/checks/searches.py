"""The lookups of encrypted fields that an index serves, as options of the admin and of REST views write them."""

from typing import Any

from vault_fields.fields.base import EncryptedField
from vault_fields.fields.blindindex import exact_index, indexes_of, named_index

__all__ = ["is_searched", "is_served"]

_MIXIN = ("vault_fields.admin.mixin", "EncryptedFieldsMixin")


def is_served(field: EncryptedField, lookup: str) -> bool:
    """Whether an index of the field serves a lookup; without a name it is ``exact``."""
    return any((lookup or "exact") in index.lookups for index in indexes_of(field))


def is_searched(admin: Any, entry: str, field: EncryptedField, rest: str) -> bool:
    """
    Whether a search of the admin works for an entry of ``search_fields`` that leads to ``rest`` at an encrypted field.

    The mixin of this package searches by any index, and asks for the tenant. Django itself makes ``iexact`` of ``=``,
    and an error of a query without the tenant.
    """
    if not entry.startswith("=") and (entry[:1] in {"^", "@"} or not f"__{rest}".endswith("__exact")):
        return False
    if any((base.__module__, base.__name__) == _MIXIN for base in type(admin).__mro__):
        name = rest.removesuffix("exact").removesuffix("__")
        return named_index(field, name or None) is not None
    index = exact_index(field)
    if index is None or index.scope != "global":
        return False
    return is_served(field, "iexact") and not rest if entry.startswith("=") else rest == "exact"
