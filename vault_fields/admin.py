"""The admin: encrypted fields work there as plain ones do, except that nothing can be sorted or filtered by them."""

from typing import TYPE_CHECKING, Any

from django.contrib.admin import ModelAdmin
from django.contrib.admin.filters import EmptyFieldListFilter
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q

from vault_fields.fields.paths import encrypted_at, encrypted_in

__all__ = ["EncryptedFieldsMixin", "NullFieldListFilter"]

if TYPE_CHECKING:
    _ModelAdmin = ModelAdmin[Any]
else:
    _ModelAdmin = object


class EncryptedFieldsMixin(_ModelAdmin):
    """
    Mix in before ``ModelAdmin`` where ``list_display`` has encrypted fields.

    Their headers then do not offer to sort by them, which would fail, and a URL that asks for it (``?o=2``) gets the
    list unsorted. Nothing else needs the mixin.
    """

    def get_sortable_by(self, request: Any) -> Any:
        names = super().get_sortable_by(request)
        return [name for name in names if callable(name) or encrypted_at(self.model, name) is None]

    def get_changelist(self, request: Any, **kwargs: Any) -> Any:
        return _without_ciphertext_order(super().get_changelist(request, **kwargs))


class NullFieldListFilter(EmptyFieldListFilter):
    """
    For ``list_filter``: ``("ssn", NullFieldListFilter)`` tells rows with a value from those without one.

    Django's own ``EmptyFieldListFilter`` would also ask for the empty string, whose ciphertext looks like any other.
    """

    def get_lookup_condition(self) -> Q:
        return Q((f"{self.field_path}__isnull", True))


class _WithoutCiphertextOrder:
    model: Any

    def get_ordering_field(self, field_name: Any) -> Any:
        order = super().get_ordering_field(field_name)  # type: ignore[misc]
        return None if order and encrypted_in(self.model, order) else order


def _without_ciphertext_order(changelist: type[ChangeList]) -> type[ChangeList]:
    """The same ``ChangeList``, whichever another mixin has chosen."""
    return type(changelist.__name__, (_WithoutCiphertextOrder, changelist), {})
