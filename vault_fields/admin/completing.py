"""Suggestions while somebody types: a row whose name reads a value that does not open is suggested all the same."""

import functools
from collections.abc import Callable
from typing import Any

from django.contrib.admin.views.autocomplete import AutocompleteJsonView

from vault_fields.admin.naming import naming_rows
from vault_fields.fields.failures import Failures, remembering
from vault_fields.patches import wrap

__all__ = ["name_what_is_offered"]


@functools.cache
def name_what_is_offered(admin_class: type) -> None:
    """
    Let the suggestions of admins of this class name rows as the other pages do.

    The view is Django's own and asks the admin only for a queryset, so the names can be set nowhere else.
    """

    def serialize_result(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self.model_admin, admin_class):
            return original(self, *args, **kwargs)
        # However many rows there are, a silent Vault is waited for once.
        failures = vars(self).setdefault("_vault_failures", Failures())
        with naming_rows(), remembering(failures):
            return original(self, *args, **kwargs)

    wrap(AutocompleteJsonView, "serialize_result", serialize_result, mark="_vault_fields_offer_hook")
