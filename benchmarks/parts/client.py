"""Cold keys over httpx from a Vault that is 20 ms away, by concurrency; and the calls to a real OpenBao."""

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import Item, Line, Missing, at_most
from benchmarks.sizes import Sizes
from benchmarks.stub import vault_at_a_distance
from benchmarks.timing import Step, interleaved, ratio, spread
from vault_fields.backends.workos import WorkOSVault
from vault_fields.keys import KeyContext

DISTANCE = 0.020
CONCURRENCIES = (16, 32, 64)


def measure(sizes: Sizes) -> Iterator[Item]:
    with vault_at_a_distance(DISTANCE) as url:
        openers = {at_once: Opener(url, at_once, sizes.cold_keys) for at_once in CONCURRENCIES}
        taken = interleaved(
            {str(at_once): Step(opener.open, opener.vault.purge) for at_once, opener in openers.items()},
            turns=sizes.turns,
        )
        for opener in openers.values():
            opener.vault.close()
    keys = f"{sizes.cold_keys:,} cold keys at 20 ms"
    for at_once, opener in openers.items():
        least = math.ceil(sizes.cold_keys / at_once) * DISTANCE
        wall = spread(taken[str(at_once)])
        is_the_one = at_once == 32
        yield Line(
            f"{keys}, {at_once} at once, over the least time",
            wall.times(1 / least),
            target=at_most(1.25) if is_the_one else None,
            beside=f"{wall.median * 1e3:.0f} ms, least {least * 1e3:.0f}",
        )
        # The first is the warm-up, which opens the connections.
        cpu = spread(opener.cpu[1:]).times(1e3 / sizes.cold_keys)
        yield Line(f"CPU a call, {at_once} at once", cpu, "ms", at_most(0.5) if is_the_one else None)
    yield Line(f"{keys}, 64 at once over 32", ratio(taken["64"], taken["32"]), target=at_most(1))
    try:
        yield openbao(sizes)
    except Exception as error:  # noqa: BLE001 - a server that does not start is a line that is missing.
        yield Missing(f"{sizes.cold_keys:,} cold keys of OpenBao", f"{type(error).__name__}: {error}")


class Opener:
    """As many encrypted keys, opened together by a vault with a cache of its own."""

    def __init__(self, url: str, at_once: int, keys: int) -> None:
        self.vault = WorkOSVault(
            api_key="sk_bench", base_url=url, max_concurrency=at_once, timeout=60, max_cached_keys=2 * keys
        )
        context = KeyContext({"organization_id": "1"})
        blob = self.vault.create_data_key(context).encrypted_keys
        # The Vault at a distance opens whatever it is given.
        self.wanted = {f"{number:08d}{blob[8:]}": context for number in range(keys)}
        self.cpu: list[float] = []

    def open(self) -> None:
        started = time.process_time()
        outcomes = self.vault.decrypt_data_keys(self.wanted)
        self.cpu.append(time.process_time() - started)
        raise_first(outcomes.values())


def openbao(sizes: Sizes) -> Line:
    from tests.backends.openbao import new_vault
    from tests.byok.peers import running_bao

    with tempfile.TemporaryDirectory() as directory, running_bao(Path(directory)) as bao:
        vault = new_vault(bao, max_cached_keys=2 * sizes.cold_keys)
        contexts = [KeyContext({"organization_id": str(number % 5)}) for number in range(sizes.cold_keys)]
        wanted: dict[str, KeyContext | None] = {
            vault.create_data_key(context).encrypted_keys: context for context in contexts
        }
        vault.purge()
        before = sum(vault.calls.values())
        started = time.perf_counter()
        outcomes = vault.decrypt_data_keys(wanted)
        seconds = time.perf_counter() - started
        calls = sum(vault.calls.values()) - before
        vault.close()
    raise_first(outcomes.values())
    return Line(
        f"{sizes.cold_keys:,} cold keys of OpenBao, 5 tenants",
        spread([float(calls)]),
        "calls",
        at_most(5),
        f"{seconds * 1e3:.0f} ms, a real server on this machine",
    )


def raise_first(outcomes: Any) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
