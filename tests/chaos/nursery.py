"""
``python -m tests.chaos.nursery``: forks the processes of an experiment; a Python of its own takes each a second.

It has opened no database and no vault itself, so whoever is forked holds nothing that another one held. An order is a
line of JSON. ``{"role": …, "slot": …, "incarnation": …}`` is answered with a pid; ``{"kill": pid}``, or 0 for all, with
an exit status; ``{"call": …, "arguments": […]}`` with one when it is done, what it returns is in the file ``answer``.
What is forked ends when this process does.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django import setup
from django.conf import settings

__all__ = ["ANSWER"]

ANSWER = "answer"


def main() -> None:
    setup()
    from tests.chaos import checker, maintainer, racer, soak, tables, writer

    roles = {"writer": writer.run, "maintainer": maintainer.run, "racer": racer.run}
    calls: dict[str, Callable[..., Any]] = {
        "create": tables.create,
        "drop": tables.drop,
        "check": checker.check,
        "command": maintainer.finish,
        "open": racer.opened,
        "soak": soak.run,
    }
    directory, seed, nursery = Path(settings.WORLD["directory"]), settings.WORLD["seed"], os.getpid()
    living: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        answer = 0
        if "kill" in order:
            for pid in [order["kill"]] if order["kill"] else living:
                os.kill(pid, signal.SIGKILL)
                answer = _ended(pid)
            living -= {order["kill"]} if order["kill"] else living
        elif "call" in order:
            answer = _ended(_forked(partial(_answer, directory, calls[order["call"]], order["arguments"])))
        else:
            life = partial(roles[order["role"]], directory, order["slot"], order["incarnation"], seed)
            answer = _forked(partial(life, lambda: os.getppid() == nursery))
            living.add(answer)
        print(answer, flush=True)


def _forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child


def _answer(directory: Path, call: Callable[..., Any], arguments: list[Any]) -> None:
    # Whoever looks at what is left is not to take a slow machine for a loss.
    settings.VAULTS["default"]["OPTIONS"]["timeout"] = 120
    try:
        answer = {"returned": call(directory, *arguments)}
    except Exception:  # noqa: BLE001 - it is raised where the answer is read.
        answer = {"raised": traceback.format_exc()}
    (directory / ANSWER).write_text(json.dumps(answer), "utf-8")


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
