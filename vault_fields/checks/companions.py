"""The checks of companions. Every encrypted field has one, in its own table, and shares it only with fields like it."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Warning as CheckWarning
from django.db.models import Model

from vault_fields.fields.companion import CompanionField
from vault_fields.fields.groups import encrypted_fields
from vault_fields.fields.interface import Encrypted

__all__ = ["check_companions"]


def check_companions(model: type[Model]) -> Iterator[CheckMessage]:
    members: dict[str, list[Encrypted]] = {}
    for field in encrypted_fields(model):
        members.setdefault(field.companion_name, []).append(field)
        yield from _check_companion(model, field)
    for fields in members.values():
        yield from _check_agreement(*fields)
    for column in model._meta.local_fields:
        if isinstance(column, CompanionField) and column.name not in members:
            yield CheckWarning(
                "No encrypted field keeps its keys in this companion.",
                hint=f"Write keys_field={column.name!r} on the fields that shall share it, or remove it.",
                obj=column,
                id="vault_fields.W002",
            )


def _check_companion(model: type[Model], field: Encrypted) -> Iterator[CheckMessage]:
    name = field.companion_name
    columns: list[Any] = [column for column in model._meta.fields if column.name == name]
    strangers = [column for column in columns if not isinstance(column, CompanionField)]
    local = [column for column in columns if column in model._meta.local_fields]
    if field.keys_field is None and strangers:
        yield Error(
            f"Its companion would be named {name!r}, as the {type(strangers[0]).__name__} that is there already.",
            hint=f"Write keys_field='{field.name}_vault_keys' here, and {field.name}_vault_keys = CompanionField() "
            "beside it.",
            obj=field,
            id="vault_fields.E016",
        )
    elif strangers or not local:
        reason = "is not a CompanionField" if strangers else "stands in a parent's table" if columns else "is missing"
        yield Error(
            f"It keeps its keys in {name!r}, which {reason}.",
            hint=f"Write {name} = CompanionField() in {model._meta.label}."
            if not columns
            else f"Write keys_field='{field.name}_vault_keys' here, and {field.name}_vault_keys = CompanionField() in "
            f"{model._meta.label}.",
            obj=field,
            id="vault_fields.E017",
        )


def _check_agreement(first: Encrypted, *others: Encrypted) -> Iterator[CheckMessage]:
    for field in others:
        differing = [
            option for option in ("key_context", "vault") if _declared(field, option) != _declared(first, option)
        ]
        if differing:
            yield Error(
                f"It shares {field.companion_name!r} with {first.name!r}, but not its {' and '.join(differing)}: one "
                "companion holds the data key of one key context, from one vault.",
                hint=f"Declare the same on both, or take keys_field={field.companion_name!r} away from {field.name!r}.",
                obj=field,
                id="vault_fields.E018",
            )


def _declared(field: Encrypted, option: str) -> object:
    source = field.source
    return field.vault if option == "vault" else source.parts
