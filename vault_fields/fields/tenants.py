"""
The key contexts that a row may have at one place of a query: those that the query fixes by equality.

Nothing is guessed. They follow from the columns that the query fixes, through the declaration from which the context of
a written row follows. See ``docs/decisions/0129-the-tenant-of-a-lookup-is-in-its-query.md``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from math import prod
from typing import Any, Protocol

from django.core.exceptions import FieldDoesNotExist, FieldError, ObjectDoesNotExist
from django.db.models import Field, ForeignKey, Model, Q
from django.db.models.constants import LOOKUP_SEP

from vault_fields.exceptions import KeyContextError, TenantUnknown
from vault_fields.fields.bindings import Binding, concrete_field
from vault_fields.fields.conditions import conditions_at
from vault_fields.fields.context import follow, stands_elsewhere
from vault_fields.fields.forcontext import ForContext, InContext
from vault_fields.fields.groups import Group
from vault_fields.keys import KeyContext

__all__ = ["MAX_CONTEXTS", "contexts_given", "contexts_in_query"]

# The number of key contexts in which one lookup searches.
MAX_CONTEXTS = 100

_Items = dict[str, str]
_Paths = Mapping[str, str]


class _Known(Protocol):
    """Values of columns, of a row and of those that it points to. A row has names; any of them may stand for it."""

    def values(self, row: Sequence[str], model: type[Model], field: "Field[Any, Any]") -> Sequence[Any] | None:
        """Return the values that a column may have; None if any is possible."""

    def related(self, row: Sequence[str], model: type[Model], key: Any) -> Sequence[str]:
        """Return the names, if there are any, of the row to which a foreign key points."""


def contexts_in_query(lookup: Any, group: Group, compiler: Any, connection: Any) -> dict[KeyContext, Q]:
    """
    Return the contexts that rows may have where ``lookup``, on a column of the group, counts, and the rows of each.

    It counts for rows that the query gives or leaves out because of it. None may be left: rows of a tenant that is not
    there have no values. Costs one query for each relation of the context, unless the query fixes the column at its
    end. Raises ``TenantUnknown``, a ``FieldError``, if the query does not fix the tenant, or more than
    ``MAX_CONTEXTS`` of them.
    """
    field, source = lookup.field, group.source
    found: dict[KeyContext, Q] = {}
    for conditions in conditions_at(lookup, compiler.query, connection, source.function is not None):
        search = _Search(field, group, conditions, connection.alias)
        for context, rows in search.contexts([lookup.lhs.alias]).items():
            _add(found, context, rows)
        search.limit(len(found))
    return found


def contexts_given(value: ForContext, field: Any, group: Group, using: str) -> dict[KeyContext, Q]:
    """
    Return the context of rows with the attributes of ``value``, and these rows; none if there cannot be such rows.

    Costs and raises what ``contexts_in_query`` does, and ``FieldError`` for an attribute that no context starts from.
    """
    if isinstance(value, InContext) and value.context is not None:
        return {value.context: value.rows}
    given = _Given(value.attributes)
    contexts = _Search(field, group, given, using).contexts([""])
    if unused := sorted(value.attributes.keys() - given.used):
        raise FieldError(
            f"{field.label} is looked up with ForContext(…, {unused[0]}=…), and its key context does not start from "
            f"{unused[0]!r}: give the attributes from which it does, and no others."
        )
    return contexts


class _Given:
    """The attributes of a ``ForContext``. The name of a row is the path that leads to it."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self._attributes = attributes
        self.used: set[str] = set()

    def values(self, row: Sequence[str], model: type[Model], field: Any) -> Sequence[Any] | None:
        for name in (row[0] + field.name, row[0] + field.attname):
            if name in self._attributes:
                self.used.add(name)
                return [self._value(name, field)]
        return None

    def related(self, row: Sequence[str], model: type[Model], key: Any) -> Sequence[str]:
        return [f"{row[0]}{key.name}{LOOKUP_SEP}"]

    def _value(self, name: str, field: Any) -> Any:
        value = self._attributes[name]
        if isinstance(value, Model) and isinstance(field, ForeignKey):
            value = getattr(value, field.target_field.attname)
            if value is None:
                raise FieldError(f"ForContext(…, {name}=…) has an instance that is not saved.")
        try:
            Binding(field.name, field).text(value)
        except KeyContextError as error:
            raise FieldError(f"ForContext(…, {name}=…): {error}") from None
        return value


def _add(found: dict[KeyContext, Q], context: KeyContext, rows: Q) -> None:
    """Note that these rows too may have a context."""
    found[context] = found[context] | rows if context in found else rows


def _end(model: type[Model], path: str) -> str:
    """Return the path of the column at the end of the path of an item, for conditions."""
    *relations, last = path.split(LOOKUP_SEP)
    end: Any = model
    for relation in relations:
        end = end._meta.get_field(relation).related_model
    return f"{path}{LOOKUP_SEP}pk" if stands_elsewhere(last, concrete_field(end, last)) else path


class _Search:
    """From what is known of the rows of one lookup to their contexts."""

    def __init__(self, field: Any, group: Group, known: _Known, using: str) -> None:
        self._field = field
        self._group = group
        self._known = known
        self._using = using
        # The items of the context that remain open.
        self._open: set[str] = set()

    def contexts(self, row: Sequence[str]) -> dict[KeyContext, Q]:
        group = self._group
        contexts: dict[KeyContext, Q] = {}
        if group.source.function is not None:
            for context, rows in self._of_function(row):
                _add(contexts, context, rows)
            return contexts
        rest = {**group.source.constants, **self._outside()}
        found = self._ends(row, group.model, group.source.paths)
        self._require_decided()
        ends = {name: _end(group.model, path) for name, path in group.source.paths.items()}
        for items in found:
            with suppress(KeyContextError):  # A text that no context can have.
                rows = Q(**{ends[name]: text for name, text in items.items()})
                _add(contexts, KeyContext({**rest, **items}), rows)
        return contexts

    def limit(self, count: int) -> None:
        if count > MAX_CONTEXTS:
            raise TenantUnknown(
                f"{self._field.label} would be looked up for {count} tenants, and at most {MAX_CONTEXTS} are searched "
                "by one query. Look it up for fewer of them at a time."
            )

    def _of_function(self, row: Sequence[str]) -> Iterator[tuple[KeyContext, Q]]:
        model: Any = self._group.model
        given: dict[str, Sequence[Any]] = {key.attname: [None] for key in model._meta.pk_fields}
        for binding in self._group.bindings:
            given[binding.attname] = self._values(row, model, binding.field, [binding.name])
        self._require_decided()
        # ``from_db`` takes columns in the order of the model; those that are left out are deferred.
        names = [column.attname for column in model._meta.concrete_fields if column.attname in given]
        bound = {binding.attname for binding in self._group.bindings}
        for values in self._products([given[name] for name in names]):
            instance = model.from_db(self._using, names, values)
            try:
                rows = Q(**{name: value for name, value in zip(names, values, strict=True) if name in bound})
                yield self._group.source.derive(instance), rows
            except KeyContextError:
                continue  # No value can have been encrypted for such a row.
            except (AttributeError, model.DoesNotExist):  # The second, before Django 6.1.
                raise FieldError(
                    f"{self._field.label} is looked up by an index that is each tenant's own, and the function of its "
                    "key context reads an attribute that it does not declare: name it in context_from()."
                ) from None
            except ObjectDoesNotExist:
                continue  # A tenant that is not there.

    def _ends(self, row: Sequence[str], model: type[Model], paths: _Paths) -> list[_Items]:
        """Return the items that paths from a row lead to: one choice for each row that there may be."""
        own: dict[Any, list[str]] = {}
        further: dict[Any, dict[str, str]] = {}
        for name, path in paths.items():
            head, _, rest = path.partition(LOOKUP_SEP)
            field: Any = concrete_field(model, head)
            if stands_elsewhere(path, field):
                further.setdefault(field, {})[name] = rest or field.related_model._meta.pk.attname
            else:
                own.setdefault(field, []).append(name)
        choices: list[Sequence[_Items]] = []
        for field, names in own.items():
            texts = self._texts(field, self._values(row, model, field, names))
            choices.append([dict.fromkeys(names, text) for text in texts])
        choices += [self._behind(row, model, key, rest) for key, rest in further.items()]
        return [{name: text for items in choice for name, text in items.items()} for choice in self._products(choices)]

    def _behind(self, row: Sequence[str], model: type[Model], key: Any, paths: _Paths) -> list[_Items]:
        """Return the same for the row to which a foreign key points: it is asked for only if nothing tells of it."""
        before = set(self._open)
        if related := self._known.related(row, model, key):
            with suppress(FieldDoesNotExist):  # A path that goes on over something else than a foreign key.
                found = self._ends(related, key.target_field.model, paths)
                if self._open == before:
                    return found
        self._open = before
        keys = self._values(row, model, key, paths)
        self.limit(len(keys))
        return list(self._loaded(key, self._texts(key, keys), paths)) if keys else []

    def _loaded(self, key: Any, keys: Collection[str], paths: _Paths) -> Iterator[_Items]:
        related = key.related_model._base_manager.using(self._using)
        if relations := [head for path in paths.values() if (head := path.rpartition(LOOKUP_SEP)[0])]:
            related = related.select_related(*relations)
        for instance in related.filter(**{f"{key.target_field.attname}__in": keys}):
            with suppress(KeyContextError):  # The path leads nowhere from there.
                yield {name: follow(instance, path) for name, path in paths.items()}

    def _values(self, row: Sequence[str], model: type[Model], field: Any, names: Collection[str]) -> Sequence[Any]:
        values = self._known.values(row, model, field)
        if values is None:
            self._open.update(names)
        return values or []

    def _texts(self, field: Any, values: Sequence[Any]) -> list[str]:
        binding, texts = Binding(field.name, field), []
        for value in values:
            with suppress(KeyContextError):  # The column does not accept the value, so there is no such row.
                texts.append(binding.text(value))
        return [text for text in texts if text]

    def _products(self, lists: Sequence[Sequence[Any]]) -> Iterator[Any]:
        self.limit(prod(map(len, lists)))
        return product(*lists)

    def _outside(self) -> _Items:
        found = self._group.source.now_outside()
        if empty := sorted(name for name, text in found.items() if not text):
            raise TenantUnknown(
                f"{self._field.label} is looked up for the tenant that {', '.join(empty)} of its key context names, "
                "and there is none here: look it up where there is one."
            )
        return {name: text for name, text in found.items() if text}

    def _require_decided(self) -> None:
        left_open = [binding for binding in self._group.bindings if binding.name in self._open]
        if left_open:
            missing = [binding.attname for binding in left_open]
            raise TenantUnknown(
                f"{self._field.label} is looked up by an index that is each tenant's own, and the query does not say "
                f"whose rows it is about: add {' and '.join(missing)} to it by equality, as in "
                f"filter({missing[0]}=…, {self._field.name}=…), at a place that holds for this condition too: not in "
                "another OR, in a negation, or in a subquery. Where a query cannot say it, look up "
                f"ForContext(…, {missing[0]}=…).",
                [str(binding.field.verbose_name) for binding in left_open],
            )
