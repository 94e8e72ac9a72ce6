"""Suggestions while somebody types: rows with values that do not open are suggested; a search that fails says why."""

import functools
from collections.abc import Callable
from typing import Any

from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.http import JsonResponse

from vault_fields.admin.naming import naming_rows
from vault_fields.admin.searches import UNSEARCHED, why_not_searched
from vault_fields.fields.failures import Failures, remembering
from vault_fields.patches import wrap

__all__ = ["complete_searches"]


@functools.cache
def complete_searches(admin_class: type) -> None:
    """
    Let the suggestions of admins of this class name rows, and say why a search is not made, as the other pages do.

    The view is Django's own and asks the admin only for a queryset, so both can be done nowhere else.
    """

    def serialize_result(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self.model_admin, admin_class):
            return original(self, *args, **kwargs)
        # However many rows there are, a silent Vault is waited for once.
        failures = vars(self).setdefault("_vault_failures", Failures())
        with naming_rows(), remembering(failures):
            return original(self, *args, **kwargs)

    def get(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except UNSEARCHED as error:
            if not isinstance(self.model_admin, admin_class):
                raise
            told = {"id": "", "text": why_not_searched(error), "disabled": True}
            return JsonResponse({"results": [told], "pagination": {"more": False}})

    wrap(AutocompleteJsonView, "get", get, mark="_vault_fields_offer_hook")
    wrap(AutocompleteJsonView, "serialize_result", serialize_result, mark="_vault_fields_offer_hook")
