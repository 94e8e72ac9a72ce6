"""
Hooks for forks: in a child every lock is a new one, and nothing is shared with the parent.

A lock that another thread held at the moment of the fork would never be released in the child, where that thread does
not exist. So every object with a lock, or with connections, registers here. There is no other hook for forks in this
package.
"""

import os
import threading
import weakref
from typing import Any, Protocol

__all__ = ["Held", "Reset", "follow_forks", "hold_while_forking", "leave_to_parent"]


class Reset(Protocol):
    """An object that a child begins anew."""

    def reset_in_child(self) -> None:
        """Replace locks, never take them: called in the child, where no other thread runs yet."""


class Held(Protocol):
    """An object that must be at rest during a fork, because the system's own tables are copied with it."""

    def before_fork(self) -> None:
        """Wait until no thread uses it, and let none begin before ``after_fork``."""

    def after_fork(self) -> None:
        """Let threads use it again. Called in the parent and in the child."""


_resets: weakref.WeakSet[Reset] = weakref.WeakSet()
_holders: weakref.WeakSet[Held] = weakref.WeakSet()
_held: list[Held] = []
_inherited: list[Any] = []
# While a thread that forks has this lock, nobody begins to use anything that would have to be held.
_lock = threading.RLock()


def follow_forks(instance: Reset) -> None:
    """Reset the object in every child that is forked from now on. Called at the end of its constructor."""
    _resets.add(instance)


def hold_while_forking(instance: Held) -> None:
    """Hold the object during every fork from now on. Called at the end of its constructor."""
    with _lock:
        _holders.add(instance)


def leave_to_parent(*things: Any) -> None:
    """
    Keep inherited objects that a child does not use for as long as it lives.

    Closing a connection there, or collecting it, may end it for the parent.
    """
    _inherited.extend(thing for thing in things if thing)


def _before() -> None:
    # The process forks whatever is raised here, for example by a signal: so all the others are held first.
    fault = None
    _lock.acquire()
    for holder in list(_holders):
        _held.append(holder)
        try:
            holder.before_fork()
        except BaseException as error:  # noqa: BLE001 - it is raised below.
            fault = fault or error
    if fault is not None:
        raise fault


def _after() -> None:
    while _held:
        _held.pop().after_fork()
    _lock.release()


def _in_child() -> None:
    _after()
    for instance in list(_resets):
        instance.reset_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork.
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
