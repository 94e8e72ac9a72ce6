"""How much is measured: tiny for a test that it runs, quick by default, full for the sizes that the targets name."""

from dataclasses import asdict, dataclass

__all__ = ["SIZES", "Sizes"]


@dataclass(frozen=True, slots=True)
class Sizes:
    turns: int
    # Rows that are read and bulk-created, and rows that are saved one by one.
    rows: int
    saves: int
    tenants: int
    backfilled: int
    # Rows in the table in which values are looked up.
    sought: int
    # Data keys that are asked for at once, and new rows over the network.
    cold_keys: int
    new_rows: int
    page: int
    requests: int
    cached_keys: int
    # The largest of each curve.
    most_rows: int
    most_keys: int
    most_bytes: int
    most_items: int
    most_threads: int

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in asdict(self).items())


SIZES = {
    "tiny": Sizes(
        turns=1,
        rows=20,
        saves=5,
        tenants=5,
        backfilled=50,
        sought=200,
        cold_keys=8,
        new_rows=4,
        page=5,
        requests=10,
        cached_keys=20,
        most_rows=100,
        most_keys=10,
        most_bytes=1024,
        most_items=2,
        most_threads=2,
    ),
    "quick": Sizes(
        turns=5,
        rows=4000,
        saves=300,
        tenants=500,
        backfilled=20_000,
        sought=100_000,
        cold_keys=1000,
        new_rows=1000,
        page=100,
        requests=1000,
        cached_keys=10_000,
        most_rows=10_000,
        most_keys=10_000,
        most_bytes=2**20,
        most_items=10,
        most_threads=64,
    ),
    "full": Sizes(
        turns=11,
        rows=10_000,
        saves=1000,
        tenants=2000,
        backfilled=1_000_000,
        sought=1_000_000,
        cold_keys=1000,
        new_rows=1000,
        page=100,
        requests=5000,
        cached_keys=10_000,
        most_rows=1_000_000,
        most_keys=100_000,
        most_bytes=2**20,
        most_items=10,
        most_threads=64,
    ),
}
