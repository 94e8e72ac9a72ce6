"""A process that reads every row and compares it with the oracle. It holds none of the keys that the writers held."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.db import connection

from tests.chaos.journal import Oracle
from tests.chaos.world import journals_in
from tests.chaos.writer import COLUMNS, MODELS
from vault_fields.exceptions import VaultFieldsError

__all__ = ["check"]

# Rows whose keys are asked for together.
PAGE = 500


def check(directory: Path, encrypted: bool) -> dict[str, Any]:
    """What is wrong. Where all is ``encrypted``, no column may hold anything in the clear any more."""
    oracle = Oracle.of(journals_in(directory))
    stored: dict[str, dict[str, Any]] = {}
    problems = oracle.broken
    for kind, model in MODELS.items():
        for instance in _rows(model):
            columns = {column: _value(instance, column) for column in COLUMNS[kind]}
            stored[f"{kind} {instance.pk}"] = {"organization": instance.organization_id, **columns}
        if kind != "legacy" or encrypted:
            problems += _in_the_clear(model, COLUMNS[kind])
    problems += oracle.problems(stored)
    return {"rows": len(stored), "values": _values(stored), "problems": problems}


def _rows(model: Any) -> Iterator[Any]:
    last = 0
    while page := list(model._default_manager.filter(pk__gt=last).order_by("pk")[:PAGE]):
        yield from page
        last = page[-1].pk


def _value(instance: Any, column: str) -> Any:
    try:
        return getattr(instance, column)
    except VaultFieldsError as error:
        return error


def _in_the_clear(model: Any, columns: tuple[str, ...]) -> Iterator[str]:
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for column in columns:
            cursor.execute(f"SELECT id, {quote(column)} FROM {quote(model._meta.db_table)}")
            for pk, text in cursor:
                if text is not None and not text.startswith("$vf$"):
                    yield f"in the clear: {model._meta.model_name} {pk} {column}"


def _values(stored: dict[str, dict[str, Any]]) -> int:
    return sum(len(columns) - 1 for columns in stored.values())
