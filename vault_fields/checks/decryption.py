"""The checks of migrations that make an encrypted field a plain one: are its values decrypted before?"""

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Warning as CheckWarning
from django.db.migrations import operations as ops
from django.db.migrations.state import ProjectState
from django.db.models import Model

from vault_fields.checks.migrations import UNREADABLE
from vault_fields.checks.models import models_of
from vault_fields.fields.base import EncryptedField
from vault_fields.operations import DecryptField, EncryptField
from vault_fields.rows.labels import all_migrations
from vault_fields.schemachange.effects import Effect, unrendered
from vault_fields.schemachange.losses import Loss, losses
from vault_fields.schemachange.names import Place, place_after
from vault_fields.schemachange.plan import is_foreign

__all__ = ["check_losses"]


def check_losses(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    labels = {config.label for config in (app_configs if app_configs is not None else apps.get_app_configs())}
    history = _History()
    try:
        for migration in all_migrations():
            history.follow(migration)
    except UNREADABLE:
        return []  # W005 reports it.
    found = [_lost(loss) for loss in history.unsettled.values() if loss.effect.app_label in labels]
    return found + [message for model in models_of(app_configs) for message in _made_plain(model, history.state)]


class _History:
    """The models as the migrations build them, and the losses on the way."""

    def __init__(self) -> None:
        self.state = ProjectState()
        self.unsettled: dict[Place, Loss] = {}
        self._decrypted: set[Place] = set()

    def follow(self, migration: Any) -> None:
        app_label = migration.app_label
        name = f"{app_label}.{migration.name}"
        found: list[Loss] = []
        for operation in migration.operations:
            found += self._apply(name, app_label, operation)
        for loss in found:
            model = self.state.models.get((app_label, loss.model.name_lower))
            # A migration that also removes the field removes the values on purpose.
            if model is not None and loss.field in model.fields:
                self.unsettled.setdefault((app_label, loss.model.name_lower, loss.field), loss)

    def _apply(self, name: str, app_label: str, operation: Any) -> list[Loss]:
        if isinstance(operation, ops.SeparateDatabaseAndState):
            return self._apply_separately(name, app_label, operation)
        key = (app_label, getattr(operation, "model_name_lower", ""))
        place = (*key, getattr(operation, "name", ""))
        present = self.state.models.get(key)
        before = {} if present is None else {key: present.clone()}
        operation.state_forwards(app_label, self.state)
        followed = [place_after(operation, app_label, each) for each in self._decrypted]
        self._decrypted = {each for each in followed if each is not None}
        after = {} if key not in self.state.models else {key: self.state.models[key]}
        effect = Effect(name, app_label, operation, ProjectState(before), ProjectState(after), backwards=False)
        if isinstance(operation, (DecryptField, EncryptField)):
            place = (app_label, operation.model_name.lower(), operation.name)
            if isinstance(operation, DecryptField):
                self._decrypted.add(place)
            else:
                self._decrypted.discard(place)
        elif is_foreign(effect):
            # It may decrypt anything in its app.
            self._decrypted |= {
                (app_label, model.name_lower, field)
                for (label, _), model in self.state.models.items()
                if label == app_label
                for field in model.fields
            }
        elif isinstance(operation, ops.AlterField) and isinstance(operation.field, EncryptedField):
            self._decrypted.discard(place)
        if not before or not after:
            return []
        return [
            loss
            for loss in losses(effect)
            if isinstance(loss.field_before, EncryptedField)
            and not loss.is_still_encrypted
            and (*key, loss.field) not in self._decrypted
        ]

    def _apply_separately(self, name: str, app_label: str, operation: ops.SeparateDatabaseAndState) -> list[Loss]:
        """
        Apply the database operations to a copy of the state and the state operations to the state; return all losses.
        """
        database = _History()
        database.state, database._decrypted = unrendered(self.state), self._decrypted
        found = [loss for inner in operation.database_operations for loss in database._apply(name, app_label, inner)]
        self._decrypted = database._decrypted
        return found + [loss for inner in operation.state_operations for loss in self._apply(name, app_label, inner)]


def _lost(loss: Loss) -> CheckMessage:
    app_label, model, field = loss.label.split(".")
    return Error(
        f"The migration {loss.effect.migration} would {loss.deed}, and nothing decrypts {loss.label} before: "
        "`migrate` refuses it while rows hold encrypted values.",
        hint=f'Write DecryptField("{model.lower()}", "{field}"), of vault_fields.operations, before it there.',
        obj=f"{app_label}.{model}",
        id="vault_fields.E028",
    )


def _made_plain(model: type[Model], state: ProjectState) -> Iterator[CheckMessage]:
    """Yield a warning for each plain field of a model that the migrations still have as an encrypted one."""
    name = model.__name__.lower()
    known = state.models.get((model._meta.app_label, name))
    fields: dict[str, Any] = {} if known is None else known.fields
    for field in model._meta.local_fields:
        former = fields.get(field.name)
        if isinstance(former, EncryptedField) and not isinstance(field, EncryptedField):
            yield CheckWarning(
                "It is not encrypted any more, but the migrations have it so: rows may hold encrypted values.",
                hint=f'Type `python manage.py makemigrations`, and write DecryptField("{name}", "{field.name}"), of '
                "vault_fields.operations, before the operations that it writes.",
                obj=field,
                id="vault_fields.W010",
            )
