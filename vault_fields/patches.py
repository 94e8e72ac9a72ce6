"""
Everything of Django that is wrapped, or private and relied on: one table, compared with the Django that is installed.

Fields decide about the value of their own column. They have no say in which columns are written, in how values move
between rows, or in what serializers and migrations do; each entry says what would be lost there. A method is wrapped
only if it has the parameters that its hook knows. Where one differs, system check E032 reports it, and nothing is
encrypted: see ``require_known_django``. Methods of Django's admin, and of what writes migrations, are not listed,
because no value depends on them.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import django
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.state import ModelState
from django.db.models import QuerySet
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from vault_fields.runtime.frames import forget

__all__ = ["ATTRIBUTES", "CALLED", "CONSTRUCTORS", "HISTORICAL_MODULE", "PATCHED", "Method"]
__all__ += ["differences", "is_unknown", "require_known_django", "wrap"]

#: The module of the models that migrations see.
HISTORICAL_MODULE = "__fake__"

_MARK = "_vault_fields_hook"


class Method(NamedTuple):
    """A method of one of Django's classes: its parameters without ``self``, and what it is wrapped or called for."""

    parameters: str
    why: str


_MIGRATION = "app_label schema_editor from_state to_state"

#: By the class, importable under this name, and the method.
PATCHED: Mapping[tuple[str, str], Method] = {
    ("django.db.models.Model", "_save_table"): Method(
        "raw cls force_insert force_update using update_fields",
        "Writes values and companion together, or none of them, whatever update_fields names.",
    ),
    ("django.db.models.Model", "refresh_from_db"): Method(
        "using fields from_queryset", "Copies values from another instance without opening them."
    ),
    ("django.db.models.fields.related_descriptors.ForwardOneToOneDescriptor", "get_object"): Method(
        "instance", "Makes the parent of a row from what the child holds, without opening it."
    ),
    ("django.db.models.QuerySet", "bulk_create"): Method(
        "objs batch_size ignore_conflicts update_conflicts update_fields unique_fields",
        "Seals rows of one operation together; an upsert writes values and companion together.",
    ),
    ("django.db.models.QuerySet", "bulk_update"): Method(
        "objs fields batch_size", "Reads plain attributes and asks no field."
    ),
    ("django.db.models.QuerySet", "update"): Method(
        "kwargs", "Seals one value for many rows, and encrypts values anew in rows that move to another key context."
    ),
    ("django.db.models.sql.UpdateQuery", "update_batch"): Method(
        "pk_list values using", "Moves rows whose tenant is deleted with on_delete=SET(…)."
    ),
    ("django.db.models.deletion.Collector", "delete"): Method("", "Tells which rows go together with their tenant."),
    ("django.db.models.sql.compiler.SQLCompiler", "compile"): Method(
        "node", "Tells where in a query an encrypted column stands, so that ciphertext is not compared."
    ),
    ("django.db.models.sql.compiler.SQLCompiler", "get_select"): Method(
        "with_col_aliases", "Selects companion and context columns beside a value."
    ),
    ("django.db.models.sql.compiler.SQLCompiler", "get_group_by"): Method(
        "select order_by", "Tells columns of GROUP BY from those that are read."
    ),
    ("django.db.models.sql.compiler.SQLCompiler", "get_combinator_sql"): Method(
        "combinator all", "Refuses unions that would compare ciphertext."
    ),
    ("django.db.models.sql.compiler.SQLCompiler", "execute_sql"): Method(
        "result_type chunked_fetch chunk_size", "Ends what is known of a query when it runs."
    ),
    ("django.core.serializers.base.Serializer", "serialize"): Method(
        "queryset stream fields use_natural_foreign_keys use_natural_primary_keys progress_output object_count options",
        "Lets fields answer with what is stored while rows are serialized, or values would be written in the clear.",
    ),
    ("django.core.serializers.python.Serializer", "_value_from_field"): Method(
        "obj field", "Asks the field for what it stores, or values would be written in the clear."
    ),
    ("django.db.migrations.AddField", "database_forwards"): Method(
        _MIGRATION, "Refuses a default for existing rows, which would stand there in the clear."
    ),
    ("django.db.migrations.AddField", "database_backwards"): Method(
        _MIGRATION, "Refuses to drop a column that encrypted values need."
    ),
    ("django.db.migrations.AlterField", "database_forwards"): Method(
        _MIGRATION,
        "Refuses to encrypt a column that is no text, and to change one that values need; forgets hashes.",
    ),
    ("django.db.migrations.RemoveField", "database_forwards"): Method(
        _MIGRATION, "Refuses to drop a column that encrypted values need."
    ),
    ("django.db.migrations.RemoveField", "database_backwards"): Method(
        _MIGRATION, "Refuses a default for existing rows, which would stand there in the clear."
    ),
    ("django.db.migrations.SeparateDatabaseAndState", "database_forwards"): Method(
        _MIGRATION, "Follows operations that change the database without the state, or the reverse."
    ),
    ("django.db.migrations.SeparateDatabaseAndState", "database_backwards"): Method(
        _MIGRATION, "Follows operations that change the database without the state, or the reverse."
    ),
    ("django.db.migrations.executor.MigrationExecutor", "migrate"): Method(
        "targets plan state fake fake_initial", "Judges a whole plan before any of it runs."
    ),
}

#: Methods that are called and are private, or whose rows are needed: by class and method, as above.
CALLED: Mapping[tuple[str, str], Method] = {
    ("django.db.models.Model", "_prepare_related_fields_for_save"): Method(
        "operation_name fields", "Takes over the keys of related rows before contexts are derived from them."
    ),
    ("django.db.models.Model", "_is_pk_set"): Method("meta", "Tells whether a row can have been stored."),
    ("django.db.models.Model", "_get_field_expression_map"): Method(
        "meta exclude",
        "Gives conditions of constraints the values of a row, without those that are encrypted.",
    ),
    ("django.db.models.sql.compiler.SQLCompiler", "apply_converters"): Method(
        "rows converters", "Gives the rows of a query, from which the keys of a page are asked for at once."
    ),
}

#: Attributes of Django's objects that are read or set, and are private or documented nowhere.
ATTRIBUTES: Mapping[str, tuple[Callable[[], object], str]] = {
    "django.db.models.QuerySet": (QuerySet, "_for_write _iterable_class _result_cache"),
    "django.db.models.sql.Query": (
        lambda: Query(None),
        "alias_map annotation_select base_table combinator default_cols deferred_loading distinct distinct_fields",
    ),
    "django.db.models.sql.compiler.SQLCompiler": (
        lambda: SQLCompiler(Query(None), connections[DEFAULT_DB_ALIAS], DEFAULT_DB_ALIAS),
        "connection query select using",
    ),
}


#: Versions of Django whose ``Model.from_db`` and ``Model.__init__`` do no more with a row than ``fields.loading`` does,
#: which takes their place for models that leave both to Django. With any other version Django makes the rows: slower,
#: and to the same effect. So this is no difference that is reported.
CONSTRUCTORS = frozenset({(5, 2), (6, 0), (6, 1)})


def require_known_django() -> None:
    """
    Raise ``ImproperlyConfigured`` where Django is not as the tables say. Costs nothing but the first time.

    All code that encrypts calls this first: a missing hook would part values from what opens them.
    """
    if problems := differences():
        raise ImproperlyConfigured(
            f"Django {django.get_version()} is not as this release of vault_fields knows it, so nothing is encrypted "
            f"or serialized with it: {'; '.join(problems)}. Run `manage.py check` for what to do."
        )


@functools.cache
def differences() -> tuple[str, ...]:
    """Return one phrase for each entry of the tables that Django does not match."""
    return (*_unknown_methods().values(), *_missing_attributes())


def wrap(cls: type, name: str, hook: Callable[..., Any], *, mark: str = _MARK) -> None:
    """
    Replace a method by ``hook(original, self, …)``, once for each ``mark``.

    A method of the table that Django does not have as the table says is left alone.
    """
    if is_unknown(cls, name):
        return
    original = getattr(cls, name)
    if hasattr(original, mark):
        return

    @functools.wraps(original)
    def hooked(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return hook(original, self, *args, **kwargs)
        except BaseException as error:
            forget(error)
            del self, args, kwargs
            raise

    setattr(hooked, mark, True)
    setattr(cls, name, hooked)


def is_unknown(cls: type, name: str) -> bool:
    """Whether Django does not have a method as it stands in the table."""
    return (cls, name) in _unknown_methods()


@functools.cache
def _unknown_methods() -> Mapping[tuple[object, str], str]:
    """Return the methods that are not as the tables say, by class and name, with a phrase for each."""
    unknown = {}
    for (path, name), method in {**PATCHED, **CALLED}.items():
        module, _, class_name = path.rpartition(".")
        cls = getattr(import_module(module), class_name, None)
        if not _has_parameters(getattr(cls, name, None), method.parameters.split()):
            unknown[cls, name] = f"{path}.{name} does not take ({', '.join(method.parameters.split())})"
    return unknown


def _has_parameters(function: Any, expected: list[str]) -> bool:
    if not callable(function):
        return False
    try:
        parameters = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):
        return False  # Compiled code that does not tell.
    if not (getattr(function, "__module__", None) or "").startswith("django."):
        # Another package has wrapped it, and takes what it is given, or is a class of the project's own.
        variadic = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
        if variadic <= {parameter.kind for parameter in parameters}:
            return True
    return [parameter.name for parameter in parameters] == expected


def _missing_attributes() -> Iterator[str]:
    for path, (make, names) in ATTRIBUTES.items():
        instance = make()
        yield from (f"{path} has no attribute {name}" for name in names.split() if not hasattr(instance, name))
    if HISTORICAL_MODULE not in ModelState.render.__code__.co_consts:
        yield f"historical models are not of the module {HISTORICAL_MODULE!r}"
