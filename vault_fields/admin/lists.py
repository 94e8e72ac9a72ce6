"""Lists, which can neither sort nor filter by an encrypted field."""

from typing import Any

from django.contrib.admin.filters import EmptyFieldListFilter
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q

from vault_fields.fields.paths import encrypted_in

__all__ = ["NullFieldListFilter", "without_ciphertext_order"]


class NullFieldListFilter(EmptyFieldListFilter):
    """
    A filter for rows with a value or without one: ``("ssn", NullFieldListFilter)`` in ``list_filter``.

    Django's own ``EmptyFieldListFilter`` would also ask for the empty string, whose ciphertext looks like any other.
    """

    def get_lookup_condition(self) -> Q:
        return Q((f"{self.field_path}__isnull", True))


class _WithoutCiphertextOrder:
    model: Any

    def get_ordering_field(self, field_name: Any) -> Any:
        order = super().get_ordering_field(field_name)  # type: ignore[misc]
        return None if order and encrypted_in(self.model, order) else order


def without_ciphertext_order(changelist: type[ChangeList]) -> type[ChangeList]:
    """
    Return a subclass of ``ChangeList``, or of the class another mixin has chosen, that does not sort by ciphertext.
    """
    return type(changelist.__name__, (_WithoutCiphertextOrder, changelist), {})
