"""
Every operation there is, in the threads of one process, and what it grows by.

Four writers, one who runs an operator's commands, and one who disables keys, enables them, rotates them and saves the
keystore. Returns what the process and its keystore were like after a third of the time, and in the end.
"""

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from tests.chaos.calls import Calls
from tests.chaos.journal import Broken, Journal
from tests.chaos.maintainer import COMMANDS, command
from tests.chaos.world import HANGS, journal_in
from tests.chaos.writer import MAY_RAISE, ORGANIZATIONS, Writer
from tests.testapp.models import Patient
from vault_fields.embedded.maintenance.snapshot import back_up
from vault_fields.exceptions import KeyRevoked
from vault_fields.vaults import vaults

__all__ = ["run"]

WRITERS = 4
# Rows of each, so that what grows is not the data.
FEW = 60


class Soak:
    def __init__(self, directory: Path, seed: str, seconds: float) -> None:
        self.directory, self.seed = directory, seed
        self.vault: Any = vaults["default"]
        self.calls = Calls()
        self._seconds = seconds
        self._ended = threading.Event()
        self.errors: list[BaseException] = []

    def run(self) -> list[dict[str, int]]:
        lives: list[Callable[[], None]] = [self._writer(slot) for slot in range(WRITERS)]
        lives += [self._maintainer(WRITERS), self._keeper(WRITERS + 1)]
        threads = [threading.Thread(target=self._live, args=[life]) for life in lives]
        for thread in threads:
            thread.start()
        self._ended.wait(self._seconds / 3)
        taken = [self._sizes()]
        self._ended.wait(self._seconds * 2 / 3)
        taken.append(self._sizes())
        self._ended.set()
        for thread in threads:
            thread.join(HANGS)
            assert not thread.is_alive(), "a thread hangs"
        return taken

    def _live(self, turn: Callable[[], None]) -> None:
        try:
            while not self._ended.is_set():
                turn()
        except BaseException as error:  # noqa: BLE001 - it is raised where the threads are waited for.
            self.errors.append(error)
            self._ended.set()
        finally:
            connection.close()

    def _writer(self, slot: int) -> Callable[[], None]:
        may_raise = (*MAY_RAISE, KeyRevoked)
        return Writer(self.directory, slot, 0, self.seed, self.calls, few=FEW, may_raise=may_raise).turn

    def _maintainer(self, slot: int) -> Callable[[], None]:
        journal, chosen = Journal(journal_in(self.directory, slot, 0)), random.Random(f"{self.seed} {slot}")
        return lambda: command(journal, chosen.choice(COMMANDS), self.calls)

    def _keeper(self, slot: int) -> Callable[[], None]:
        """Who disables a tenant's key, sees that nothing of it opens, enables it again, and saves the keystore."""
        journal, chosen = Journal(journal_in(self.directory, slot, 0)), random.Random(f"{self.seed} {slot}")
        keks, target = self.vault.service.keks, self.directory / "backup.sqlite3"

        def turn() -> None:
            item = "organization_id", str(chosen.choice(ORGANIZATIONS))
            if keks.find(*item) is None:
                self._ended.wait(0.1)
                return
            with journal.operation("disable and enable a KEK", {}, (), self.calls):
                keks.disable(*item)
                try:
                    self.vault.purge()
                    patient = Patient.objects.filter(organization=item[1]).exclude(ssn=None).first()
                    if patient is not None:
                        try:
                            patient.ssn  # noqa: B018
                        except KeyRevoked:
                            pass
                        else:
                            raise Broken("a value opened while its key was disabled")
                finally:
                    keks.enable(*item)
            with journal.operation("back the keystore up", {}, (), self.calls):
                back_up(self.vault.service._ring, target)
                target.unlink()
            if chosen.random() < 0.1:
                with journal.operation("rotate a KEK", {}, (), self.calls):
                    keks.rotate(*item)
            self._ended.wait(0.2)

        return turn

    def _sizes(self) -> dict[str, int]:
        resident = int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        keystore = sum(path.stat().st_size for path in self.directory.glob("vault.sqlite3*"))
        return {
            "resident": resident,
            "keystore": keystore,
            "files": len(list(Path("/proc/self/fd").iterdir())),
            "threads": threading.active_count(),
        }


def run(directory: Path, seconds: float) -> list[dict[str, int]]:
    soak = Soak(directory, settings.WORLD["seed"], seconds)
    taken = soak.run()
    if soak.errors:
        raise soak.errors[0]
    return taken
