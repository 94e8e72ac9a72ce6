"""Paths and expressions, as orderings, conditions and the admin write them: which encrypted field do they name?"""

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import F, Model, Q
from django.db.models.constants import LOOKUP_SEP

from vault_fields.fields.base import EncryptedField

__all__ = ["encrypted_at", "encrypted_in", "paths_in"]


def encrypted_at(model: type[Model], path: str) -> tuple[EncryptedField, str] | None:
    """Return the first encrypted field on a path, and the rest of the path there: a lookup, or nothing."""
    current: Any = model
    names = path.split(LOOKUP_SEP)
    for position, name in enumerate(names, start=1):
        try:
            field: Any = current._meta.pk if name == "pk" else current._meta.get_field(name)
        except FieldDoesNotExist:
            return None  # A lookup, an annotation, or a mistake that Django reports.
        if isinstance(field, EncryptedField):
            return field, LOOKUP_SEP.join(names[position:])
        current = getattr(field, "related_model", None)
        if not isinstance(current, type):
            return None
    return None


def encrypted_in(model: type[Model], *items: Any) -> list[EncryptedField]:
    """Return the encrypted fields that orderings, expressions or conditions read, each once."""
    found = [encrypted_at(model, path) for item in items for path in paths_in(item)]
    return list(dict.fromkeys(match[0] for match in found if match))


def paths_in(item: Any) -> Iterator[str]:
    """Yield the paths that an ordering, an expression or a condition reads, but not where it only asks for NULL."""
    if isinstance(item, str):
        yield item.lstrip("-+")
    elif isinstance(item, F):
        yield item.name  # type: ignore[attr-defined]
    elif isinstance(item, Q):
        for child in item.children:
            if not isinstance(child, tuple):
                yield from paths_in(child)
                continue
            lookup, value = child
            if value is not None and not lookup.endswith(f"{LOOKUP_SEP}isnull"):
                yield lookup
            if not isinstance(value, str):
                yield from paths_in(value)
    elif hasattr(item, "get_source_expressions"):
        for expression in item.get_source_expressions():
            yield from paths_in(expression)
