"""
The lookups of an indexed field: ``exact`` and ``in``, ``iexact`` where the index makes no difference of case, and the
names of further indexes.

They compare the index column with hashes of what is looked for, under the index key of each key context that the row
may have; ``tenants`` finds these in the query. That is known when SQL is made, and not before: conditions are added to
a query one after the other.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Any, NoReturn
from uuid import UUID

from django.core.exceptions import EmptyResultSet, FieldError
from django.db.models import Lookup, Q
from django.db.models.expressions import Col
from django.db.models.lookups import IsNull
from django.utils.functional import cached_property

from vault_fields.exceptions import IndexKeyMissing
from vault_fields.fields.blindindex import IndexField, exact_index, named_index
from vault_fields.fields.encoding import Unencodable, encode
from vault_fields.fields.forcontext import ForContext, InContext
from vault_fields.fields.groups import Group, group_of
from vault_fields.fields.indexing import OF_NOTHING, index_key_name, normal_of, require_never_used
from vault_fields.fields.indexkeys import Wanted, find_keys
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.lookups import refuse
from vault_fields.fields.opening import located
from vault_fields.fields.tenants import contexts_given, contexts_in_query
from vault_fields.fields.truncated import Sought, hits
from vault_fields.keys import KeyContext
from vault_fields.runtime.frames import forgetful

__all__ = ["SEARCHED", "IndexedExact", "IndexedIExact", "IndexedIn", "IndexedSearched"]
__all__ += ["is_named_index", "search_lookup", "search_transform"]

# The name of the lookup of the admin's search. Nobody else needs it.
SEARCHED = "searched"


def search_lookup(field: Encrypted, name: str) -> type[Lookup] | None:
    """Return the class of a lookup that the primary index of the field serves."""
    index = exact_index(field)
    return _LOOKUPS.get(name) if index is not None and name in {*index.lookups, SEARCHED} else None


def is_named_index(field: Encrypted, name: str) -> bool:
    """Whether the field has an index of this name, which queries use as a transform."""
    return named_index(field, name) is not None


def search_transform(field: Encrypted, name: str) -> Callable[[Any], "NamedIndex"] | None:
    """Return the function that makes, of a reference to the field, one to its index of this name."""
    index = named_index(field, name)
    if index is None:
        return None

    def transform(lhs: Any) -> NamedIndex:
        if not isinstance(lhs, Col):
            refuse(field, f"the transform {name!r} of a computed value")
        return NamedIndex(lhs.alias, index)

    return transform


class NamedIndex(Col):
    """A reference to an index that has a name. It has lookups, and is nothing that could be selected or sorted by."""

    target: IndexField

    def get_lookup(self, lookup: str) -> Any:
        if lookup == "isnull":
            return HasHash
        return _LOOKUPS[lookup] if lookup in {"exact", "in", SEARCHED} else self._refuse(f"the lookup {lookup!r}")

    def get_transform(self, name: str) -> Any:
        return self._refuse(f"the transform {name!r}")

    def as_sql(self, compiler: Any, connection: Any) -> NoReturn:
        self._refuse("anything but lookups")

    def get_group_by_cols(self) -> list[Any]:
        return [Col(self.alias, self.target)]

    def _refuse(self, what: str) -> NoReturn:
        refuse(self.target.encrypted, f"{what} by its index {self.target.index_name!r}")


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


class Unsearchable(FieldError):
    """A value that is looked for and that the field cannot have."""


class _Indexed(Lookup):
    can_use_none_as_rhs = False

    @cached_property
    def index(self) -> IndexField:
        looked_up: Any = self.lhs.output_field
        return looked_up if isinstance(looked_up, IndexField) else exact_index(looked_up)  # type: ignore[return-value]

    @property
    def field(self) -> Encrypted:
        """The encrypted field that is looked up."""
        field: Encrypted = self.index.encrypted
        return field

    @forgetful
    def get_prep_lookup(self) -> Any:
        return self._prepared(self.rhs)

    def _prepared(self, value: Any) -> Any:
        if value is None:
            return None
        field = self.field
        if hasattr(value, "resolve_expression"):
            raise FieldError(
                f"{field.label} is looked up by its index, which takes values and not expressions: the database has no "
                "key to compute a hash of another column."
            )
        given = value if isinstance(value, ForContext) else None
        if given and self.index.scope == "global" and not isinstance(given, InContext):
            raise FieldError(f"{field.label} has an index over all tenants: look up the value without ForContext().")
        try:
            return _Needle(encode(field, given.value if given else value), given)
        except Unencodable as refused:
            problem = str(refused)
        raise Unsearchable(f"{field.label} cannot have the value that is looked for: {problem}.")

    @property
    def needles(self) -> Iterable[_Needle]:
        return [self.rhs]

    @forgetful
    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        if not isinstance(self.lhs, Col):
            raise FieldError(
                f"{self.field.label} is looked up where only values that were read before are left, as beside a window "
                "function under OR: put the lookup into a filter() of its own, or into a subquery."
            )
        index, alias = self.index, self.lhs.alias
        sought = self._sought(index, compiler, connection)
        sql, _ = compiler.compile(Col(alias, index))
        # A comparison with the hash of nothing is false, or NULL where there is no value, as Django's logic needs it.
        # An EmptyResultSet would be neither under NOT and XOR.
        given = [index.get_db_prep_value(each, connection) for each in sought.hashes or [OF_NOTHING]]
        condition = f"{sql} = %s" if len(given) == 1 else f"{sql} IN ({', '.join(['%s'] * len(given))})"
        if not index.is_truncated and not index.leaves_out:
            return condition, tuple(given)
        # What is not equal is false, and NULL only where there is no value.
        value, _ = compiler.compile(Col(alias, self.field))
        if index.is_truncated:
            nothing = f"{sql} IS NULL AND {value} IS NULL"
            if sought.hashes and (pks := hits(index, sought, connection.alias)):
                among, keys = _among(alias, self.field.model, pks, compiler, connection)
                return f"({condition} AND ({among} OR {nothing}))", (*given, *keys)
            return f"({condition} AND {nothing})", tuple(given)
        return f"({condition} AND ({sql} IS NOT NULL OR {value} IS NULL))", tuple(given)

    def get_group_by_cols(self) -> list[Any]:
        if not isinstance(self.lhs, Col):
            return super().get_group_by_cols()  # Compiling it is refused.
        keys = self.field.model._meta.pk_fields if self.index.is_truncated else ()
        return [Col(self.lhs.alias, column) for column in (self.index, self.field, *keys)]

    def _sought(self, index: IndexField, compiler: Any, connection: Any) -> Sought:
        """Return what is looked for in each key context that the row may have and that has a key."""
        field = self.field
        group = group_of(field)
        contexts: dict[ForContext | None, Any] = {}
        for given in dict.fromkeys(needle.given for needle in self.needles):
            if index.scope == "global":
                contexts[given] = {None: Q()}
            elif given is None:
                contexts[given] = contexts_in_query(self, group, compiler, connection)
            else:
                contexts[given] = contexts_given(given, field, group, connection.alias)
        names = {
            given: {index_key_name(index, group, context): rows for context, rows in found.items()}
            for given, found in contexts.items()
        }
        wanted = {name: rows for found in names.values() for name, rows in found.items()}
        keys = find_keys(wanted, connection.alias)
        missing = {name: rows for name, rows in wanted.items() if name not in keys}
        if missing and self._require_never_used(index, group, missing, connection.alias):
            keys = find_keys(wanted, connection.alias)
        hashes: dict[UUID, None] = {}
        texts: defaultdict[KeyContext | None, set[str]] = defaultdict(set)
        for needle in self.needles:
            if (normal := normal_of(index, needle.text, field.label)) is None:
                continue
            for name, context in zip(names[needle.given], contexts[needle.given], strict=True):
                if name in keys:
                    texts[context].add(normal)
                    hashes |= dict.fromkeys(index.hash_of(key, normal) for key in keys[name])
        rows = list(wanted.values())
        return Sought(list(hashes), texts, reduce(or_, rows) if rows and all(rows) else Q())

    def _require_never_used(self, index: IndexField, group: Group, missing: dict[Wanted, Q], using: str) -> bool:
        """A key that was lost must not read as a value that is not there."""
        try:
            return require_never_used(index, group, missing, using)
        except IndexKeyMissing as error:
            raise located(error, self.field, None) from None

    def __copy__(self) -> Any:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __getstate__(self) -> NoReturn:
        raise TypeError(
            f"A query that looks for a value of {self.field.label} cannot be pickled or cached: it would "
            "hold the value in the clear. Cache the rows, or their primary keys."
        )


def _among(alias: str, model: Any, pks: Sequence[Any], compiler: Any, connection: Any) -> tuple[str, Sequence[Any]]:
    """Return the condition that a row is one of those with these keys."""
    column = model._meta.pk.get_col(alias)
    if connection.vendor == "sqlite" and isinstance(column, Col):
        # It takes only so many parameters: all keys are one.
        keys = [column.output_field.get_db_prep_value(pk, connection) for pk in pks]
        if all(isinstance(key, int | str) for key in keys):
            sql, _ = compiler.compile(column)
            return f"{sql} IN (SELECT value FROM json_each(%s))", [json.dumps(keys)]  # noqa: S608
    sql, params = compiler.compile(column.get_lookup("in")(column, pks))
    return sql, params


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


class HasHash(IsNull):
    """The lookup ``isnull`` of a named index: rows without a value, and with one that the index leaves out."""

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return IsNull(Col(self.lhs.alias, self.lhs.target), self.rhs).as_sql(compiler, connection)


class _NoValue:
    @staticmethod
    def resolve_expression() -> None:
        """Mark a queryset as an expression, which is refused."""


class IndexedSearched(_Indexed):
    """
    The lookup of a text that somebody typed into a search box: ``exact``, and false if the field cannot have it.

    A search box asks several fields at once, and what is no number may be a name.
    """

    lookup_name = SEARCHED

    def _prepared(self, value: Any) -> Any:
        try:
            return [super()._prepared(value)]
        except Unsearchable:
            return []

    @property
    def needles(self) -> Iterable[_Needle]:
        found: list[_Needle] = self.rhs
        return found


_LOOKUPS: dict[str, type[Lookup]] = {
    each.lookup_name: each for each in (IndexedExact, IndexedIExact, IndexedIn, IndexedSearched)
}
