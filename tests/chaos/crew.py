"""The processes of an experiment, from outside: started, waited for, killed."""

import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.world import HANGS, World

__all__ = ["Crew", "Member"]

KILLED = -9


@dataclass
class Member:
    role: str
    slot: int
    incarnation: int
    pid: int
    journal: Path

    def await_entries(self, more: int) -> None:
        """Until its journal has so many more lines than now, or it ended."""
        self.await_lines(self._lines() + more)

    def await_lines(self, wanted: int) -> None:
        deadline = time.monotonic() + HANGS
        while self._lines() < wanted and self._lives():
            assert time.monotonic() < deadline, f"the {self.role} {self.journal.name} hangs:\n{self._said()[-4000:]!r}"
            time.sleep(0.02)

    def _lives(self) -> bool:
        # The third field of /proc/…/stat, after the name in parentheses; it stays a zombie until the nursery asks.
        return Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"

    def _lines(self) -> int:
        return self._said().count(b"\n")

    def _said(self) -> bytes:
        return self.journal.read_bytes() if self.journal.exists() else b""


class Crew:
    def __init__(self, world: World) -> None:
        self._world = world
        self.members: list[Member] = []

    def start(self, role: str, slot: int, incarnation: int = 0) -> Member:
        pid = self._world.order(role=role, slot=slot, incarnation=incarnation)
        member = Member(role, slot, incarnation, pid, self._world.journal(slot, incarnation))
        self.members.append(member)
        return member

    def kill(self, member: Member) -> None:
        """With SIGKILL. That it had ended by itself is an error: none does that."""
        self.members.remove(member)
        status = self._world.order(kill=member.pid)
        if status != KILLED:
            said = member.journal.read_text("utf-8")[-4000:] if member.journal.exists() else ""
            raise AssertionError(f"the {member.role} {member.journal.name} ended with status {status}:\n{said}")

    def replace(self, member: Member) -> Member:
        """Kill it, and start the next one, which goes on with its rows."""
        self.kill(member)
        return self.start(member.role, member.slot, member.incarnation + 1)

    def kill_all(self) -> None:
        for member in list(self.members):
            self.kill(member)
