"""
The check of ``former_labels``. A value opens under the label with which it was encrypted; a rename changes the label.
"""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Warning as CheckWarning
from django.core.exceptions import FieldDoesNotExist
from django.core.management.base import CommandError
from django.db.migrations.exceptions import BadMigrationError, CircularDependencyError, NodeNotFoundError

from vault_fields.checks.models import models_of
from vault_fields.fields.groups import encrypted_fields
from vault_fields.fields.interface import Encrypted
from vault_fields.rows.labels import LabelHistory, all_migrations

__all__ = ["UNREADABLE", "check_former_labels"]

UNREADABLE = (
    BadMigrationError,
    CircularDependencyError,
    CommandError,
    ImportError,
    NodeNotFoundError,
    ValueError,
)


def check_former_labels(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    fields = [field for model in models_of(app_configs) for field in encrypted_fields(model)]
    if not fields:
        return []  # Reading every migration takes time.
    try:
        history = LabelHistory.of(all_migrations())
    except UNREADABLE as error:
        return [
            CheckWarning(
                f"The migrations cannot be read, so it is unknown which fields were renamed: {error}",
                hint="Type `python manage.py makemigrations --check`, which says more.",
                id="vault_fields.W005",
            )
        ]
    return [message for field in fields for message in _check_field(field, history)]


def _check_field(field: Encrypted, history: LabelHistory) -> list[CheckMessage]:
    key = (field.model._meta.app_label, field.model.__name__.lower())
    if not history.knows(key, field.name):
        return _check_order(field, history)
    needed = [label for label in history.labels(key, field.name) if label != field.label]
    missing = [label for label in needed if label not in field.former_labels]
    if not missing:
        return []
    return [
        Error(
            f"The migrations rename it, and values that were encrypted before, as {' or '.join(missing)}, do not open "
            "under its new name.",
            hint=f"Write former_labels={[*field.former_labels, *missing]!r} on the field, and type "
            "`python manage.py makemigrations`.",
            obj=field,
            id="vault_fields.E021",
        )
    ]


def _check_order(field: Encrypted, history: LabelHistory) -> list[CheckMessage]:
    """Require that a field unknown to the migrations does not differ from the one that it is renamed from."""
    renamed = [label for label in field.former_labels if _is_gone(label) and _is_known(label, history)]
    if not renamed:
        return []
    return [
        Error(
            f"It has former_labels before the migrations have its rename from {renamed[0]}. makemigrations takes two "
            "fields that differ for different fields: it would drop the old column with its values.",
            hint="Take former_labels away, type `python manage.py makemigrations`, answer that it was renamed, and "
            "put it back.",
            obj=field,
            id="vault_fields.E022",
        )
    ]


def _is_known(label: str, history: LabelHistory) -> bool:
    app_label, model, column = label.rsplit(".", 2)
    return history.knows((app_label, model.lower()), column)


def _is_gone(label: str) -> bool:
    """Whether no model has the field of this label any more."""
    model, _, column = label.rpartition(".")
    try:
        apps.get_model(model)._meta.get_field(column)
    except (LookupError, FieldDoesNotExist):
        return True
    return False
