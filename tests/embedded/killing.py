"""Processes that are killed, with SIGKILL, at a step of their work: an SQL statement, or what is done with a file."""

import os
import pathlib
import signal
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["killed_at", "killed_at_every_step"]


def killed_at_every_step(work: Callable[[], object], *, stride: int = 1) -> Iterator[int]:
    """Run ``work`` in one child after the other, killed at its first step, at its second, … until one gets through."""
    step = 1
    while killed_at(step, work):
        yield step
        step += stride


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Whether a child that does ``work`` came as far as this step, and was killed there. One that fails is an error."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _kill_this_process_at(step)
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the work failed"
    return False


def _kill_this_process_at(step: int) -> None:
    steps = 0

    def count(*args: object) -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            count()
            return function(*args, **kwargs)

        return call

    connect = sqlite3.connect

    def connect_and_count(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        count()
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(count)
        return connection

    sqlite3.connect = connect_and_count  # type: ignore[assignment]
    os.fsync = counted(os.fsync)
    os.link = counted(os.link)
    pathlib.Path.unlink = counted(pathlib.Path.unlink)  # type: ignore[method-assign]
