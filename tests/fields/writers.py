"""Two writers of one row: what each does, and what may be stored afterwards."""

import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.utils import DatabaseError

from tests.testapp.models import Legacy, Letter, Organization, Patient
from vault_fields.exceptions import KeyContextError
from vault_fields.fields.groups import all_groups_of
from vault_fields.rows.backfill import decrypt_column, encrypt_column
from vault_fields.rows.rekey import reencrypt_group, rekey_group

# How a writer names the columns of the two models: values that share a companion, and values that have one each.
COLUMNS = {Letter: ("subject", "text", "title"), Patient: ("ssn", "history", "name"), Legacy: ("text", "data", "")}
WAIT = 0.03  # For somebody who may be waiting for a lock. Either order is right; no outcome depends on it.


@contextmanager
def database_of_many(models, blocker, directory):
    """A database with two organizations that several connections can have open: in SQLite, a file with these tables."""
    if connection.vendor != "sqlite":
        _add_organizations(DEFAULT_DB_ALIAS)
        yield DEFAULT_DB_ALIAS
        return
    default = connections.databases[DEFAULT_DB_ALIAS]
    file = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(directory / "db.sqlite3"), "OPTIONS": {"timeout": 60}}
    connections.databases["file"] = default | file
    with blocker.unblock():
        with connections["file"].schema_editor() as editor:
            for model in models:
                editor.create_model(model)
        _add_organizations("file")
        yield "file"
        connections["file"].close()
    del connections["file"]
    del connections.databases["file"]


def _add_organizations(alias) -> None:
    for pk in (1, 2):
        Organization.objects.using(alias).create(pk=pk, workos_id=f"org_{pk}")


@dataclass(frozen=True)
class Write:
    """One way to write. ``names`` says which columns it promises to write."""

    name: str
    names: tuple[str, ...]
    act: Callable[[Any, Any, str], Callable[[], object]]

    def __repr__(self) -> str:
        return self.name


def _values(row, mark):
    text, data, title = COLUMNS[type(row)]
    setattr(row, text, f"{mark} text")
    setattr(row, data, [mark])
    if title:
        setattr(row, title, mark)
    return row


def _load(model, database):
    return model.objects.using(database).get()


def _save(*columns, move=False):
    def act(model, database, mark):
        row = _values(_load(model, database), mark)
        names = [name for number in columns for name in [COLUMNS[model][number]]]
        if move:
            row.organization_id = 2
            names.append("organization")
        return lambda: row.save(update_fields=names or None)

    return act


def _bulk_update(*columns):
    def act(model, database, mark):
        row = _values(_load(model, database), mark)
        names = [COLUMNS[model][number] for number in columns]
        return lambda: model.objects.using(database).bulk_update([row], names)

    return act


def _upsert(model, database, mark):
    row = _values(_load(model, database), mark)
    columns = [*COLUMNS[model][:2], "organization"]
    columns += [name for group in all_groups_of(model) for name in group.member_names if name not in columns]
    options = {} if connections[database].vendor == "mysql" else {"unique_fields": ["id"]}
    rows = model.objects.using(database)
    return lambda: rows.bulk_create([row], update_conflicts=True, update_fields=columns, **options)


def _update(model, database, mark):
    rows = model.objects.using(database)
    return lambda: rows.update(**{COLUMNS[model][0]: f"{mark} text"})


def _move_by_update(model, database, mark):
    rows = model.objects.using(database)
    return lambda: rows.filter(organization=1).update(organization=2)


def _plain(model, database, mark):
    rows = model.objects.using(database)
    return lambda: rows.update(**{COLUMNS[model][2]: mark})


def _engine(run, **options):
    def act(model, database, mark):
        return lambda: [run(group, using=database, **options) for group in all_groups_of(model)]

    return act


def _column_by_column(run):
    def act(model, database, mark):
        return lambda: [run(model._meta.get_field(name), using=database) for name in COLUMNS[model][:2]]

    return act


WRITES = [
    Write("save", (0, 1, 2, "organization"), _save()),
    Write("save text", (0,), _save(0)),
    Write("save data", (1,), _save(1)),
    Write("save title", (2,), _save(2)),
    Write("bulk_update text", (0,), _bulk_update(0)),
    Write("bulk_update data", (1,), _bulk_update(1)),
    Write("update text", (0,), _update),
    Write("upsert", (0, 1, "organization"), _upsert),
    Write("update", (2,), _plain),
    Write("move", ("organization",), _save(move=True)),
    Write("move with text", (0, "organization"), _save(0, move=True)),
    Write("move by update", ("organization",), _move_by_update),
    Write("rekey", (), _engine(rekey_group, on_problem=print)),
    Write("re-encrypt", (), _engine(reencrypt_group, on_problem=print)),
]

# Of a column that holds plaintext: what encrypts it row by row, and what writes to it meanwhile.
BACKFILLS = [
    Write("encrypt", (), _column_by_column(encrypt_column)),
    Write("decrypt", (), _column_by_column(decrypt_column)),
]
WRITES_OF_PLAINTEXT = [write for write in WRITES if write.name not in {"save title", "update"}]


class Meanwhile:
    """Lets another writer run, on a connection of its own, before the statement ``moment`` of this one."""

    def __init__(self, database: str, moment: int, act: Callable[[], object]) -> None:
        self._connection = connections[database]
        self._left = moment
        self._act = act
        self._thread: threading.Thread | None = None
        self.error: Exception | None = None
        self.is_written = False

    def __call__(self, execute, sql, params, many, context):
        if self._left == 0:
            self.start()
        self._left -= 1
        return execute(sql, params, many, context)

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run)
            self._thread.start()
            self._thread.join(WAIT)

    def _run(self) -> None:
        try:
            self._act()
            self.is_written = True
        except (DatabaseError, KeyContextError) as error:
            self.error = error
        finally:
            connections.close_all()

    def end(self) -> bool:
        """Wait for it. Returns whether it had to be started, since there were fewer statements."""
        came_late = self._thread is None
        self.start()
        self._thread.join(60)
        assert not self._thread.is_alive()
        return came_late
