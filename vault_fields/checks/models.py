"""The checks of model classes: each model once, with its encrypted fields and the options about them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage
from django.db.models import Model

from vault_fields.checks.columns import check_column
from vault_fields.checks.companions import check_companions
from vault_fields.checks.context import check_context
from vault_fields.checks.guarded import guarded
from vault_fields.checks.history import check_history
from vault_fields.checks.meta import check_meta
from vault_fields.checks.text import check_text
from vault_fields.fields.groups import encrypted_fields

__all__ = ["check_models", "models_of"]


def models_of(app_configs: Sequence[AppConfig] | None) -> Iterator[type[Model]]:
    """Yield the models that a check was asked about, proxies included."""
    for app_config in app_configs if app_configs is not None else apps.get_app_configs():
        yield from app_config.get_models()


def check_models(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    return [
        message
        for model in models_of(app_configs)
        for message in guarded(_check_model, model, f"The model {model._meta.label}")
    ]


def _check_model(model: type[Model]) -> Iterable[CheckMessage]:
    for field in encrypted_fields(model):
        yield from check_context(field)
        yield from check_column(field)
    yield from check_companions(model)
    yield from check_meta(model)
    yield from check_text(model)
    yield from check_history(model)
