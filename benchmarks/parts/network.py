"""Pages and new rows of a project whose Vault is 20 ms away."""

from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client, override_settings

from benchmarks.models import Page, Remote
from benchmarks.report import Item, Line, at_least, at_most
from benchmarks.rows import TEXT
from benchmarks.sizes import Sizes
from benchmarks.stub import vault_at_a_distance
from benchmarks.timing import Step, difference, interleaved, ratio, spread
from vault_fields.vaults import vaults

DISTANCE = 0.020


def measure(sizes: Sizes) -> Iterator[Item]:
    with vault_at_a_distance(DISTANCE) as url:
        remote = {
            "BACKEND": "vault_fields.backends.workos.WorkOSVault",
            "OPTIONS": {"api_key": "sk_bench", "base_url": url, "timeout": 60},
        }
        with override_settings(VAULTS=settings.VAULTS | {"remote": remote}):
            yield page(sizes)
            if PREFETCHING is not None:
                yield prefetched(sizes, PREFETCHING)
            vaults["remote"].close()


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


def prefetched(sizes: Sizes, prefetching: Callable[[int, Callable[[], Any]], None]) -> Line:
    what = f"{sizes.new_rows:,} new rows with prefetched data keys, against one by one"

    def save() -> None:
        for _ in range(sizes.new_rows):
            Remote(tenant="tenant", ssn=TEXT).save()

    def save_prefetched() -> None:
        prefetching(sizes.new_rows, save)

    taken = interleaved(
        {"naive": Step(save), "prefetched": Step(save_prefetched)}, turns=min(sizes.turns, 3), warm_up=0
    )
    naive, fast = (spread(taken[name]).median for name in ("naive", "prefetched"))
    return Line(
        what,
        ratio(taken["naive"], taken["prefetched"]),
        target=at_least(15),
        beside=f"{fast * 1e3:.0f} ms, one by one {naive * 1e3:.0f}",
    )


# How a project fetches that many data keys together before it runs something that saves as many rows.
PREFETCHING: Callable[[int, Callable[[], Any]], None] | None = None
