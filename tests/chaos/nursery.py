"""
``python -m tests.chaos.nursery``: forks the processes that are killed, because a Python of its own takes each a second.

It has opened no database and no vault itself. An order is a line of JSON: ``{"role": …, "slot": …, "incarnation": …}``
is answered with a pid, ``{"kill": pid}`` with the exit status. What is forked ends when this process does.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from django import setup

__all__: list[str] = []


def main() -> None:
    setup()
    from django.conf import settings

    from tests.chaos import maintainer, racer, writer

    roles = {"writer": writer.run, "maintainer": maintainer.run, "racer": racer.run}
    directory, seed, nursery = Path(settings.WORLD["directory"]), settings.WORLD["seed"], os.getpid()
    for line in sys.stdin:
        order = json.loads(line)
        if "kill" in order:
            os.kill(order["kill"], signal.SIGKILL)
            answer = os.waitstatus_to_exitcode(os.waitpid(order["kill"], 0)[1])
        elif (answer := os.fork()) == 0:
            life = partial(roles[order["role"]], directory, order["slot"], order["incarnation"], seed)
            _live(lambda life=life: life(lambda: os.getppid() == nursery))
        print(answer, flush=True)


def _live(life: Callable[[], None]) -> None:
    status = 1
    try:
        life()
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
