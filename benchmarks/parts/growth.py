"""How costs grow: with rows, keys, the length of values, the items of a context, and threads."""

import threading
import time
from collections.abc import Iterator
from typing import Any

from django.db import connection, models

from benchmarks.fit import WORSE_THAN_LINEAR, exponent
from benchmarks.models import Migrating, OwnKey, Plain, SharedKeys
from benchmarks.parts.backfill import encrypt, lay_plaintext
from benchmarks.parts.client import DISTANCE, Opener
from benchmarks.report import Curve, Item, Line, at_most
from benchmarks.rows import all_of, clear, fill, refill
from benchmarks.sizes import Sizes
from benchmarks.stub import vault_at_a_distance
from benchmarks.timing import Step, interleaved, spread
from vault_fields.fields import EncryptedTextField
from vault_fields.vaults import vaults

Measured = dict[str, list[tuple[float, float]]]


def measure(sizes: Sizes) -> Iterator[Item]:
    yield from reported("rows", "rows", rows(sizes))
    if connection.vendor == "sqlite":
        # What follows does the same on every database.
        yield from reported("keys", "data keys", keys(sizes))
        yield from reported("values", "bytes of a value", values(sizes))
        yield from reported("items", "items of the key context", items(sizes))
        yield from reported("threads", "threads", threads(sizes))
        yield from reported("concurrency", "calls at once", concurrency(sizes))


def reported(plot: str, axis: str, measured: Measured) -> Iterator[Item]:
    for what, points in measured.items():
        curve = Curve(plot, axis, what, points)
        yield curve
        if len(points) > 1 and not curve.is_base:
            slope = exponent(points)
            (first, low), (last, high) = points[0], points[-1]
            yield Line(
                f"growth with {axis}: {what}",
                spread([slope]),
                "exponent",
                at_most(WORSE_THAN_LINEAR),
                f"{low * 1e3:.3g} ms at {first:,.0f}, {high * 1e3:.3g} ms at {last:,.0f}",
            )


def powers(least: int, most: int, base: int = 10) -> list[int]:
    found = [least]
    while found[-1] * base <= most:
        found.append(found[-1] * base)
    return found


def rows(sizes: Sizes) -> Measured:
    """Seconds of the wall clock. Rows are read with ``iterator()``: a million of them would not fit in memory."""
    found: Measured = {name: [] for name in ("read, plain", "read, warm", "bulk_create", "vault_encrypt")}
    for count in powers(min(100, sizes.most_rows // 10), sizes.most_rows):
        refill(Plain, count, tenants=10)
        taken = interleaved(
            {
                "bulk_create": Step(lambda: fill(SharedKeys, count, tenants=10), lambda: clear(SharedKeys)),  # noqa: B023
                "read, warm": Step(lambda: iterate(SharedKeys)),
                "read, plain": Step(lambda: iterate(Plain)),
                "vault_encrypt": Step(encrypt, lambda: lay_plaintext(Migrating)),
            },
            turns=turns(sizes, count),
            warm_up=1 if count < 100_000 else 0,
        )
        add(found, count, taken)
    for model in (Plain, SharedKeys, Migrating):
        clear(model)
    return found


def turns(sizes: Sizes, count: int) -> int:
    return min(sizes.turns, 7) if count <= 1000 else 3 if count <= 100_000 else 1


def keys(sizes: Sizes) -> Measured:
    """As many rows as the most keys, with fewer keys; what is cold is opened by a Vault in this process."""
    found: Measured = {"cold": [], "warm": []}
    for count in powers(1, sizes.most_keys):
        refill(OwnKey, count, tenants=10)
        vault = vaults["own"]
        taken = interleaved(
            {
                "cold": Step(lambda: touch(OwnKey), vault.purge),
                "warm": Step(lambda: touch(OwnKey), lambda: touch(OwnKey)),
            },
            turns=turns(sizes, count),
            clock=time.process_time,
        )
        add(found, count, taken)
    clear(OwnKey)
    return found


def values(sizes: Sizes) -> Measured:
    found: Measured = {"saved": [], "read": [], "saved, plain": [], "read, plain": []}
    for size in powers(16, sizes.most_bytes, 4):
        text = "x" * size
        kinds: tuple[tuple[str, type[models.Model]], ...] = (("", SharedKeys), (", plain", Plain))
        steps: dict[str, Step] = {}
        for end, model in kinds:
            steps[f"saved{end}"] = Step(lambda m=model, t=text: fill(m, 20, text=t), lambda m=model: clear(m))  # type: ignore[misc]
            steps[f"read{end}"] = Step(lambda m=model: touch(m))  # type: ignore[misc]
        add(found, size, interleaved(steps, turns=min(sizes.turns, 7), clock=time.process_time))
    return found


def items(sizes: Sizes) -> Measured:
    found: Measured = {"saved": [], "read, cold": [], "read, warm": []}
    for count in [one for one in (1, 2, 3, 5, 7, 10) if one <= sizes.most_items]:
        model = model_of(count)
        taken = interleaved(
            {
                "saved": Step(lambda: fill(model, 200), lambda: clear(model)),  # noqa: B023
                "read, cold": Step(lambda: touch(model), vaults["own"].purge),  # noqa: B023
                "read, warm": Step(lambda: touch(model), lambda: touch(model)),  # noqa: B023
            },
            turns=min(sizes.turns, 7),
            clock=time.process_time,
        )
        add(found, count, taken)
    return found


def model_of(count: int) -> type[models.Model]:
    """A model whose key context has that many items, from one column."""
    attributes = {
        "__module__": __name__,
        "Meta": type("Meta", (), {"app_label": "benchmarks"}),
        "tenant": models.CharField(max_length=50),
        "ssn": EncryptedTextField(key_context={f"item_{n}": "tenant" for n in range(count)}, vault="own"),
    }
    model = type(f"Items{count}", (models.Model,), attributes)
    with connection.schema_editor() as editor:
        editor.create_model(model)
    return model


def threads(sizes: Sizes) -> Measured:
    """Each thread touches as many loaded rows of its own; Python runs one thread at a time, so linear is the best."""
    found: Measured = {"values opened, 100 by each thread": []}
    each = min(100, sizes.rows)
    most = sizes.most_threads
    refill(OwnKey, each)
    touch(OwnKey)
    for count in powers(1, most, 2):
        loaded: list[list[Any]] = []

        def load(count: int = count, loaded: list[list[Any]] = loaded) -> None:
            loaded[:] = [list(all_of(OwnKey)) for _ in range(count)]

        def run(loaded: list[list[Any]] = loaded) -> None:
            workers = [threading.Thread(target=open_all, args=(part,)) for part in loaded]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()

        taken = interleaved({"threads": Step(run, load)}, turns=min(sizes.turns, 5))
        add(found, count, {"values opened, 100 by each thread": taken["threads"]})
    return found


def concurrency(sizes: Sizes) -> Measured:
    """Falls as long as more calls at once are faster."""
    name, limit = f"{sizes.cold_keys:,} cold keys at 20 ms", "least time"
    found: Measured = {name: [], limit: []}
    with vault_at_a_distance(DISTANCE) as url:
        for count in powers(1, sizes.most_threads, 2):
            opener = Opener(url, count, sizes.cold_keys)
            taken = interleaved({name: Step(opener.open, opener.vault.purge)}, turns=1 if count < 8 else 3)
            opener.vault.close()
            add(found, count, taken)
            found[limit].append((count, -(-sizes.cold_keys // count) * DISTANCE))
    return found


def add(found: Measured, size: int, taken: dict[str, list[float]]) -> None:
    for name, seconds in taken.items():
        found[name].append((size, spread(seconds).median))


def iterate(model: type[models.Model]) -> None:
    open_all(all_of(model).iterator(chunk_size=2000))


def touch(model: type[models.Model]) -> None:
    open_all(all_of(model))


def open_all(rows: Any) -> None:
    for row in rows:
        row.ssn  # noqa: B018
