"""
The lookups of an indexed field: ``exact`` and ``in``, and ``iexact`` where the index makes no difference of case.

They compare the index column with hashes of what is looked for, under the index key of each key context that the row
may have; ``tenants`` finds these in the query. That is known when SQL is made, and not before: conditions are added to
a query one after the other.
"""

from collections.abc import Iterable
from typing import Any, NoReturn
from uuid import UUID

from django.core.exceptions import EmptyResultSet, FieldError
from django.db.models import Lookup
from django.db.models.expressions import Col

from vault_fields.fields.blindindex import IndexField
from vault_fields.fields.encoding import Unencodable, encode
from vault_fields.fields.forcontext import ForContext
from vault_fields.fields.groups import group_of, indexes_of
from vault_fields.fields.indexing import hash_of, index_key_name
from vault_fields.fields.indexkeys import find_keys
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.tenants import contexts_given, contexts_in_query
from vault_fields.normalize import casefold, nfkc_casefold
from vault_fields.runtime.frames import forgetful

__all__ = ["IndexedExact", "IndexedIExact", "IndexedIn", "search_lookup"]

# The hash that no value has: version 4 sets bits of it. A comparison with it is false, or NULL where there is no
# value, as Django's logic needs it. An EmptyResultSet would be neither under NOT and XOR.
_OF_NOTHING = UUID(int=0)


def search_lookup(field: Encrypted, name: str) -> type[Lookup] | None:
    """Return the class of a lookup that an index of the field serves."""
    for index in indexes_of(field):
        if name == "iexact" and index.normalize not in {casefold, nfkc_casefold}:
            continue
        return _LOOKUPS.get(name)
    return None


class _Needle:
    """A text that is looked for, and in which key context if the query does not tell. Its repr hides it."""

    __slots__ = ("given", "text")

    def __init__(self, text: str, given: ForContext | None) -> None:
        self.text = text
        self.given = given

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Needle) and (self.text, self.given) == (other.text, other.given)

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return "<value that is looked for>"


class _Indexed(Lookup):
    can_use_none_as_rhs = False

    @forgetful
    def get_prep_lookup(self) -> Any:
        return self._prepared(self.rhs)

    def _prepared(self, value: Any) -> Any:
        if value is None:
            return None
        field: Encrypted = self.lhs.output_field
        if hasattr(value, "resolve_expression"):
            raise FieldError(
                f"{field.label} is looked up by its index, which takes values and not expressions: the database has no "
                "key to compute a hash of another column."
            )
        given = value if isinstance(value, ForContext) else None
        if given and indexes_of(field)[0].scope == "global":
            raise FieldError(f"{field.label} has an index over all tenants: look up the value without ForContext().")
        try:
            return _Needle(encode(field, given.value if given else value), given)
        except Unencodable as refused:
            problem = str(refused)
        raise FieldError(f"{field.label} cannot have the value that is looked for: {problem}.")

    @property
    def needles(self) -> Iterable[_Needle]:
        return [self.rhs]

    @forgetful
    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        field: Encrypted = self.lhs.output_field
        if not isinstance(self.lhs, Col):
            raise FieldError(
                f"{field.label} is looked up where only values that were read before are left, as beside a window "
                "function under OR: put the lookup into a filter() of its own, or into a subquery."
            )
        index = indexes_of(field)[0]
        sql, params = compiler.compile(Col(self.lhs.alias, index))
        hashes = self._hashes(index, compiler, connection) or [_OF_NOTHING]
        given = [index.get_db_prep_value(each, connection) for each in hashes]
        condition = "= %s" if len(given) == 1 else f"IN ({', '.join(['%s'] * len(given))})"
        return f"{sql} {condition}", (*params, *given)

    def _hashes(self, index: IndexField, compiler: Any, connection: Any) -> list[UUID]:
        """Return the hashes of what is looked for in each key context that the row may have and that has a key."""
        field: Encrypted = self.lhs.target
        group = group_of(field)
        contexts: dict[ForContext | None, Any] = {}
        for given in dict.fromkeys(needle.given for needle in self.needles):
            if index.scope == "global":
                contexts[given] = [None]
            elif given is None:
                contexts[given] = contexts_in_query(self, group, compiler, connection)
            else:
                contexts[given] = contexts_given(given, field, group, connection.alias)
        names = {
            given: [index_key_name(index, group, context) for context in found] for given, found in contexts.items()
        }
        keys = find_keys(dict.fromkeys(name for found in names.values() for name in found), connection.alias)
        hashes = [
            hash_of(index, key, needle.text, field.label)
            for needle in self.needles
            for name in names[needle.given]
            for key in keys.get(name, ())
        ]
        return list(dict.fromkeys(each for each in hashes if each is not None))

    def __copy__(self) -> Any:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __getstate__(self) -> NoReturn:
        raise TypeError(
            f"A query that looks for a value of {self.lhs.output_field.label} cannot be pickled or cached: it would "
            "hold the value in the clear. Cache the rows, or their primary keys."
        )


class IndexedExact(_Indexed):
    """The lookup ``exact`` of an indexed field."""

    lookup_name = "exact"


class IndexedIExact(_Indexed):
    """The lookup ``iexact`` of a field whose index makes no difference of case."""

    lookup_name = "iexact"


class IndexedIn(_Indexed):
    """The lookup ``in`` of an indexed field. NULL among its values matches nothing, as everywhere in SQL."""

    lookup_name = "in"

    def _prepared(self, value: Any) -> Any:
        if hasattr(value, "resolve_expression") or hasattr(value, "query"):
            return super()._prepared(_NoValue)
        return [found for each in value if (found := super(IndexedIn, self)._prepared(each)) is not None]

    @property
    def needles(self) -> Iterable[_Needle]:
        if not self.rhs:
            raise EmptyResultSet
        found: list[_Needle] = self.rhs
        return found


class _NoValue:
    @staticmethod
    def resolve_expression() -> None:
        """Mark a queryset as an expression, which is refused."""


_LOOKUPS: dict[str, type[Lookup]] = {each.lookup_name: each for each in (IndexedExact, IndexedIExact, IndexedIn)}
