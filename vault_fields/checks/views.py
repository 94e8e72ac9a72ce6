"""The check of Django REST framework's views: the fields by which a request may sort, search and filter."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Warning as CheckWarning

from vault_fields.checks.guarded import guarded
from vault_fields.checks.searches import is_served
from vault_fields.checks.subclasses import subclasses
from vault_fields.fields.base import EncryptedField
from vault_fields.fields.paths import encrypted_at

__all__ = ["check_views"]

# Values of ``search_fields`` may begin with a prefix that names the kind of search.
_LOOKUPS = {"^": "istartswith", "=": "iexact", "@": "search", "$": "iregex"}
_SEARCH_PREFIXES = "".join(_LOOKUPS)


def check_views(app_configs: Sequence[AppConfig] | None) -> Iterator[CheckMessage]:
    module: Any = sys.modules.get("rest_framework.generics")
    for view in subclasses(module.GenericAPIView) if module is not None else ():
        yield from guarded(partial(_check_view, app_configs), view, f"The view {view.__name__}")


def _check_view(app_configs: Sequence[AppConfig] | None, view: Any) -> Iterator[CheckMessage]:
    model: Any = _model(view)
    if model is None or (app_configs is not None and model._meta.app_config not in app_configs):
        return
    filters: Any = sys.modules["rest_framework.filters"]
    for option, parameter, names in (
        ("ordering_fields", "ordering", _ordering(view, model, filters)),
        ("search_fields", "search", _searching(view, filters)),
        ("filterset_fields", None, _filtering(view, model)),
    ):
        failing = (name.lstrip(_SEARCH_PREFIXES) for name in names if _fails(model, option, name))
        for name in dict.fromkeys(failing):
            yield CheckWarning(
                f"A request to {view.__name__} with ?{parameter or name}=… may name {name!r}, which is encrypted: the "
                "database does not know its values, and the request ends in FieldError, with 500.",
                hint=f"Write {option} = […], without {name!r}.",
                obj=view,
                id="vault_fields.W026",
            )


def _fails(model: Any, option: str, name: str) -> bool:
    """Whether a request that names this column, or this lookup, ends in an error."""
    path, lookup = name, ""
    if option == "search_fields":
        path, lookup = name.lstrip(_SEARCH_PREFIXES), _LOOKUPS.get(name[:1], "icontains")
    match = encrypted_at(model, path)
    if match is None or match[1] == "isnull":
        return False
    return option == "ordering_fields" or not is_served(match[0], match[1] or lookup)


def _model(view: Any) -> Any:
    queryset = view.queryset
    if queryset is not None:
        return queryset.model
    return getattr(getattr(view.serializer_class, "Meta", None), "model", None)


def _backends(view: Any, kind: type) -> list[Any]:
    return [backend for backend in view.filter_backends if isinstance(backend, type) and issubclass(backend, kind)]


def _ordering(view: Any, model: Any, filters: Any) -> Iterable[str]:
    for backend in _backends(view, filters.OrderingFilter):
        names = getattr(view, "ordering_fields", backend.ordering_fields)
        if names == "__all__":
            yield from (field.name for field in model._meta.fields)
        elif names is not None:
            yield from (name if isinstance(name, str) else name[0] for name in names)
        elif view.serializer_class is not None:
            fields = view.serializer_class().fields.values()
            yield from (field.source.replace(".", "__") for field in fields if not field.write_only)


def _searching(view: Any, filters: Any) -> Iterable[str]:
    if _backends(view, filters.SearchFilter):
        yield from getattr(view, "search_fields", None) or ()


def _filtering(view: Any, model: Any) -> Iterable[str]:
    """Yield the fields from which django-filter makes filters."""
    names = getattr(view, "filterset_fields", None) or ()
    if names == "__all__":
        names = [field.name for field in model._meta.fields if isinstance(field, EncryptedField)]
    if isinstance(names, Mapping):
        yield from (f"{name}__{lookup}" for name, lookups in names.items() for lookup in lookups)
    else:
        yield from names
