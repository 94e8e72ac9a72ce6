"""Groups of encrypted fields that share a companion: they are sealed under one data key and written all or none."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from django.core.exceptions import FieldError
from django.db.models import Field, Model, Q

from vault_fields.fields.bindings import Binding, concrete_field
from vault_fields.fields.blindindex import IndexField, exact_index, indexes_of
from vault_fields.fields.context import ContextSource
from vault_fields.fields.interface import Encrypted
from vault_fields.vaults import vaults

__all__ = ["Group", "all_groups_of", "encrypted_fields", "group_of", "group_under", "groups_of", "hashes_for"]
__all__ += ["member_names_of"]

# Looked up by model and never kept on a field: fields are copied, with all they hold, into subclasses, historical
# models and history tables, where the same names mean other columns.
_groups: WeakKeyDictionary[type[Model], tuple["Group", ...]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The encrypted fields of one table that share a companion, and with it a key context and a Vault."""

    model: type[Model]
    companion: str
    members: tuple[Encrypted, ...]
    source: ContextSource
    bindings: tuple[Binding, ...]
    # The columns to which each member is bound besides, by its name: see ``bind_to``.
    bound: Mapping[str, tuple[Binding, ...]]
    declared_vault: str
    # The columns with the hashes of members, by the name of the member.
    indexes: Mapping[str, tuple[IndexField, ...]]
    # Made once, of the members and their columns.
    member_names: frozenset[str] = field(init=False)
    index_names: frozenset[str] = field(init=False)
    # The attribute names that are written together.
    columns: frozenset[str] = field(init=False)
    # Every column of the row that decides whether some value of the group opens.
    all_bindings: tuple[Binding, ...] = field(init=False)
    # The names under which a caller of ``save(update_fields=…)`` may mean one of these columns.
    context_names: frozenset[str] = field(init=False)
    # Those of ``all_bindings`` that may choose their value only when they are saved.
    late_columns: "tuple[Field[Any, Any], ...]" = field(init=False)

    def __post_init__(self) -> None:
        names = frozenset(member.attname for member in self.members)
        every = (*self.bindings, *(binding for member in self.members for binding in self.bound[member.name]))
        fields = [binding.field for binding in every]
        index_names = frozenset(each.attname for several in self.indexes.values() for each in several)
        made = {
            "member_names": names,
            "index_names": index_names,
            "columns": names | {self.companion} | index_names,
            "all_bindings": every,
            "context_names": frozenset(name for each in fields for name in (each.name, each.attname)),
            "late_columns": tuple(each for each in fields if type(each).pre_save is not Field.pre_save),
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    @property
    def writes_plaintext(self) -> bool:
        """Whether a member may be written in the clear: the first phase of a migration."""
        return any(member.writes_plaintext for member in self.members)

    @property
    def vault(self) -> str:
        """The alias of the vault that its new data keys come from."""
        return vaults.writer(self.declared_vault)

    def hashes_of(self, names: Container[str]) -> list[str]:
        """Return the columns with the hashes of those members that are named."""
        members = (member for member in self.members if member.attname in names)
        return [index.attname for member in members for index in self.indexes[member.name]]

    def rows_like(self, instance: Model) -> Q:
        """Return the condition for rows with the columns from which the key context of this one starts."""
        return Q(**{binding.attname: getattr(instance, binding.attname) for binding in self.bindings})

    def bound_columns(self, member: Encrypted) -> tuple[Binding, ...]:
        """
        Return the row's own columns that decide whether a value of ``member`` opens: the context's, then ``bind_to``.
        """
        return (*self.bindings, *self.bound[member.name])


def encrypted_fields(model: type[Model]) -> list[Encrypted]:
    """Return the encrypted fields in the table of ``model`` itself, without those of its parents."""
    fields: Any = model._meta.local_concrete_fields
    return [each for each in fields if getattr(each, "is_encrypted", False)]


def groups_of(model: type[Model]) -> tuple[Group, ...]:
    """
    Return the groups in the table of ``model`` itself. Raises ``FieldDoesNotExist`` for a context that does not exist.
    """
    groups = _groups.get(model)
    if groups is None:
        members: dict[str, list[Encrypted]] = {}
        for each in encrypted_fields(model):
            members.setdefault(each.companion_name, []).append(each)
        groups = tuple(group_under(model, companion, tuple(fields)) for companion, fields in members.items())
        _groups[model] = groups
    return groups


def all_groups_of(model: type[Model]) -> list[Group]:
    """Return the groups in all tables that hold a row of ``model``."""
    concrete: Any = model._meta.concrete_model
    return [group for table in (concrete, *concrete._meta.all_parents) for group in groups_of(table)]


def member_names_of(model: type[Model]) -> list[str]:
    """The attribute names of the encrypted fields in all tables that hold a row of ``model``."""
    return [member.attname for group in all_groups_of(model) for member in group.members]


def group_of(member: Encrypted) -> Group:
    name = member.companion_name
    return next(group for group in groups_of(member.model) if group.companion == name)


def group_under(model: type[Model], companion: str, members: tuple[Encrypted, ...]) -> Group:
    """Return these fields as one group, whatever companion they are declared with."""
    # The system checks report options on which members of one group disagree.
    first = members[0]
    concrete_field(model, companion)
    bound = {
        member.name: tuple(Binding(name, concrete_field(model, name)) for name in member.bind_to) for member in members
    }
    indexes = {member.name: indexes_of(member) for member in members}
    return Group(model, companion, members, first.source, first.source.bindings(model), bound, first.vault, indexes)


def hashes_for(model: type[Model], names: Iterable[str]) -> list[str]:
    """
    Return the columns by which the database finds rows: the hashes in the place of indexed fields.

    Raises ``FieldError`` for truncated hashes, by which it would find rows with other values.
    """
    members = {member.name: member for group in all_groups_of(model) for member in group.members}
    columns = []
    for name in names:
        index = exact_index(members[name]) if name in members else None
        if index is not None and index.is_truncated:
            raise FieldError(
                f"{members[name].label} has truncated hashes, which other values have too: the database cannot find "
                "its rows by them. Keep all bits of the hashes."
            )
        columns.append(name if index is None else index.attname)
    return columns
