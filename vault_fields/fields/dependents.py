"""
Models whose values depend on a column: the model that has it, and those that inherit from that.

A row of a parent may be a row of several of its children. Where one child is written to, the others are concerned too.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Field, Model, OneToOneRel, Q

from vault_fields.fields.barerows import StoredColumns
from vault_fields.fields.groups import Group, all_groups_of, groups_of

__all__ = ["Holder", "depends_on", "holders_of", "inheriting", "names_of"]


@dataclass(frozen=True, eq=False)
class Holder:
    """A model whose rows hold values that depend on the columns: the query's model, or one that shares its table."""

    model: type[Model]
    groups: Sequence[Group]
    # The columns by which its rows belong to those of the query: its own, and the matching one in the query's model.
    link: str
    key: str

    @property
    def holding(self) -> Q:
        condition = Q()
        for group in self.groups:
            condition |= Q(**{f"{group.companion}__isnull": False})
        return condition

    def stored(self, besides: Iterable[str], using: str) -> StoredColumns:
        names = {self.link, *besides}.union(*(group.columns for group in self.groups))
        names |= {binding.attname for group in self.groups for binding in group.all_bindings}
        return StoredColumns(self.model, names, using)


def holders_of(model: Any, fields: Sequence[Any], only_inheriting: bool) -> Iterator[Holder]:
    """Yield the models, with those of their groups that depend on one of ``fields``."""
    if not only_inheriting and (groups := _concerned(all_groups_of(model), fields)):
        yield Holder(model, groups, "pk", "pk")
    seen = {model, *model._meta.all_parents}
    for table in (model, *model._meta.all_parents):
        link = table._meta.pk.attname
        for child in inheriting(table):
            if child not in seen and (groups := _concerned(groups_of(child), fields)):
                yield Holder(child, groups, link, "pk" if table is model else link)
            seen.add(child)


def _concerned(groups: Sequence[Group], fields: Sequence[Any]) -> list[Group]:
    return [group for group in groups if any(depends_on(group, field) for field in fields)]


def inheriting(model: Any) -> Iterator[Any]:
    """Yield the model's children by multi-table inheritance, and theirs."""
    for relation in model._meta.get_fields(include_parents=False, include_hidden=True):
        if isinstance(relation, OneToOneRel) and relation.parent_link:
            yield relation.related_model
            yield from inheriting(relation.related_model)


def depends_on(group: Group, field: "Field[Any, Any]") -> bool:
    return any(binding.field == field for binding in group.all_bindings)


def names_of(field: "Field[Any, Any]") -> tuple[str, str]:
    return field.name, field.attname
