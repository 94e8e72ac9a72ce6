"""Rows of fixtures that ``loaddata`` reads: prepared before they are written, encrypted or in the clear."""

from django.db.models import Model

from vault_fields.fields.groups import groups_of
from vault_fields.fields.saving import seal_rows
from vault_fields.fields.sealed import Brought, Sealed
from vault_fields.fields.state import GroupState

__all__ = ["prepare_fixture"]


def prepare_fixture(instance: Model, table: type[Model], using: str | None) -> None:
    """
    Let a fixture be loaded as it was stored, so that it is neither encrypted again nor costs a call.

    Values in the clear are sealed, and so are values encrypted for other columns than the row has here. An instance of
    a fixture has the columns of one table and no others, so those of parents are not compared.
    """
    own = set(table._meta.local_concrete_fields)
    for group in groups_of(table):
        held = {member.attname: instance.__dict__.get(member.attname) for member in group.members}
        for name, value in held.items():
            if isinstance(value, Brought):
                # It replaces the stored row with its primary key, whose columns may vouch for it.
                instance.__dict__[name] = Sealed(value.text, value.keys)
                instance.__dict__[group.companion] = value.keys
        state = GroupState(instance, group)
        is_clear = any(state.is_dirty(member, instance.__dict__.get(member.attname)) for member in group.members)
        if is_clear or any(binding.field in own for binding in state.changed_columns()):
            seal_rows([(instance, group)], using)
