"""The checks of the admin, where searching, filtering or sorting by an encrypted field is a click away."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Warning as CheckWarning

from vault_fields.checks.guarded import guarded
from vault_fields.checks.searches import is_searched
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.blindindex import indexes_of
from vault_fields.fields.paths import encrypted_at, encrypted_in

__all__ = ["check_admin"]

# Values of ``search_fields`` may begin with a prefix that names the kind of search.
_SEARCH_PREFIXES = "^=@"


def check_admin(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    if not apps.is_installed("django.contrib.admin"):
        return []
    from django.contrib.admin.sites import all_sites

    return [
        message
        for site in all_sites
        for model_admin in site._registry.values()
        if (app_configs is None or model_admin.model._meta.app_config in app_configs) and _is_sound(model_admin)
        for check in (_check_search, _check_filters, _check_ordering, _check_columns, _check_prepopulated)
        for message in guarded(check, model_admin, f"The admin class {type(model_admin).__name__}")
    ]


def _is_sound(admin: Any) -> bool:
    """Whether Django accepts the types of the options. If it does not, its own check reports that first."""
    try:
        messages = list(admin.check())
    except Exception:  # noqa: BLE001 - a project's own, which Django calls as well, and does not keep quiet about.
        return False
    # A project's own check may return things that are not messages.
    return not any(isinstance(message, CheckMessage) and message.is_serious() for message in messages)


def _check_search(admin: Any) -> Iterator[CheckMessage]:
    for path in admin.search_fields:
        match = encrypted_at(admin.model, path.lstrip(_SEARCH_PREFIXES))
        # A search for NULL is pointless, but does not fail.
        if match and match[1] != "isnull" and not is_searched(admin, path, *match):
            found = "which cannot be searched"
            hint = f"Take {path!r} out of search_fields."
            if indexes_of(match[0]):
                name = path.lstrip(_SEARCH_PREFIXES).removesuffix("__exact")
                found = "whose index is not searched so"
                hint = (
                    f"Write '={name}', which asks for the whole value, and class {type(admin).__name__}("
                    "vault_fields.admin.EncryptedFieldsMixin, admin.ModelAdmin)."
                )
            yield Error(
                f"search_fields has {path!r}, an encrypted field, {found}: every search would fail.",
                hint=hint,
                obj=type(admin),
                id="vault_fields.E025",
            )


def _check_filters(admin: Any) -> Iterator[CheckMessage]:
    for item in admin.list_filter:
        path, filter_class = item if isinstance(item, (tuple, list)) else (item, None)
        match = encrypted_at(admin.model, path) if isinstance(path, str) else None
        if match and _compares(match[0], filter_class):
            yield Error(
                f"list_filter has the encrypted field {path!r}, whose values cannot be compared.",
                hint=f"Write ({path!r}, vault_fields.admin.NullFieldListFilter), or take it out of list_filter.",
                obj=type(admin),
                id="vault_fields.E026",
            )


def _compares(field: EncryptedField, filter_class: Any) -> bool:
    """Whether a filter asks for more than NULL. Filters that are not Django's own are left to their authors."""
    from django.contrib.admin import filters

    if filter_class is filters.EmptyFieldListFilter:
        return field.empty_strings_allowed
    return filter_class is None or filter_class.__module__ == filters.__name__


def _check_ordering(admin: Any) -> Iterator[CheckMessage]:
    orders = [("ordering", admin.model, admin.ordering or ())]
    orders += [(f"ordering of {inline.__name__}", inline.model, inline.ordering or ()) for inline in admin.inlines]
    for name in admin.list_display:
        attribute = _attribute(admin, name)
        if order := getattr(attribute, "admin_order_field", None):
            orders.append((f"admin_order_field of {getattr(attribute, '__name__', name)}", admin.model, [order]))
    for option, model, order in orders:
        for field in encrypted_in(model, *order):
            yield Error(
                f"The {option} names the encrypted field {field.label}: its ciphertext has no order.",
                hint=f"Name another field there, such as 'pk', in place of {field.name!r}.",
                obj=type(admin),
                id="vault_fields.E027",
            )


def _attribute(admin: Any, name: Any) -> Any:
    """Return the attribute behind a column that is not a field, from the same places in which Django looks."""
    found = name if callable(name) else getattr(admin, name, None) or getattr(admin.model, name, None)
    return found.fget if isinstance(found, property) else found


def _check_columns(admin: Any) -> Iterator[CheckMessage]:
    from django.contrib.admin import ModelAdmin

    # The mixin does the same, unless it stands after ModelAdmin. Other classes are left to their authors.
    if _overrides(admin, ModelAdmin.get_sortable_by):
        return
    sortable = admin.list_display if admin.sortable_by is None else admin.sortable_by
    names = [name for name in admin.list_display if name in sortable and isinstance(name, str)]
    encrypted = [name for name in names if (match := encrypted_at(admin.model, name)) and not match[1]]
    if encrypted:
        name = type(admin).__name__
        yield CheckWarning(
            f"The list shows {', '.join(map(repr, encrypted))} under a header that offers to sort by it, which fails.",
            hint=f"Write class {name}(vault_fields.admin.EncryptedFieldsMixin, admin.ModelAdmin), whose headers offer "
            "only what works.",
            obj=type(admin),
            id="vault_fields.W006",
        )


def _overrides(admin: Any, method: Callable[..., Any]) -> bool:
    return getattr(type(admin), method.__name__) is not method


def _check_prepopulated(admin: Any) -> Iterator[CheckMessage]:
    for target, sources in admin.prepopulated_fields.items():
        if encrypted_at(admin.model, target):
            continue
        for source in sources:
            if encrypted_at(admin.model, source):
                yield CheckWarning(
                    f"prepopulated_fields copies the encrypted field {source!r} into {target!r}, which is stored in "
                    "the clear.",
                    hint=f"Take {source!r} out of prepopulated_fields[{target!r}].",
                    obj=type(admin),
                    id="vault_fields.W007",
                )
