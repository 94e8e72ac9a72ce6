"""The checks of blind indexes: their keys have a table, their labels differ, and rows that are there have hashes."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Warning as CheckWarning
from django.db import connections, router
from django.db.migrations.loader import MigrationLoader
from django.db.models import Model, QuerySet

from vault_fields.checks.migrations import UNREADABLE
from vault_fields.checks.models import models_of
from vault_fields.fields.blindindex import IndexField, index_label
from vault_fields.fields.groups import encrypted_fields
from vault_fields.rows.labels import LabelHistory, all_migrations
from vault_fields.rows.presence import has_column
from vault_fields.schemachange.dependencies import INDEX_KEYS, without_index_keys

__all__ = ["check_hashes", "check_indexes"]


def check_indexes(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    columns = list(_columns(app_configs))
    if not columns:
        return []  # Reading every migration takes time.
    return [*_check_tables(columns), *_check_labels(columns), *_check_dependencies(app_configs), *_check_state(columns)]


def check_hashes(
    app_configs: Sequence[AppConfig] | None, databases: Collection[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Look for rows without hashes in the databases that ``check --database`` names."""
    return [
        message
        for alias in databases or ()
        for column in _columns(app_configs)
        if router.allow_migrate_model(alias, column.model)
        for message in _check_rows(alias, column)
    ]


def _columns(app_configs: Sequence[AppConfig] | None) -> Iterator[IndexField]:
    for model in models_of(app_configs):
        if not model._meta.proxy:
            names = {field.name for field in encrypted_fields(model)}
            for column in model._meta.local_concrete_fields:
                if isinstance(column, IndexField) and column.of in names:
                    yield column


def _check_tables(columns: Sequence[IndexField]) -> Iterator[CheckMessage]:
    model: Any = apps.get_model("vault_fields", "IndexKey")
    for alias in connections:
        if router.allow_migrate_model(alias, model):
            continue
        for column in columns:
            if router.allow_migrate_model(alias, column.model):
                yield Error(
                    f"The routers keep the table of index keys out of the database {alias!r}, where the indexed values "
                    "of this field are: their index keys are kept beside them.",
                    hint=f"Let the routers allow vault_fields there, and type `python manage.py migrate vault_fields "
                    f"--database {alias}`.",
                    obj=column.encrypted,
                    id="vault_fields.E035",
                )


def _check_labels(columns: Sequence[IndexField]) -> Iterator[CheckMessage]:
    found: defaultdict[tuple[str, str], list[IndexField]] = defaultdict(list)
    for column in columns:
        found[column.index_label, column.encrypted.vault].append(column)
    for (label, _), (first, *others) in found.items():
        for other in others:
            yield CheckWarning(
                f"Its index {other.name!r} has the label {label!r}, as {first.model._meta.label}.{first.name} has: "
                "whoever sees both tables sees which values of a tenant are equal in them.",
                hint="Give one of them another label, with index=BlindIndex(label=…), and run `python manage.py "
                f"vault_index {other.model._meta.label} {other.of}`; or silence this check if it is on purpose.",
                obj=other.encrypted,
                id="vault_fields.W030",
            )


def _check_dependencies(app_configs: Sequence[AppConfig] | None) -> Iterator[CheckMessage]:
    labels = None if app_configs is None else {config.label for config in app_configs}
    try:
        loader = MigrationLoader(None, ignore_no_migrations=True)
        found = list(without_index_keys(loader))
    except UNREADABLE:
        return  # W005 reports it.
    for migration in found:
        if labels is None or migration.app_label in labels:
            yield Error(
                f"The migration {migration.app_label}.{migration.name} adds the column of an index, and may run before "
                "there is a table of index keys: a data migration after it could write no indexed value.",
                hint=f"Write {INDEX_KEYS!r} into its dependencies.",
                obj=f"{migration.app_label}.{migration.name}",
                id="vault_fields.E034",
            )


def _check_state(columns: Sequence[IndexField]) -> Iterator[CheckMessage]:
    """Yield a warning for each index that makes other hashes than the one that the migrations know."""
    try:
        history = LabelHistory.of(all_migrations())
        state = MigrationLoader(None, ignore_no_migrations=True).project_state()
    except UNREADABLE:
        return  # W005 reports it.
    for column in columns:
        meta = column.model._meta
        model: Any = state.models.get((meta.app_label, str(meta.model_name)))
        known: dict[str, Any] = {} if model is None else model.fields
        former = known.get(column.name)
        if not isinstance(former, IndexField):
            continue
        differing = [
            option for option in ("normalize", "scope", "bits") if getattr(former, option) != getattr(column, option)
        ]
        known_label = _label(former, known.get(column.of), column)
        # Former labels that come after a rename do not change what the rename has left as it was.
        if known_label != column.index_label and not {known_label, column.index_label} <= set(history.kin(known_label)):
            differing.append("label")
        if differing:
            yield CheckWarning(
                f"Its index {column.name!r} has another {' and '.join(differing)} than the migrations know. The hashes "
                "that are there were made without it: `migrate` sets them to NULL, and no row is found.",
                hint=f"Type `python manage.py makemigrations`, `migrate` and `vault_index {meta.label} {column.of}`, "
                "one after the other. To find values meanwhile, add an index with a name of its own first.",
                obj=column.encrypted,
                id="vault_fields.W029",
            )


def _label(former: IndexField, field: Any, column: IndexField) -> str:
    """Return the label of an index as the migrations know it, where fields do not know their models."""
    oldest = next(iter(getattr(field, "former_labels", ())), column.encrypted.label)
    return former.declared_label or index_label(oldest, former.index_name)


def _check_rows(alias: str, column: IndexField) -> Iterator[CheckMessage]:
    connection, meta = connections[alias], column.model._meta
    if not has_column(connection, meta.db_table, str(column.column)):
        return  # No migration has made it yet, and `migrate` runs this check.
    rows: Any = QuerySet[Model](column.model, using=alias)
    if rows.filter(**{f"{column.of}__isnull": False, f"{column.attname}__isnull": True}).exists():
        left_out = " Values that its normalization leaves out have none, and are no fault." if column.leaves_out else ""
        yield CheckWarning(
            f"Rows in the database {alias!r} have a value and no hash in {column.name!r}: no lookup finds them."
            f"{left_out}",
            hint=f"Type `python manage.py vault_index {meta.label} {column.of} --database {alias}`. Rows whose keys "
            "were destroyed stay without.",
            obj=column.encrypted,
            id="vault_fields.W028",
        )
