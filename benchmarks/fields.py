"""
What the encrypted fields cost, as ratios within one run.

    python benchmarks/fields.py [rows]

Compares, on SQLite in memory and with an in-process Vault: a plain model, a model of the same bytes, and an encrypted
one - loaded and not touched, loaded and read with warm keys, values_list, bulk_create. Each figure is the median of
several turns, taken in turn with the others so that they share the machine's noise.
"""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import cryptography
import django

django.setup()

from django.db import connection, models

from tests.testapp.models import Organization
from vault_fields.fields import EncryptedTextField
from vault_fields.vaults import vaults

TURNS = 7


class Plain(models.Model):
    organization = models.ForeignKey(Organization, models.CASCADE)
    ssn = models.TextField()

    class Meta:
        app_label = "testapp"


class SameBytes(models.Model):
    organization = models.ForeignKey(Organization, models.CASCADE)
    ssn = models.TextField()
    ssn_keys = models.TextField(null=True)

    class Meta:
        app_label = "testapp"


class Encrypted(models.Model):
    organization = models.ForeignKey(Organization, models.CASCADE)
    ssn = EncryptedTextField(key_context=["organization_id"])

    class Meta:
        app_label = "testapp"


def measure(steps: dict[str, Callable[[], object]], rows: int) -> dict[str, float]:
    """Microseconds per row of each step, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(TURNS):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) / rows * 1e6 for name, times in seconds.items()}


def bulk(model: type[models.Model], owner: Organization, rows: int) -> Callable[[], object]:
    def create() -> None:
        model.objects.all().delete()
        model.objects.bulk_create([model(organization=owner, ssn=f"ssn {n}") for n in range(rows)], batch_size=500)

    return create


def main(rows: int) -> None:
    with connection.schema_editor() as editor:
        for model in (Organization, Plain, SameBytes, Encrypted):
            editor.create_model(model)
    owner = Organization.objects.create(workos_id="org_1")
    vault = vaults["default"]
    vault.cache.max_age = 3600.0
    # Every row has a data key of its own, as if it had been saved by itself.
    vault.max_rows_per_key = 1
    Encrypted.objects.bulk_create([Encrypted(organization=owner, ssn=f"ssn {n}") for n in range(rows)], batch_size=500)
    vault.max_rows_per_key = 1000
    stored = list(Encrypted.objects.raw("SELECT * FROM testapp_encrypted"))
    SameBytes.objects.bulk_create(
        [SameBytes(organization=owner, ssn=row.__dict__["ssn"].text, ssn_keys=row.ssn_keys) for row in stored],
        batch_size=500,
    )
    Plain.objects.bulk_create([Plain(organization=owner, ssn=f"ssn {n}") for n in range(rows)], batch_size=500)
    vault.cache.max_keys = rows * 2
    for row in Encrypted.objects.all():
        row.ssn  # noqa: B018
    figures = measure(
        {
            "load plain": lambda: list(Plain.objects.all()),
            "load the same bytes": lambda: list(SameBytes.objects.all()),
            "load encrypted, unread": lambda: list(Encrypted.objects.all()),
            "load encrypted, read, warm": lambda: [row.ssn for row in Encrypted.objects.all()],
            "values_list plain": lambda: list(Plain.objects.values_list("ssn")),
            "values_list encrypted, warm": lambda: list(Encrypted.objects.values_list("ssn")),
        },
        rows,
    )
    written = min(rows, 5000)
    figures |= measure(
        {
            "bulk_create plain": bulk(Plain, owner, written),
            "bulk_create encrypted, one context": bulk(Encrypted, owner, written),
        },
        written,
    )
    print(f"{rows} rows, a data key each; Python {platform.python_version()}, Django {django.__version__},")
    print(f"cryptography {cryptography.__version__}, SQLite in memory, {os.cpu_count()} cores; median of {TURNS} turns")
    for name, figure in figures.items():
        base = figures[name.split()[0] + " plain"]
        print(f"{name:36} {figure:8.2f} µs/row   × {figure / base:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
