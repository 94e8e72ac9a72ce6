"""
Uniqueness of encrypted values: constraints over the hashes of indexed fields.

No two ciphertexts are equal, but hashes are, and an index key belongs to one key context: two rows have the same hash
only if they have the same value in the same context.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured, ValidationError
from django.db import DEFAULT_DB_ALIAS
from django.db.backends.utils import names_digest
from django.db.models import Deferrable, Model, Q, UniqueConstraint, Value
from django.utils.text import capfirst

from vault_fields.exceptions import KeyContextError
from vault_fields.fields.bindings import concrete_field
from vault_fields.fields.blindindex import BlindIndex, exact_index
from vault_fields.fields.deriving import derive_contexts
from vault_fields.fields.forcontext import InContext
from vault_fields.fields.groups import encrypted_fields, group_of, hashes_for
from vault_fields.fields.interface import Encrypted
from vault_fields.runtime.frames import forgetful
from vault_fields.stored.blindindex import ALL_BITS

__all__ = ["EncryptedUniqueConstraint", "UniqueInContext", "add_unique", "conflict_columns", "is_constrained"]
__all__ += ["with_whole_index"]


class EncryptedUniqueConstraint(UniqueConstraint):
    """
    A ``UniqueConstraint`` over indexed encrypted fields, and other columns: ``fields=["organization", "ssn"]``.

    The database has it over the hashes. Conditions are those of columns in the clear, or ask whether a value is NULL.
    ``validate`` costs, besides its query, one for the index keys, one ``decrypt`` for an index key that is not cached,
    and what opening the value costs. It raises ``ValidationError``, which does not hold the value, and what opening
    raises: a key that was withdrawn never reads as "is unique".
    """

    def __init__(
        self,
        *,
        fields: Sequence[str],
        name: str,
        condition: Q | None = None,
        deferrable: Deferrable | None = None,
        include: Sequence[str] | None = None,
        opclasses: Sequence[str] = (),
        nulls_distinct: bool | None = None,
        violation_error_code: str | None = None,
        violation_error_message: Any = None,
    ) -> None:
        super().__init__(
            fields=fields,
            name=name,
            condition=condition,
            deferrable=deferrable,
            include=include,
            opclasses=opclasses,
            nulls_distinct=nulls_distinct,
            violation_error_code=violation_error_code,
            violation_error_message=violation_error_message,
        )

    def deconstruct(self) -> Any:
        path, args, kwargs = super().deconstruct()
        return path.replace("vault_fields.fields.unique.", "vault_fields.fields."), args, kwargs

    def __eq__(self, other: object) -> bool:
        # Not equal to a plain constraint of the same fields: migrations have to replace that one.
        return type(self) is type(other) and super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    # The database's side.

    def stored_fields(self, model: type[Model]) -> list[str]:
        """Return the names of the columns in the constraint that the database has."""
        return [_column(model, name) for name in self.fields]

    def constraint_sql(self, model: Any, schema_editor: Any) -> Any:
        return UniqueConstraint.constraint_sql(self._over(self.stored_fields(model)), model, schema_editor)

    def create_sql(self, model: Any, schema_editor: Any) -> Any:
        return UniqueConstraint.create_sql(self._over(self.stored_fields(model)), model, schema_editor)

    def _over(self, names: Iterable[str]) -> Any:
        changed = copy.copy(self)
        changed.fields = tuple(names)
        return changed

    # Python's side.

    @forgetful
    def validate(self, model: Any, instance: Any, exclude: Any = None, using: str = DEFAULT_DB_ALIAS) -> None:
        encrypted = encrypted_among(model, self.fields)
        given = {name for field in encrypted for name in _given_context(instance, field)}
        excluded = set(exclude or ()) - given
        if not excluded.isdisjoint(self.compared_fields(model)):
            return
        try:
            row = _Row(instance, {field.attname: _needle(instance, field, using) for field in encrypted})
        except KeyContextError:
            return  # A row without a key context is not written.
        self._compare(model, row, excluded, using)

    def compared_fields(self, model: type[Model]) -> Sequence[str]:
        """Return the names of the fields by which ``validate`` looks for another row."""
        return self.fields

    def _compare(self, model: Any, row: Any, excluded: set[str], using: str) -> None:
        UniqueConstraint.validate(self._over(self.compared_fields(model)), model, row, excluded, using)


class UniqueInContext(EncryptedUniqueConstraint):
    """
    The constraint of an encrypted field with ``unique=True``: a value occurs once in each key context.

    ``fields`` has the encrypted field, and then the columns that its context starts from, so that validators of others
    find the tenant. The database has it over the hash alone, which differs wherever the context does. Errors are those
    of the field.
    """

    # Known once a model has it, and no part of the declaration.
    _model: type[Model] | None = None

    def bind(self, model: type[Model]) -> None:
        """Learn of the model whose field's message it takes for its own."""
        self._model = model

    def get_violation_error_message(self) -> Any:
        if self._model is None or self.violation_error_message != self.default_violation_error_message:
            return super().get_violation_error_message()
        options: Any = self._model._meta
        field = options.get_field(self.fields[0])
        # What Django gives to the message of a field.
        names = {
            "model": self._model,
            "model_class": self._model,
            "model_name": capfirst(options.verbose_name),
            "unique_check": self.fields[:1],
            "field_label": capfirst(field.verbose_name),
        }
        return str(field.error_messages["unique"]) % names

    def stored_fields(self, model: type[Model]) -> list[str]:
        return [_column(model, name) for name in self.compared_fields(model)]

    def compared_fields(self, model: type[Model]) -> Sequence[str]:
        return self.fields[:1]

    def fixes_columns(self, model: type[Model]) -> bool:
        """Whether rows with equal hashes agree in all of ``fields``, and not only in what the columns lead to."""
        (field,) = encrypted_among(model, self.fields)
        group = group_of(field)
        return len(group.source.own_columns(group.bindings)) == len(group.bindings)

    def _compare(self, model: Any, row: Any, excluded: set[str], using: str) -> None:
        try:
            super()._compare(model, row, excluded, using)
        except ValidationError as error:
            found = error
        else:
            return
        raise ValidationError({self.fields[0]: found})


class _Row:
    """
    A row that is validated, with what its encrypted values are looked up by in their place.

    Django's frames hold what it reads here, and error reports show them.
    """

    def __init__(self, instance: Any, needles: dict[str, Any]) -> None:
        self._instance = instance
        self.__dict__.update(needles)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)

    def _get_field_expression_map(self, meta: Any, exclude: Any = None) -> dict[str, Any]:
        # A condition may ask whether an encrypted value is NULL, and no more. None of them is opened for that.
        left_out = set(exclude or ())
        encrypted = [field for field in encrypted_fields(meta.model) if field.name not in left_out]
        names = {field.name for field in encrypted}
        found: dict[str, Any] = self._instance._get_field_expression_map(meta=meta, exclude=left_out | names)
        for field in encrypted:
            held = field.model.__dict__[field.attname].held_by(self._instance)
            found[field.name] = Value(None if held is None else "not shown", output_field=field)
        return found


def encrypted_among(model: type[Model], names: Iterable[str]) -> list[Encrypted]:
    """Return the encrypted fields among names of fields."""
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    return [field for field in fields if getattr(field, "is_encrypted", False)]


def is_constrained(field: Encrypted) -> bool:
    """Whether a constraint of the model makes the field unique, if only together with others."""
    constraints: Any = field.model._meta.constraints
    return any(isinstance(each, EncryptedUniqueConstraint) and field.name in each.fields for each in constraints)


def with_whole_index(declared: Sequence[BlindIndex]) -> tuple[BlindIndex, ...]:
    """Return the indexes of a field that is unique: one is primary. Raises ``ValueError`` if that one is truncated."""
    primary = next((each for each in declared if each.name is None), None)
    if primary is None:
        return (BlindIndex(), *declared)
    if primary.bits < ALL_BITS:
        raise ValueError(
            f"unique=True with an index of {primary.bits} bits: different values have one hash. Leave bits out, or "
            "give that index a name, and unique=True makes another one."
        )
    return tuple(declared)


def add_unique(model: Any, field: Encrypted) -> None:
    """Give a model the constraint of a field that is declared with ``unique=True``, unless it declares one itself."""
    options = model._meta
    found = [each for each in options.constraints if isinstance(each, UniqueInContext) and each.fields[0] == field.name]
    if all(each.condition for each in found):
        found.append(UniqueInContext(fields=_with_context(model, field), name=_name(options, field)))
        options.constraints = [*options.constraints, found[-1]]
        # Migrations take over the options that a model declares.
        options.original_attrs["constraints"] = options.constraints
    for each in found:
        each.bind(model)


def conflict_columns(model: type[Model], names: Sequence[str]) -> list[str]:
    """Return the columns by which an upsert matches rows that agree in fields of these names."""
    for each in model._meta.constraints:
        if isinstance(each, UniqueInContext) and set(each.fields) == set(names) and each.fixes_columns(model):
            return each.stored_fields(model)
    return hashes_for(model, names)


def _with_context(model: Any, field: Encrypted) -> Sequence[str]:
    """Return the field and the columns of its table that its context starts from."""
    index = exact_index(field)
    if index is None or index.scope == "global":
        return [field.name]
    names = [field.name]
    for root in field.source.roots.values():
        with suppress(FieldDoesNotExist):  # A system check reports it.
            column = concrete_field(model, root)
            names.append(column.name if column.model is model else model._meta.get_ancestor_link(column.model).name)
    return list(dict.fromkeys(names))


def _name(options: Any, field: Encrypted) -> str:
    label = f"{options.app_label}_{options.model_name}_{field.name}"
    return f"{label[:45]}_{names_digest(options.label, field.name, length=8)}_uniq"


def _column(model: type[Model], name: str) -> str:
    field: Any = model._meta.get_field(name)
    if not getattr(field, "is_encrypted", False):
        return name
    index = exact_index(field)
    if index is None or index.is_truncated:
        lack = "no index" if index is None else "an index whose hashes are truncated"
        raise ImproperlyConfigured(
            f"{field.label} is to be unique and has {lack}: declare it with index=True, and run makemigrations."
        )
    return index.name


def _given_context(instance: Any, field: Encrypted) -> Iterator[str]:
    """Yield the names of the context's columns that a row has."""
    for binding in group_of(field).bindings:
        if getattr(instance, binding.attname, None) is not None:
            yield binding.field.name


def _needle(instance: Any, field: Encrypted, using: str) -> Any:
    value = getattr(instance, field.attname)
    if value is None:
        return None
    index, group = exact_index(field), group_of(field)
    if index is None or index.scope == "global":
        return InContext(value, None, Q())
    (context,) = derive_contexts([(instance, group)], using)
    return InContext(value, context, group.rows_like(instance))
