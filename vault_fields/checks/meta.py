"""The checks of ``class Meta``: no ordering, constraint or index can be made of ciphertext."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from django.core.checks import CheckMessage, Error
from django.db.models import GeneratedField, Model, UniqueConstraint

from vault_fields.fields.blindindex import exact_index
from vault_fields.fields.paths import encrypted_in
from vault_fields.fields.unique import EncryptedUniqueConstraint

__all__ = ["check_meta"]

_CIPHERTEXT = "The database sees ciphertext, which is different each time"


def check_meta(model: type[Model]) -> Iterator[CheckMessage]:
    options: Any = model._meta
    for option in ("ordering", "get_latest_by"):
        yield from _check_order(model, option, getattr(options, option))
    for names in options.unique_together:
        yield from _check_constraint(model, f"unique_together {names!r}", names, names)
    for constraint in options.constraints:
        what = f"the constraint {constraint.name!r}"
        if isinstance(constraint, EncryptedUniqueConstraint):
            yield from _check_unique(model, what, constraint.fields)
            yield from _check_constraint(model, what, _parts(constraint, "include"))
        else:
            names = constraint.fields if isinstance(constraint, UniqueConstraint) else ()
            yield from _check_constraint(model, what, _parts(constraint), names)
    for index in options.indexes:
        yield from _check_index(model, index)
    for column in options.local_fields:
        if isinstance(column, GeneratedField):
            yield from _check_generated(model, column)


def _check_order(model: type[Model], option: str, value: Any) -> Iterator[CheckMessage]:
    for field in encrypted_in(model, *(value if isinstance(value, (list, tuple)) else [value])):
        yield Error(
            f"Meta.{option} names the encrypted field {field.label}. {_CIPHERTEXT}: it has no order.",
            hint=f"Take {field.name!r} out of {option} and name another field, such as 'pk'.",
            obj=model,
            id="vault_fields.E012",
        )


def _check_constraint(model: type[Model], what: str, parts: Any, unique: Sequence[str] = ()) -> Iterator[CheckMessage]:
    """Check what a constraint is over; ``unique`` are the fields that it makes unique."""
    for field in encrypted_in(model, *parts):
        hint = f"Take {field.name!r} out of it, or write condition=Q({field.name}__isnull=False)."
        if field.name in unique and field.is_indexable:
            needs = "" if exact_index(field) else f", with index=True on {field.name!r}"
            hint = f"Write EncryptedUniqueConstraint(fields={list(unique)!r}, name=…) in its place{needs}."
            if list(unique) == [field.name]:
                hint = f"Write unique=True on {field.name!r} in its place."
        yield Error(
            f"{what[0].upper()}{what[1:]} is over the encrypted field {field.label}. {_CIPHERTEXT}: all that a "
            "constraint can ask is whether it is NULL.",
            hint=hint,
            obj=model,
            id="vault_fields.E013",
        )


def _check_unique(model: type[Model], what: str, names: Sequence[str]) -> Iterator[CheckMessage]:
    for field in encrypted_in(model, *names):
        index = exact_index(field)
        if index is not None and not index.is_truncated:
            continue
        if index is not None:
            lack = f"whose index keeps {index.bits} bits of each hash: different values have equal ones"
            hint = f"Leave bits={index.bits} out of the index of {field.name!r}, or give it a name and add another one."
        elif field.is_indexable:
            lack, hint = "which has no index: there is nothing to compare", f"Write index=True on {field.name!r}."
        else:
            lack = "which can have no index: there is nothing to compare"
            hint = f"Take {field.name!r} out of it, and keep what occurs once in an encrypted text field of its own."
        yield Error(
            f"{what[0].upper()}{what[1:]} makes the encrypted field {field.label} unique, {lack}.",
            hint=hint,
            obj=model,
            id="vault_fields.E033",
        )


def _check_index(model: type[Model], index: Any) -> Iterator[CheckMessage]:
    for field in encrypted_in(model, *_parts(index)):
        yield Error(
            f"The index {index.name!r} is over the encrypted field {field.label}. {_CIPHERTEXT}: it finds nothing.",
            hint=f"Take {field.name!r} out of the index.",
            obj=model,
            id="vault_fields.E014",
        )


def _check_generated(model: type[Model], column: Any) -> Iterator[CheckMessage]:
    for field in encrypted_in(model, column.expression):
        yield Error(
            f"The database would compute {column.name!r} from the encrypted field {field.label}. {_CIPHERTEXT}.",
            hint=f"Write a property that computes it from self.{field.name} in Python.",
            obj=column,
            id="vault_fields.E015",
        )


def _parts(constraint: Any, *lists_of: str) -> Iterator[Any]:
    """Yield the fields and expressions of a constraint or an index, whatever its class, or some of its lists."""
    lists = (getattr(constraint, name, None) or () for name in lists_of or ("fields", "expressions", "include"))
    for part in (*chain.from_iterable(lists), getattr(constraint, "condition", None)):
        # PostgreSQL's exclusion constraints pair each expression with an operator.
        yield part[0] if isinstance(part, (tuple, list)) else part
