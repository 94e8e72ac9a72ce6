"""Lists, which cannot sort by an encrypted field, and filter by one only through its index."""

from typing import Any

from django.contrib import messages
from django.contrib.admin.filters import EmptyFieldListFilter
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q

from vault_fields.admin.searches import UNSEARCHED, why_not_searched
from vault_fields.fields.paths import encrypted_in

__all__ = ["NullFieldListFilter", "with_encrypted_fields"]


class NullFieldListFilter(EmptyFieldListFilter):
    """
    A filter for rows with a value or without one: ``("ssn", NullFieldListFilter)`` in ``list_filter``.

    Django's own ``EmptyFieldListFilter`` would also ask for the empty string, whose ciphertext looks like any other.
    """

    def get_lookup_condition(self) -> Q:
        return Q((f"{self.field_path}__isnull", True))


class _WithEncryptedFields:
    model: Any
    queryset: Any
    root_queryset: Any
    _is_unsearched = False

    def get_ordering_field(self, field_name: Any) -> Any:
        order = super().get_ordering_field(field_name)  # type: ignore[misc]
        return None if order and encrypted_in(self.model, order) else order

    def get_queryset(self, request: Any, **kwargs: Any) -> Any:
        if self._is_unsearched:  # An action asks for it once more.
            return self.root_queryset.none()
        return super().get_queryset(request, **kwargs)  # type: ignore[misc]

    def get_results(self, request: Any) -> None:
        try:
            super().get_results(request)  # type: ignore[misc]
        except UNSEARCHED as error:
            reason = why_not_searched(error)
        else:
            return
        self._is_unsearched = True
        # Not that of the search, whose other conditions would be made into SQL before it is found to be empty.
        self.queryset = self.root_queryset.none()
        messages.error(request, reason)
        super().get_results(request)  # type: ignore[misc]


def with_encrypted_fields(changelist: type[ChangeList]) -> type[ChangeList]:
    """
    Return a subclass of ``ChangeList``, or of the class another mixin has chosen, that does not sort by ciphertext.

    A list that cannot be searched or filtered, as by an index of one tenant where none is chosen, is empty and says
    why.
    """
    return type(changelist.__name__, (_WithEncryptedFields, changelist), {})
