"""Searches by value: what the entries of ``search_fields`` mean, and what is said where a search cannot be made."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Model
from django.db.models.constants import LOOKUP_SEP
from django.utils.text import format_lazy, get_text_list
from django.utils.translation import gettext, gettext_lazy

from vault_fields.admin.reasons import ERRORS, reason_of
from vault_fields.exceptions import DecryptionError, TenantUnknown, VaultError
from vault_fields.fields.blindindex import named_index
from vault_fields.fields.paths import encrypted_at
from vault_fields.fields.searching import SEARCHED

__all__ = ["UNSEARCHED", "by_index", "why_not_searched"]

# The errors that a search by an index raises when its rows are read or counted.
UNSEARCHED = (TenantUnknown, *ERRORS)

_OPEN = gettext_lazy("Nothing was searched: values are found within one {} at a time. Choose one first.")
_ELSEWHERE = gettext_lazy("Nothing was searched: values are found within one tenant at a time, and a few of them.")
_CLOSED = gettext_lazy("Nothing was searched, because the key of the index is needed. {}")


def by_index(model: type[Model], names: Iterable[Any]) -> list[Any]:
    """Return ``search_fields`` in which ``=ssn`` and ``ssn__exact`` search the index, in every version of Django."""
    return [_by_index(model, name) for name in names]


def _by_index(model: type[Model], name: Any) -> Any:
    path = str(name).removeprefix("=").removesuffix(f"{LOOKUP_SEP}exact")
    if path == str(name) or (match := encrypted_at(model, path)) is None:
        return name
    field, index_name = match
    return f"{path}{LOOKUP_SEP}{SEARCHED}" if named_index(field, index_name or None) else name


def why_not_searched(error: TenantUnknown | DecryptionError | VaultError) -> str:
    """Return a sentence for staff."""
    if not isinstance(error, TenantUnknown):
        return str(format_lazy(_CLOSED, reason_of(error)))
    if not error.missing:
        return str(_ELSEWHERE)
    return str(format_lazy(_OPEN, get_text_list(list(error.missing), gettext("and"))))
