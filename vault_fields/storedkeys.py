"""The encrypted keys that the project's rows hold: every companion of every encrypted field, read and not written."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.apps import apps
from django.db import connections, router

from vault_fields import companion as companion_format
from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.companion import Companion
from vault_fields.embedded.service import EmbeddedVault
from vault_fields.exceptions import EnvelopeError
from vault_fields.fields.groups import Group, groups_of
from vault_fields.progress import Progress, silent
from vault_fields.walk import StoredRows

__all__ = ["StoredKeys", "in_environment", "stored_keys", "tables"]

BATCH_SIZE = 1000


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """A row's companion, and how many encrypted values hang on it; without one, if there is none that can be read."""

    label: str
    pk: object
    values: int
    companion: Companion | None


def in_environment(
    vault: EmbeddedBackend, environment: str | None, wanted: Iterable[tuple[str, Group]]
) -> tuple[EmbeddedVault, list[tuple[str, Group]]]:
    """
    The Vault of an environment, or of the backend's own without one, and which of these tables have rows of it.

    Fields take their keys from the backend's own environment: of any other there are stored objects only.
    """
    if environment in {None, vault.service.environment}:
        return vault.service, list(wanted)
    return vault.service.for_environment(environment), []


def tables(databases: Iterable[str] = ()) -> list[tuple[str, Group]]:
    """
    Every table with encrypted columns in every database that may have it, by the routers; or in ``databases`` alone.
    """
    return [
        (alias, group)
        for alias in (databases or connections)
        for model in apps.get_models(include_auto_created=True)
        if not model._meta.proxy and router.allow_migrate_model(alias, model)
        for group in groups_of(model)
    ]


def stored_keys(
    wanted: Iterable[tuple[str, Group]], *, batch_size: int = BATCH_SIZE, progress: Progress = silent
) -> Iterator[StoredKeys]:
    """The rows of these tables that have an encrypted value. Costs no Vault call."""
    for alias, group in wanted:
        rows = StoredRows(group, alias)
        label = f"{group.model._meta.label}.{group.companion}"
        with progress(f"Reading {label}", rows.count) as advance:
            for batch in rows.batches(batch_size):
                for row in batch:
                    values = sum(row.envelope(member) is not None for member in group.members)
                    if values:
                        yield StoredKeys(label, row.instance.pk, values, _companion(row.companion))
                advance(len(batch))


def _companion(text: str | None) -> Companion | None:
    try:
        return companion_format.decode(text or "")
    except EnvelopeError:
        return None
