"""
The checks of other packages that process all fields of a model. They may give companions away, copy values into a log,
or ask the database for what it does not know.

Only imported packages are looked at, and only through their own classes and the fields of these.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Warning as CheckWarning

from vault_fields.checks.copies import check_copies
from vault_fields.checks.searches import is_served
from vault_fields.checks.subclasses import import_views, subclasses
from vault_fields.checks.views import check_views
from vault_fields.fields import CompanionField, IndexField
from vault_fields.fields.base import EncryptedField

__all__ = ["check_packages"]


_OURS = (EncryptedField, CompanionField, IndexField)


def check_packages(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    return [
        *import_views(),
        *_check_companions(app_configs),
        *_check_logs(app_configs),
        *_check_filters(app_configs),
        *check_copies(app_configs),
        *check_views(app_configs),
    ]


def _check_companions(app_configs: Sequence[AppConfig] | None) -> list[CheckMessage]:
    return [
        CheckWarning(
            f"{owner.__name__} gives {_column(field)} {field.name!r} of {model._meta.label} to everybody who reads it: "
            f"{'the encrypted data keys, and the tenant' if isinstance(field, CompanionField) else 'which are equal'}.",
            hint=f'Leave it out: exclude = ["{field.name}"].',
            obj=owner,
            id="vault_fields.W011",
        )
        for owner, model, names in (*_resources(), *_schemas())
        if app_configs is None or model._meta.app_config in app_configs
        for field in model._meta.concrete_fields
        if isinstance(field, (CompanionField, IndexField)) and field.name in names
    ]


def _column(field: Any) -> str:
    return "the companion" if isinstance(field, CompanionField) else "the hashes"


def _check_logs(app_configs: Sequence[AppConfig] | None) -> Iterator[CheckMessage]:
    module: Any = sys.modules.get("auditlog.registry")
    for model in module.auditlog.get_models() if module is not None else ():
        if app_configs is not None and model._meta.app_config not in app_configs:
            continue
        options = module.auditlog.get_model_fields(model)
        fields = [field for field in model._meta.concrete_fields if isinstance(field, _OURS)]
        names = [field.name for field in fields]
        included = set(options["include_fields"] or names) - set(options["exclude_fields"])
        if copied := [name for name in names if name in included]:
            yield CheckWarning(
                f"django-auditlog copies {', '.join(copied)} into its log: values in the clear, companions and hashes.",
                hint=f"Leave them out: auditlog.register({model.__name__}, exclude_fields={names!r}).",
                obj=model,
                id="vault_fields.W018",
            )


def _check_filters(app_configs: Sequence[AppConfig] | None) -> Iterator[CheckMessage]:
    module = sys.modules.get("django_filters.filterset")
    for filters in subclasses(module.FilterSet) if module is not None else ():
        model = filters._meta.model
        if model is None or (app_configs is not None and model._meta.app_config not in app_configs):
            continue
        fields = {field.name: field for field in model._meta.concrete_fields}
        for name, each in filters.base_filters.items():
            field = fields.get(each.field_name)
            is_refused = (
                isinstance(field, EncryptedField)
                and each.lookup_expr != "isnull"
                and not is_served(field, each.lookup_expr)
            )
            if is_refused or isinstance(field, CompanionField):
                yield CheckWarning(
                    f"The filter {name!r} asks for what {each.field_name!r} of {model._meta.label} holds, which the "
                    "database does not know: using it gives an error, or nothing.",
                    hint=f'Leave it out: exclude = ["{name}"]. A BooleanFilter with lookup_expr="isnull" can ask '
                    "whether there is a value.",
                    obj=filters,
                    id="vault_fields.W019",
                )


def _resources() -> Iterator[tuple[Any, Any, Any]]:
    """Yield the resources of django-import-export."""
    module = sys.modules.get("import_export.resources")
    for resource in subclasses(module.ModelResource) if module is not None else ():
        if resource._meta.model is not None:
            yield resource, resource._meta.model, resource.fields


def _schemas() -> Iterator[tuple[Any, Any, Any]]:
    """Yield the schemas that django-ninja derived from models."""
    module = sys.modules.get("ninja.orm.factory")
    for key, schema in module.factory.schemas.items() if module is not None else ():
        yield schema, key[0], schema.model_fields
