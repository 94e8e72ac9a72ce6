"""A process that writes rows in every way there is, as fast as it can, and says so in a journal until it is killed."""

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from django.db import OperationalError, transaction
from django.db.models import Model

from tests.chaos.calls import Calls
from tests.chaos.journal import Broken, Change, Journal, Oracle
from tests.chaos.world import journal_in, journals_in
from tests.testapp.models import Legacy, Letter, Patient
from vault_fields.exceptions import DatabaseBusy, VaultUnavailable
from vault_fields.openbao.errors import TransitKeyMissing
from vault_fields.vaults import vaults

__all__ = ["COLUMNS", "MODELS", "ORGANIZATIONS", "Writer", "run"]

ORGANIZATIONS = range(1, 7)

MODELS: dict[str, type[Model]] = {"patient": Patient, "letter": Letter, "legacy": Legacy}
COLUMNS = {"patient": ("ssn", "notes", "history"), "letter": ("subject", "text"), "legacy": ("text", "data")}
_JSON = {("patient", "history"), ("letter", "text"), ("legacy", "data")}

# What may be, while others are killed and write to the same tables: nothing was acknowledged then. The last is what a
# standby node says of a new key while it waits for a leader; see docs/openbao.md.
MAY_RAISE: tuple[type[Exception], ...] = (OperationalError, DatabaseBusy, VaultUnavailable, TransitKeyMissing)

Columns: TypeAlias = dict[str, Any]


class Writer:
    """
    One writer, with rows that are only its own.

    With ``few`` it has no more rows than that, whatever it writes.
    """

    def __init__(
        self,
        directory: Path,
        slot: int,
        incarnation: int,
        seed: str,
        calls: Calls,
        *,
        few: int | None = None,
        may_raise: tuple[type[Exception], ...] = MAY_RAISE,
    ) -> None:
        # Rows that a process before this one was just writing are left alone: nobody knows what is in them, and its
        # last statement may still be on its way to the database.
        self.rows = Oracle.of(journals_in(directory, slot)).certain()
        self._calls = calls
        self._aside: list[str] = []
        self._journal = Journal(journal_in(directory, slot, incarnation))
        self._first = (slot * 1000 + incarnation) * 1_000_000
        self._made = self._written = 0
        self._random = random.Random(f"{seed} {slot} {incarnation}")
        self._few = few
        self._may_raise = may_raise

    def turn(self) -> None:
        """One operation. What may be raised is noted, and over."""
        growing = self._few is None or len(self.rows) < self._few
        ways = [self.create, self.create_many, self.create_some_or_none] if growing else [self.delete] * 3
        if self.rows:
            ways += [self.save, self.save_one_column, self.update, self.update_many]
            ways += [self.move, self.move_by_update, self.delete, self.read, self.read]
        self._random.choice(ways)()

    def create(self) -> None:
        name, columns = self._new()
        self._do("create", {name: columns}, lambda: _manager(name).create(pk=_pk(name), **_attributes(columns)))

    def create_many(self) -> None:
        kind = self._random.choice(list(MODELS))
        made = dict(self._new(kind) for _ in range(self._random.randint(2, 20)))

        def work() -> None:
            instances = [MODELS[kind](pk=_pk(name), **_attributes(columns)) for name, columns in made.items()]
            MODELS[kind]._default_manager.bulk_create(instances)

        self._do("bulk_create", made, work)

    def create_some_or_none(self) -> None:
        """Several rows in one transaction, which is sometimes rolled back."""
        made = dict(self._new() for _ in range(3))
        kept = self._random.random() < 0.5

        def work() -> None:
            with transaction.atomic():
                for name, columns in made.items():
                    _manager(name).create(pk=_pk(name), **_attributes(columns))
                transaction.set_rollback(not kept)

        self._do("transaction", made if kept else dict.fromkeys(made), work)

    def save(self) -> None:
        name = self._any()
        columns = self._columns(name)

        def work() -> None:
            instance = _manager(name).get(pk=_pk(name))
            _assign(instance, columns)
            instance.save()

        self._do("save", {name: columns}, work)

    def save_one_column(self) -> None:
        name = self._any()
        column, value = self._column(name)

        def work() -> None:
            instance = _manager(name).get(pk=_pk(name))
            setattr(instance, column, value)
            instance.save(update_fields=[column])

        self._do("save a column", {name: {column: value}}, work)

    def update(self) -> None:
        name = self._any()
        column, value = self._column(name)
        self._do(
            "update",
            {name: {column: value}},
            lambda: _one(_manager(name).filter(pk=_pk(name)).update(**{column: value})),
        )

    def update_many(self) -> None:
        kind = _kind(self._any())
        own = sorted(name for name in self.rows if name.startswith(kind))
        names = self._random.sample(own, min(len(own), self._random.randint(1, 10)))
        column = self._random.choice(COLUMNS[kind])
        changed = {name: {column: self._value(name, column)} for name in names}

        def work() -> None:
            instances = list(_manager(names[0]).filter(pk__in=map(_pk, names)))
            for instance in instances:
                _assign(instance, changed[f"{kind} {instance.pk}"])
            if _manager(names[0]).bulk_update(instances, [column]) != len(names):
                raise Broken("bulk_update() wrote to fewer rows than there are")

        self._do("bulk_update", changed, work)

    def move(self) -> None:
        name = self._any()
        moved = {"organization": self._random.choice(ORGANIZATIONS)}

        def work() -> None:
            instance = _manager(name).get(pk=_pk(name))
            _assign(instance, moved)
            instance.save(update_fields=["organization"])

        self._do("move", {name: moved}, work)

    def move_by_update(self) -> None:
        name = self._any()
        moved = {"organization": self._random.choice(ORGANIZATIONS)}
        self._do(
            "move by update",
            {name: moved},
            lambda: _one(_manager(name).filter(pk=_pk(name)).update(**moved)),
        )

    def delete(self) -> None:
        name = self._any()
        gone = [name, *(other for other in self._aside if _kind(other) == _kind(name))]

        def work() -> None:
            _manager(name).filter(pk__in=map(_pk, gone)).delete()

        if self._do("delete", dict.fromkeys(gone), work):
            self._aside = [other for other in self._aside if other not in gone]

    def read(self) -> None:
        """A row, in half of the cases with keys that nobody holds any more."""
        name = self._any()
        if self._random.random() < 0.5:
            vaults["default"].purge()

        def work() -> None:
            found = _read(_manager(name).get(pk=_pk(name)), name)
            if found != self.rows[name]:
                raise Broken(f"{name} does not hold what was acknowledged")

        self._do("read", {}, work)

    def _do(self, what: str, rows: Mapping[str, Change], work: Callable[[], object]) -> bool:
        with suppress(*self._may_raise):
            with self._journal.operation(what, rows, self._may_raise, self._calls):
                work()
            for name, change in rows.items():
                if change is None:
                    self.rows.pop(name, None)
                else:
                    self.rows[name] = {**self.rows.get(name, {}), **change}
            return True
        for name in rows:
            self.rows.pop(name, None)
            self._aside.append(name)
        return False

    def _new(self, kind: str = "") -> tuple[str, Columns]:
        self._made += 1
        name = f"{kind or self._random.choice(list(MODELS))} {self._first + self._made}"
        return name, {"organization": self._random.choice(ORGANIZATIONS), **self._columns(name)}

    def _any(self) -> str:
        return self._random.choice(sorted(self.rows))

    def _columns(self, name: str) -> Columns:
        return {column: self._value(name, column) for column in COLUMNS[_kind(name)]}

    def _column(self, name: str) -> tuple[str, Any]:
        column = self._random.choice(COLUMNS[_kind(name)])
        return column, self._value(name, column)

    def _value(self, name: str, column: str) -> Any:
        """One that no other row and no other moment has."""
        self._written += 1
        padding = self._random.choice("aß🙂") * self._random.randint(0, 99)
        text = f"{name} {column} {self._first} {self._written} {padding}"
        return {"text": text, "more": [1, None, True]} if (_kind(name), column) in _JSON else text


def run(directory: Path, slot: int, incarnation: int, seed: str, go_on: Callable[[], bool]) -> None:
    writer = Writer(directory, slot, incarnation, seed, Calls())
    while go_on():
        writer.turn()


def _kind(name: str) -> str:
    return name.partition(" ")[0]


def _pk(name: str) -> int:
    return int(name.partition(" ")[2])


def _manager(name: str) -> Any:
    return MODELS[_kind(name)]._default_manager


def _attributes(columns: Columns) -> Columns:
    return {"organization_id" if name == "organization" else name: value for name, value in columns.items()}


def _assign(instance: Model, columns: Columns) -> None:
    for name, value in _attributes(columns).items():
        setattr(instance, name, value)


def _read(instance: Any, name: str) -> Columns:
    columns = {column: getattr(instance, column) for column in COLUMNS[_kind(name)]}
    return {"organization": instance.organization_id, **columns}


def _one(count: int) -> None:
    if count != 1:
        raise Broken(f"update() wrote to {count} rows of one")
