"""Pages and new rows of a project whose Vault is 20 ms away."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models
from django.test import Client, override_settings

from benchmarks.models import Ahead, Page, Remote
from benchmarks.report import Item, Line, at_least, at_most
from benchmarks.rows import TEXT
from benchmarks.sizes import Sizes
from benchmarks.stub import vault_at_a_distance
from benchmarks.timing import Step, difference, interleaved, ratio, spread
from vault_fields.vaults import vaults

DISTANCE = 0.020
# What a project sets that saves many new rows one after the other.
AHEAD = {"max_prefetched_keys": 256, "max_concurrency": 64}


def measure(sizes: Sizes) -> Iterator[Item]:
    with vault_at_a_distance(DISTANCE) as url:
        remote: dict[str, Any] = {
            "BACKEND": "vault_fields.backends.workos.WorkOSVault",
            "OPTIONS": {"api_key": "sk_bench", "base_url": url, "timeout": 60},
        }
        ahead = remote | {"OPTIONS": remote["OPTIONS"] | AHEAD}
        with override_settings(VAULTS=settings.VAULTS | {"remote": remote, "ahead": ahead}):
            yield page(sizes)
            yield prefetched(sizes)
            for alias in ("remote", "ahead"):
                vaults[alias].close()


def page(sizes: Sizes) -> Line:
    """What a cold page takes over a warm one, which is asking the Vault, with the options that a project has."""
    for number in range(sizes.page):
        Page(tenant=f"tenant {number % 7}", ssn=TEXT, notes=TEXT).save()
    admin = Client()
    admin.force_login(get_user_model().objects.create_superuser("bench"))

    def shown() -> None:
        answer = admin.get("/admin/benchmarks/page/")
        if answer.content.decode().count(TEXT) != 2 * sizes.page:
            raise RuntimeError("The page does not show its values.")

    vault = vaults["remote"]
    taken = interleaved({"cold": Step(shown, vault.purge), "warm": Step(shown, shown)}, turns=sizes.turns)
    cold, warm = (spread(taken[name]).median * 1e3 for name in ("cold", "warm"))
    return Line(
        f"admin page of {sizes.page} rows, two fields, cold",
        difference(taken["cold"], taken["warm"]).times(1 / DISTANCE),
        "round trips",
        at_most(3),
        f"{cold:.0f} ms, warm {warm:.0f}",
    )


def prefetched(sizes: Sizes) -> Line:
    """Saves one after the other of new rows of one tenant; the vaults differ by one option."""

    def save(model: type[models.Model]) -> None:
        for _ in range(sizes.new_rows):
            model(tenant="tenant", ssn=TEXT).save()

    taken = interleaved(
        {
            "naive": Step(lambda: save(Remote), vaults["remote"].purge),
            "prefetched": Step(lambda: save(Ahead), vaults["ahead"].purge),
        },
        turns=min(sizes.turns, 2),
        warm_up=0,
    )
    options = ", ".join(f"{name}={value}" for name, value in AHEAD.items())
    naive, fast = (spread(taken[name]).median for name in ("naive", "prefetched"))
    return Line(
        f"{sizes.new_rows:,} new rows, data keys made ahead, rate against one by one",
        ratio(taken["naive"], taken["prefetched"]),
        target=at_least(15),
        beside=f"{fast * 1e3:.0f} ms, one by one {naive * 1e3:.0f}; {options}",
    )
