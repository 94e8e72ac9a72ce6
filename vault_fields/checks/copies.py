"""
The checks of other packages that keep copies of rows: query caches, change trackers, and hooks that compare.

Like the checks in ``packages``, they look only at what is imported.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Warning as CheckWarning
from django.db.models import Model

from vault_fields.checks.models import models_of
from vault_fields.fields.base import EncryptedField

__all__ = ["check_copies"]

# The conditions of django-lifecycle that look back.
_PAST = {"WhenFieldValueWas", "WhenFieldValueWasNot", "WhenFieldValueChangesTo"}


def check_copies(app_configs: Sequence[AppConfig] | None) -> Iterator[CheckMessage]:
    for model in models_of(app_configs):
        fields = [field for field in model._meta.concrete_fields if isinstance(field, EncryptedField)]
        if fields:
            yield from _check_cache(model)
            yield from _check_trackers(model, fields)
            yield from _check_hooks(model, fields)


def _check_cache(model: type[Model]) -> Iterator[CheckMessage]:
    module: Any = sys.modules.get("cacheops.conf")
    profile = module.model_profile(model) if module is not None else None
    if profile and {"fetch", "get"} & {*profile["ops"]}:
        yield CheckWarning(
            f"django-cacheops keeps the results of queries of {model._meta.label}: for values() and annotations the "
            "values in the clear, also after their key was withdrawn.",
            hint=f'Write "{model._meta.label_lower}": {{"ops": (), "timeout": {profile["timeout"]}}} in CACHEOPS, and '
            "cache() where whole instances are read: they are kept encrypted.",
            obj=model,
            id="vault_fields.W023",
        )


def _check_trackers(model: Any, fields: list[EncryptedField]) -> Iterator[CheckMessage]:
    """Check FieldTracker of django-model-utils, and the mixin of django-dirtyfields."""
    module: Any = sys.modules.get("model_utils.tracker")
    for name, tracker in _attributes(model) if module is not None else ():
        if isinstance(tracker, module.FieldTracker) and (tracked := _named(fields, tracker.fields)):
            yield _tracked(model, tracked, f"{name} = {type(tracker).__name__}(fields=[…])")
    module = sys.modules.get("dirtyfields.dirtyfields")
    if module is not None and issubclass(model, module.DirtyFieldsMixin):
        checked = model.FIELDS_TO_CHECK
        if tracked := [field.name for field in fields] if not checked else _named(fields, checked):
            yield _tracked(model, tracked, "FIELDS_TO_CHECK = […]")


def _tracked(model: type[Model], names: list[str], declaration: str) -> CheckMessage:
    return CheckWarning(
        f"A tracker copies {', '.join(names)} whenever a row is loaded: each row asks the Vault by itself, and pickles "
        "of it hold the values in the clear.",
        hint=f"Name the fields to be tracked, without those that are encrypted: {declaration}.",
        obj=model,
        id="vault_fields.W024",
    )


def _check_hooks(model: Any, fields: list[EncryptedField]) -> Iterator[CheckMessage]:
    """Check the hooks of django-lifecycle."""
    module: Any = sys.modules.get("django_lifecycle.mixins")
    if module is None or not issubclass(model, module.LifecycleModelMixin):
        return
    for method in model._potentially_hooked_methods():
        asked = [name for config in method._hooked for name in _named(fields, _remembered(config.condition))]
        if asked:
            yield CheckWarning(
                f"The hook {method.__name__!r} compares what {', '.join(dict.fromkeys(asked))} was, which is kept "
                "encrypted and equal to no value.",
                hint="Ask whether it changed, with has_changed, and for its present value, with is_now.",
                obj=model,
                id="vault_fields.W025",
            )


def _remembered(condition: Any) -> list[str]:
    """Return the fields of which a condition compares the loaded value with the assigned one."""
    if hasattr(condition, "left"):
        return [*_remembered(condition.left), *_remembered(condition.right)]
    kind = type(condition)
    if kind.__name__ in _PAST:
        return [condition.field_name]
    # The class holds its defaults.
    if any(
        getattr(condition, name, None) is not getattr(kind, name, None) for name in ("was", "was_not", "changes_to")
    ):
        return [getattr(condition, "when", None), *(getattr(condition, "when_any", None) or ())]
    return []


def _named(fields: list[EncryptedField], names: Any) -> list[str]:
    return [field.name for field in fields if field.name in names]


def _attributes(model: type[Model]) -> Iterator[tuple[str, Any]]:
    for cls in model.__mro__:
        yield from vars(cls).items()
