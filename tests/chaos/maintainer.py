"""A process that runs the commands of an operator over the rows that others write, until it is killed."""

import random
from collections.abc import Callable
from io import StringIO
from pathlib import Path

from django.core.management import CommandError, call_command
from django.db import OperationalError

from tests.chaos.calls import Calls
from tests.chaos.journal import Journal
from tests.chaos.world import journal_in
from vault_fields.exceptions import VaultError

__all__ = ["COMMANDS", "command", "finish", "run"]

COMMANDS = [
    ["vault_decrypt", "testapp.Legacy"],
    ["vault_encrypt", "testapp.Legacy"],
    ["vault_rekey", "testapp.Patient", "--rewrap"],
    ["vault_rekey", "testapp.Letter", "--rewrap"],
    ["vault_reencrypt", "testapp.Patient"],
    ["vault_reencrypt", "testapp.Letter"],
]


def run(directory: Path, slot: int, incarnation: int, seed: str, go_on: Callable[[], bool]) -> None:
    journal = Journal(journal_in(directory, slot, incarnation))
    chosen, calls = random.Random(f"{seed} {slot} {incarnation}"), Calls()
    while go_on():
        command(journal, chosen.choice(COMMANDS), calls)


def command(journal: Journal, line: list[str], calls: Calls) -> None:
    """One command, in batches so small that others come between them. It may give up, and say so."""
    try:
        with journal.operation(" ".join(line), {}, (CommandError, OperationalError, VaultError), calls):
            call_command(*line, "--batch-size", "25", stdout=StringIO(), stderr=StringIO())
    except (CommandError, OperationalError, VaultError):
        return


def finish(directory: Path, *line: str) -> None:
    """A command that nobody interrupts."""
    call_command(*line, stdout=StringIO(), stderr=StringIO())
