"""
A process that keeps a vault, and forks while another thread holds a lock of it: once for each lock that there is.

    python -m tests.backends.forking '{"entry": {…an entry of VAULTS…}, "provider": {…of a customer's key…}}'

prints the names of the locks as JSON. The locks are found by looking through all that the vault refers to, so that a
new one is held as well. A child that hangs says where, and ends with an error.
"""

import asyncio
import faulthandler
import gc
import json
import os
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from django.conf import settings

from vault_fields.backends.base import BaseVault
from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.embedded.database.connections import Connections
from vault_fields.embedded.objects import StoredObjects
from vault_fields.keys import KeyContext
from vault_fields.runtime import forks
from vault_fields.runtime.deadline import Deadline
from vault_fields.vaults import vaults

# Only what hangs takes so long.
HANGS = 120

LOCKS = type(threading.Lock()), type(threading.RLock())
CONTEXTS = [KeyContext({"organization_id": name}) for name in ("acme", "other", "customers")]


def main(config: Mapping[str, Any]) -> None:
    settings.configure(VAULTS={"default": config["entry"]})
    vault = vaults["default"]  # As a module would keep it that is imported before workers are forked.
    if provider := config.get("provider"):
        assert isinstance(vault, EmbeddedBackend)
        for step in ("configure", "verify", "activate"):
            getattr(vault.byok, step)("organization_id", "customers", **(provider if step == "configure" else {}))
    known = [vault.create_data_key(context).encrypted_keys for context in CONTEXTS]
    use(vault, known)
    names = []
    for name, lock in found(vault):
        fork_while(held(lock), name, vault, known)
        names.append(name)
    fork_while(asking(vault, known), "a question", vault, known)
    if isinstance(vault, EmbeddedBackend):
        fork_while(using(vault.service.store.connections), "a connection", vault, known)
    print(json.dumps(names))


def use(vault: BaseVault, known: list[str]) -> None:
    """All that a vault does, with keys that are cached and without."""
    assert vaults["default"] is vault
    for purge in (False, True):
        if purge:
            vaults.purge()
        assert len(vault.decrypt_data_keys(dict.fromkeys(known))) == len(known)
        for encrypted_keys in known:
            vault.decrypt_data_key(encrypted_keys)
    vault.purge()
    asyncio.run(opened(vault, known))
    vault.purge()
    for context in CONTEXTS:
        key = vault.create_data_key(context)
        vault.rekey_data_key(key.encrypted_keys, CONTEXTS[0])
    if isinstance(vault, EmbeddedBackend):
        objects = StoredObjects(vault.service)
        name = f"of {os.getpid()} {os.urandom(8).hex()}"
        stored = objects.create(name, "value", CONTEXTS[0])
        assert objects.read(stored.id).value == objects.read_by_name(name).value == "value"
        objects.update(stored.id, "another")
        objects.delete(stored.id)
        vault.service.store.events.page("default")


async def opened(vault: BaseVault, known: list[str]) -> None:
    assert len(await vault.adecrypt_data_keys(dict.fromkeys(known))) == len(known)


# Looking for locks.


def found(vault: BaseVault) -> Iterator[tuple[str, Any]]:
    """Each lock with its name, but those that a fork waits for."""
    seen: set[int] = set()
    waiting: deque[tuple[str, Any]] = deque([("vaults", vaults), ("vault", vault)])
    while waiting:
        name, thing = waiting.popleft()
        if id(thing) in seen or isinstance(thing, Connections):
            continue
        seen.add(id(thing))
        if isinstance(thing, threading.Condition):
            yield name, thing._lock  # type: ignore[attr-defined]
        elif isinstance(thing, LOCKS):
            yield name, thing
        else:
            waiting.extend((f"{name}{place}", part) for place, part in parts(thing))


def parts(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, Mapping):
        yield from ((f"[{number}]", part) for number, part in enumerate(list(thing.values())))
    elif isinstance(thing, list | tuple | set | frozenset | deque):
        yield from ((f"[{number}]", part) for number, part in enumerate(thing))
    elif isinstance(thing, partial):
        yield from (("()", part) for part in [thing.func, *thing.args, *thing.keywords.values()])
    elif isinstance(thing, MethodType):
        yield "()", thing.__self__
    elif isinstance(thing, FunctionType):
        yield from (("()", cell.cell_contents) for cell in thing.__closure__ or ())
    elif type(thing).__module__.startswith("vault_fields"):
        slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
        for name in [*getattr(thing, "__dict__", {}), *slots]:
            yield f".{name}", getattr(thing, name, None)


# What is under way in another thread when the process forks.


@contextmanager
def held(lock: Any) -> Iterator[None]:
    with _elsewhere(lambda ready, end: _hold(lock, ready, end)):
        yield


def _hold(lock: Any, ready: threading.Event, end: threading.Event) -> None:
    with lock:
        ready.set()
        end.wait()


@contextmanager
def asking(vault: BaseVault, known: list[str]) -> Iterator[None]:
    """The Vault is being asked, and everybody else waits for the answer."""
    vault.purge()

    def ask(ready: threading.Event, end: threading.Event) -> None:
        def fetch(names: list[str]) -> dict[str, Any]:
            ready.set()
            end.wait()
            return dict(vault._decrypt_many(names, Deadline(HANGS)))

        vault.cache.resolve(dict.fromkeys(known), fetch)

    with _elsewhere(ask):
        yield


@contextmanager
def using(connections: Connections) -> Iterator[None]:
    """A thread has a connection until the fork waits for it."""

    def work(ready: threading.Event, end: threading.Event) -> None:
        with connections.use():
            ready.set()
            while forks._lock.acquire(blocking=False):
                forks._lock.release()
                end.wait(0.001)

    with _elsewhere(work):
        yield


@contextmanager
def _elsewhere(work: Callable[[threading.Event, threading.Event], None]) -> Iterator[None]:
    ready, end = threading.Event(), threading.Event()
    thread = threading.Thread(target=work, args=(ready, end))
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        end.set()
        thread.join()


# Forking.


def fork_while(state: AbstractContextManager[None], name: str, vault: BaseVault, known: list[str]) -> None:
    with state:
        child = os.fork()
        if child == 0:
            _end_with(partial(_in_child, vault, known))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"a child that was forked while another thread was at {name} ended with {status}"
    use(vault, known)


def _end_with(work: Callable[[], None]) -> None:
    status = 1
    try:
        faulthandler.dump_traceback_later(HANGS, exit=True)
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - a child ends here, whatever came of it.
        traceback.print_exc()
    finally:
        os._exit(status)


def _in_child(vault: BaseVault, known: list[str]) -> None:
    inherited = _open_files()
    assert not [name for name in inherited.values() if "sqlite3" in name], "a connection of the parent"
    sockets = {inode for inode, name in inherited.items() if name.startswith("socket:")}
    with _watched() as used:
        use(vault, known)
        gc.collect()
    assert not used & sockets, "the child spoke on a connection of its parent"
    assert sockets <= set(_open_files()), "the child closed a connection of its parent"


def _open_files() -> dict[int, str]:
    """What is open, by inode."""
    names = {}
    for file in list(Path("/proc/self/fd").iterdir()):
        try:
            names[file.stat().st_ino] = str(file.readlink())
        except FileNotFoundError:  # That of the listing itself.
            continue
    return names


@contextmanager
def _watched() -> Iterator[set[int]]:
    """The inodes of the sockets on which something was sent."""
    used: set[int] = set()

    def watching(send: Callable[..., Any]) -> Callable[..., Any]:
        def watched(self: socket.socket, *args: Any) -> Any:
            used.add(os.fstat(self.fileno()).st_ino)
            return send(self, *args)

        return watched

    for name in ("send", "sendall"):
        setattr(socket.socket, name, watching(getattr(socket.socket, name)))
    yield used


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
