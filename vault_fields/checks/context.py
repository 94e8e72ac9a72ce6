"""The checks of ``key_context`` and ``bind_to``: can the row always say whose keys encrypt it?"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from django.core.checks import CheckMessage, Error, Warning as CheckWarning
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.migrations.writer import MigrationWriter
from django.db.models import Model
from django.db.models.constants import LOOKUP_SEP

from vault_fields.fields.bindings import concrete_field
from vault_fields.fields.companion import CompanionField
from vault_fields.fields.interface import Encrypted
from vault_fields.keys import MAX_ITEMS, MAX_NAME_LENGTH, MAX_VALUE_LENGTH

__all__ = ["check_context"]

# Values of these types have several spellings, or none: ``attribute_text`` refuses them at every save.
_NAMELESS = (
    models.BinaryField,
    models.BooleanField,
    models.DateField,
    models.DecimalField,
    models.DurationField,
    models.FileField,
    models.FloatField,
    models.GenericIPAddressField,
    models.JSONField,
    models.TimeField,
    CompanionField,
    Encrypted,
)

# The database generates the values of these fields.
_LATE = (models.AutoField, models.GeneratedField)

# Database actions on a foreign key that give the row to another tenant when its target is deleted. Since Django 6.1.
_SETTING = {getattr(models, name) for name in ("DB_SET_NULL", "DB_SET_DEFAULT") if hasattr(models, name)}


def check_context(field: Encrypted) -> Iterator[CheckMessage]:
    if field.source.function is None:
        yield from _check_limits(field)
        for path in field.source.paths.values():
            yield from _check_path(field, "key_context", path)
        for name, function in field.source.outside.items():
            yield from _check_importable(field, f"key_context[{name!r:.40}]", function, "current_tenant()")
    else:
        yield from _check_function(field)
    for name in field.bind_to:
        yield from _check_path(field, "bind_to", name)
        yield from _check_lasting(field, name)


def _check_limits(field: Encrypted) -> Iterator[CheckMessage]:
    source = field.source
    if not 1 <= len(source) <= MAX_ITEMS:
        yield Error(
            f"key_context has {len(source)} items; a key context has 1 to {MAX_ITEMS}.",
            hint='Name what decides whose data this is, as in key_context=["organization_id"].',
            obj=field,
            id="vault_fields.E004",
        )
    for name in (*source.paths, *source.constants, *source.outside):
        if not 1 <= len(name) <= MAX_NAME_LENGTH:
            yield Error(
                f"key_context has a name of {len(name)} characters; names have 1 to {MAX_NAME_LENGTH}.",
                hint='Give it a short name and keep the path: key_context={"organization_id": "path__to__attribute"}.',
                obj=field,
                id="vault_fields.E005",
            )
    for name, value in source.constants.items():
        if not 1 <= len(value) <= MAX_VALUE_LENGTH:
            yield Error(
                f"key_context[{name!r:.40}] is a constant of {len(value)} characters; constants have 1 to "
                f"{MAX_VALUE_LENGTH}.",
                hint=f'Write a short constant, as in key_context={{{name!r:.40}: Value("care")}}, or leave it out.',
                obj=field,
                id="vault_fields.E006",
            )


def _check_function(field: Encrypted) -> Iterator[CheckMessage]:
    function: Any = field.source.function
    name = getattr(function, "__name__", "key_context")
    yield from _check_importable(
        field, "key_context", function, '@context_from("organization_id") def key_context(row)'
    )
    attributes = getattr(function, "context_attributes", None)
    if not attributes:
        yield Error(
            f"key_context is the function {name}(), which does not declare the columns that it reads.",
            hint=f'Write @context_from("organization_id") above def {name}(...), with the columns that it reads.',
            obj=field,
            id="vault_fields.E002",
        )
    for attribute in attributes or ():
        # The function decides what it makes of NULL.
        yield from _check_path(field, "context_from", attribute, nullable=True)


def _check_importable(field: Encrypted, option: str, function: Any, example: str) -> Iterator[CheckMessage]:
    try:
        MigrationWriter.serialize(function)
    except ValueError:
        yield Error(
            f"{option} is a function that migrations cannot import by name.",
            hint=f"Move it to the top level of a module: {example}: ...",
            obj=field,
            id="vault_fields.E003",
        )


def _check_path(field: Encrypted, option: str, path: str, *, nullable: bool = False) -> Iterator[CheckMessage]:
    try:
        passed = list(_follow(field.model, path, one_column=option != "key_context"))
    except FieldDoesNotExist as error:
        yield _missing(field, option, path, error)
        return
    yield from _check_root(field, option, passed[0])
    yield from _check_deletion(field, option, passed[0])
    column = _value_column(passed[-1])
    if isinstance(column, _NAMELESS):
        yield Error(
            f"{option} leads to {path!r}, a {type(column).__name__}, which cannot name a tenant; text, whole numbers, "
            "UUIDs and enums of these can.",
            hint=_choice("Name another column, such as the key of the tenant", field.model),
            obj=field,
            id="vault_fields.E007",
        )
    may_be_null = [step.name for step in passed if step.null]
    if may_be_null and not nullable:
        yield CheckWarning(
            f"{option} leads through {', '.join(map(repr, may_be_null))}, which may be NULL: a row where it is cannot "
            "be saved with a value.",
            hint=f"Write null=False on {may_be_null[0]!r}, or take care that every row with a value has one.",
            obj=field,
            id="vault_fields.W001",
        )


def _check_root(field: Encrypted, option: str, root: Any) -> Iterator[CheckMessage]:
    column = root
    while column.remote_field and column.remote_field.parent_link:
        column = column.target_field
    # A row that is bound to its own key is inserted first and encrypted afterwards.
    if isinstance(column, _LATE) and column is not field.model._meta.auto_field:
        reason = "which the database gives to a row only when it is inserted"
    elif column.has_db_default() and not column.has_default():
        reason = "whose default only the database knows"
    else:
        return
    yield Error(
        f"{option} starts from {root.name!r}, {reason}; the value is encrypted before that.",
        hint=f"Give {column.name!r} its value in Python, as in models.UUIDField(default=uuid.uuid4). Or add a column "
        "that has one, uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False), and name 'uuid' in "
        "its place.",
        obj=field,
        id="vault_fields.E008",
    )


def _check_deletion(field: Encrypted, option: str, root: Any) -> Iterator[CheckMessage]:
    on_delete = root.remote_field and root.remote_field.on_delete
    if on_delete in _SETTING:
        yield CheckWarning(
            f"{option} starts from {root.name!r}, which the database sets anew when the row that it points to is "
            "deleted. That "
            "moves the row behind the field's back: its value does not open afterwards.",
            hint=f"Write on_delete=models.PROTECT or models.CASCADE on {root.name!r}.",
            obj=field,
            id="vault_fields.W009",
        )


def _check_lasting(field: Encrypted, name: str) -> Iterator[CheckMessage]:
    for column in field.model._meta.concrete_fields:
        is_key = column.primary_key or column in field.model._meta.pk_fields
        if name in (column.name, column.attname) and column.editable and not is_key:
            yield CheckWarning(
                f"bind_to names {name!r}, which can be edited. A value does not open once SQL of your own has changed "
                "what it is tied to.",
                hint=f"Bind to the primary key, or write editable=False on {column.name!r}.",
                obj=field,
                id="vault_fields.W008",
            )


def _missing(field: Encrypted, option: str, path: str, error: FieldDoesNotExist) -> CheckMessage:
    return Error(
        f"{option} names {path!r}: {error}",
        hint=_instead(field.model, path, one_column=option != "key_context"),
        obj=field,
        id="vault_fields.E009" if option == "bind_to" else "vault_fields.E001",
    )


def _instead(model: type[Model], path: str, *, one_column: bool) -> str:
    """
    Return what to write in place of a path that leads nowhere: its wrong part corrected, or what exists where it ends.
    """
    current: Any = model
    passed: list[str] = []
    *relations, last = path.split(LOOKUP_SEP)
    for name in [] if one_column else relations:
        try:
            current = _relation(current, name, must_be_column=current is model).related_model
        except FieldDoesNotExist:
            break
        passed.append(name)
    wrong, *rest = [path] if one_column else [*relations, last][len(passed) :]
    if rest:
        names = [field.name for field in current._meta.get_fields() if field.many_to_one or field.one_to_one]
    else:
        names = [name for column in current._meta.concrete_fields for name in (column.attname, column.name)]
    for close in get_close_matches(wrong, names):
        corrected = LOOKUP_SEP.join([*passed, close, *rest])
        if _leads_somewhere(model, corrected):
            return f"Write {corrected!r} instead."
    if not passed:
        return _choice("Name one of the row's own columns", model)
    return _choice(f"Name a column of {current._meta.label}", current, LOOKUP_SEP.join([*passed, ""]))


def _leads_somewhere(model: type[Model], path: str) -> bool:
    try:
        return bool(list(_follow(model, path, one_column=False)))
    except FieldDoesNotExist:
        return False


def _choice(advice: str, model: type[Model], prefix: str = "") -> str:
    """Return advice that names suitable columns or, where there are none, what to add."""
    refused = _NAMELESS if prefix else (*_NAMELESS, *_LATE)
    columns: Iterable[Any] = model._meta.concrete_fields
    names = [
        f"{prefix}{column.attname}"
        for column in columns
        if not isinstance(column, refused) and not isinstance(_value_column(column), _NAMELESS)
    ]
    if names:
        return f"{advice}: {', '.join(names)}."
    return (
        f"{model._meta.label} has no column that can name a tenant. Add one, as in organization = "
        'models.ForeignKey("Organization", on_delete=models.PROTECT), and name it.'
    )


def _follow(model: type[Model], path: str, *, one_column: bool) -> Iterator[Any]:
    """
    Yield the fields that a path passes, as a save follows it.

    Stops early where a relation leads nowhere, which Django reports.
    """
    if one_column and LOOKUP_SEP in path:
        raise FieldDoesNotExist("it has to be a column of the row itself, not a path.")
    current: Any = model
    *relations, last = path.split(LOOKUP_SEP)
    for name in relations:
        field = _relation(current, name, must_be_column=current is model)
        yield field
        current = field.related_model
        if not isinstance(current, type):
            return
    yield concrete_field(current, last)


def _relation(model: type[Model], name: str, *, must_be_column: bool) -> Any:
    field: Any = model._meta.get_field(name)
    # Not by attname: ``organization_id`` is a number, and no path continues from a number.
    if field.name != name or not (field.many_to_one or field.one_to_one) or (must_be_column and not field.concrete):
        raise FieldDoesNotExist(f"{name!r} of {model._meta.label} is not a relation to one row.")
    return field


def _value_column(field: Any) -> Any:
    """Return the column whose values a foreign key has."""
    while field.remote_field and isinstance(field.related_model, type) and field.concrete:
        field = field.target_field
    return field
