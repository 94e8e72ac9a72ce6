"""Opening values ahead of async code, where reading an attribute may not wait for a Vault."""

from collections.abc import Iterable

from asgiref.sync import sync_to_async
from django.db.models import Model

from vault_fields.fields.groups import all_groups_of

__all__ = ["aopen"]


async def aopen(instances: Iterable[Model], *names: str) -> None:
    """
    Open the encrypted fields of these instances (all of them, or those named), so that reading them never blocks.

    Costs what reading them costs: one round of Vault calls for rows that were loaded together. Deferred fields that
    are not named stay deferred.
    """
    await sync_to_async(_open)(list(instances), names)


def _open(instances: list[Model], names: tuple[str, ...]) -> None:
    for instance in instances:
        for name in names or _loaded_names(instance):
            getattr(instance, name)


def _loaded_names(instance: Model) -> list[str]:
    return [
        member.attname
        for group in all_groups_of(type(instance))
        for member in group.members
        if member.attname in instance.__dict__
    ]
