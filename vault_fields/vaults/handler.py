"""The configured vaults: ``vaults["alias"]`` over ``settings.VAULTS``."""

import inspect
import sys
import threading
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string

from vault_fields.backends.base import BaseVault
from vault_fields.exceptions import UnknownVault
from vault_fields.runtime.forks import follow_forks
from vault_fields.runtime.frames import forgetful, forgetful_class
from vault_fields.text.naming import names

__all__ = ["DEFAULT_VAULT_ALIAS", "VaultHandler", "vaults"]

DEFAULT_VAULT_ALIAS = "default"

NOT_SET = """VAULTS: not set. To keep the keys in the embedded Vault, paste this into the settings module:

    VAULTS = {
        "default": {
            "BACKEND": "vault_fields.backends.local.LocalVault",
            "OPTIONS": {"path": BASE_DIR / "vault.sqlite3"},
        },
    }
"""


@forgetful_class
class VaultHandler:
    """
    Build each vault of ``settings.VAULTS`` once per process, on first use.

    Unlike ``caches`` and ``connections``, which make one backend per thread and per async task, vaults are shared by
    all threads: their clients are thread-safe, and a key cache that every request starts empty would turn each read
    into a call to the Vault.

    A setting that cannot be used raises ``ImproperlyConfigured``. Look a vault up where it is used and do not keep
    it: when tests override ``VAULTS``, the alias stands for another one. In a forked child the vaults of the parent go
    on, with locks and connections of their own.
    """

    def __init__(self) -> None:
        # Reentrant, because a vault may be built on top of another one.
        self._lock = threading.RLock()
        self._vaults: dict[str, BaseVault] = {}
        self._writers: dict[str, str] = {}
        follow_forks(self)

    def __getitem__(self, alias: str) -> BaseVault:
        vault = self._vaults.get(alias)
        return vault if vault is not None else self._built(alias)

    @forgetful
    def _built(self, alias: str) -> BaseVault:
        # An import under the lock could meet another thread that holds the import lock and wants this one.
        backend, options = _entry(alias)
        with self._lock:
            if alias not in self._vaults:
                self._vaults[alias] = _build(alias, backend, options)
            return self._vaults[alias]

    @forgetful
    def __iter__(self) -> Iterator[str]:
        return iter(_setting())

    @forgetful
    def __contains__(self, alias: object) -> bool:
        return alias in _setting()

    @forgetful
    def __len__(self) -> int:
        return len(_setting())

    def writer(self, alias: str) -> str:
        """
        Return the alias of the vault that makes new data keys where ``alias`` is asked for: its last ``SUCCESSOR``.

        Values stored under ``alias`` are still opened by that vault itself.
        """
        found = self._writers.get(alias)
        if found is None:
            found = self._writers[alias] = _last_successor(alias)
        return found

    def opener(self, alias: str) -> BaseVault:
        """
        Return the vault that opens values stored under ``alias``. Rows name it, so it may be any text.

        Raises ``UnknownVault`` if there is none, and ``ImproperlyConfigured`` if there is one whose settings are
        wrong.
        """
        try:
            return self[alias]
        except ImproperlyConfigured:
            if alias in self and not self.is_left(alias):
                raise
        fault = (
            "was left for its SUCCESSOR. To open what it encrypted, give it its BACKEND again"
            if alias in self
            else "settings.VAULTS does not name"
        )
        raise UnknownVault(f"its keys are in the vault {alias!r}, which {fault}.")

    def is_left(self, alias: str) -> bool:
        """Whether only its ``SUCCESSOR`` is configured: values it encrypted cannot be opened."""
        return _is_left(_checked_entry(alias))

    def purge(self, context: Mapping[str, str] | None = None) -> int:
        """
        Purge every vault of this process, as ``BaseVault.purge`` does; one that was not built yet has nothing cached.
        """
        with self._lock:
            built = list(self._vaults.values())
        return sum(vault.purge(context) for vault in built)

    def reset(self) -> None:
        """Close the vaults that were built; the next use builds them anew."""
        with self._lock:
            built, self._vaults = self._vaults, {}
            self._writers = {}
        for vault in built.values():
            vault.close()

    def reset_in_child(self) -> None:
        """Keep the vaults that the parent built: each resets its own locks and connections."""
        self._lock = threading.RLock()


vaults = VaultHandler()


@receiver(setting_changed)
def _forget_vaults(*, setting: str, **kwargs: Any) -> None:
    if setting == "VAULTS":
        vaults.reset()


def _setting() -> Mapping[str, Any]:
    configured = getattr(settings, "VAULTS", None)
    if configured is None:
        raise ImproperlyConfigured(NOT_SET)
    if not isinstance(configured, Mapping):
        raise ImproperlyConfigured(f"VAULTS: must be a dict of aliases to vaults, not {_kind(configured)}.")
    return configured


def _last_successor(alias: str) -> str:
    passed = [alias]
    while "SUCCESSOR" in (entry := _checked_entry(passed[-1])):
        successor = entry["SUCCESSOR"]
        if not isinstance(successor, str) or successor not in _setting():
            raise _misconfigured(passed[-1], "SUCCESSOR must be the alias of another vault in VAULTS.")
        if successor in passed:
            raise _misconfigured(passed[-1], "SUCCESSOR leads back to a vault that it comes after.")
        passed.append(successor)
    return passed[-1]


def _entry(alias: str) -> tuple[type[BaseVault], dict[str, Any]]:
    entry = _checked_entry(alias)
    if _is_left(entry):
        raise _misconfigured(
            alias, f"this vault was left for {_shown(entry['SUCCESSOR'])}. To open what it encrypted, give its BACKEND."
        )
    options = entry.get("OPTIONS", {})
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise _misconfigured(alias, "OPTIONS must be a dict of option names to values.")
    return _backend(alias, entry.get("BACKEND")), dict(options)


def _is_left(entry: Mapping[str, Any]) -> bool:
    return "SUCCESSOR" in entry and not entry.keys() & {"BACKEND", "OPTIONS"}


def _checked_entry(alias: str) -> Mapping[str, Any]:
    configured = _setting()
    if alias not in configured:
        known = ", ".join(repr(name) for name in configured) or "no vault at all"
        raise _misconfigured(alias, f"there is no such vault. Add it to VAULTS, which has {known}.")
    entry = configured[alias]
    if not isinstance(entry, Mapping):
        # The value is not shown: it may be a URL with a key in it.
        hint = " Write vault_config(…) around a URL." if isinstance(entry, str) else ""
        raise _misconfigured(alias, f"must be a dict with BACKEND and OPTIONS, not {_kind(entry)}.{hint}")
    if unknown := set(entry) - {"BACKEND", "OPTIONS", "SUCCESSOR"}:
        known = "Only BACKEND, OPTIONS and SUCCESSOR stand here"
        raise _misconfigured(alias, f"unknown keys: {names(unknown)}. {known}; the rest is OPTIONS.")
    return entry


def _backend(alias: str, path: object) -> type[BaseVault]:
    if not isinstance(path, str) or not path:
        raise _misconfigured(alias, "BACKEND must be the dotted path of a vault class, as a string.")
    if not _is_package(path.partition(".")[0]):
        raise _misconfigured(
            alias,
            "BACKEND must be the dotted path of a vault class, and begins with the name of no package here. It is not "
            "shown: it may be a key.",
        )
    backend, fault = None, None
    try:
        backend = import_string(path)
    except ImportError as error:
        fault = error
    if fault is not None:
        if _is_of_others(fault, path):
            raise _misconfigured(alias, f"BACKEND cannot be imported: {fault}") from fault
        # Raised outside of the handler: the error of Python repeats the path.
        raise _misconfigured(alias, f"BACKEND cannot be imported: {_missing_in(path)}")
    if not (isinstance(backend, type) and issubclass(backend, BaseVault)) or inspect.isabstract(backend):
        raise _misconfigured(alias, f"BACKEND {path!r} is not a vault: it must be a concrete subclass of BaseVault.")
    return backend


def _build(alias: str, backend: type[BaseVault], options: dict[str, Any]) -> BaseVault:
    # Binding first tells a wrong option from a TypeError inside the constructor, which is a bug and must show as one.
    fault = None
    try:
        inspect.signature(backend).bind(alias, **options)
    except TypeError as error:
        fault = str(error)
        # Python's message repeats the first name that does not fit.
        parameters = inspect.signature(backend).parameters
        takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        if not takes_any and (unknown := options.keys() - parameters.keys()):
            fault = f"got unexpected arguments: {names(unknown)}"
    if fault is not None:
        raise _misconfigured(alias, f"OPTIONS do not fit {backend.__name__}: {fault}.")
    return backend(alias, **options)


def _is_package(name: str) -> bool:
    return name in sys.modules or (name.isidentifier() and find_spec(name) is not None)


def _is_of_others(fault: ImportError, path: str) -> bool:
    """Whether the module exists, and one of its own imports does not."""
    is_missing_itself = isinstance(fault, ModuleNotFoundError) and f"{path}.".startswith(f"{fault.name}.")
    return fault.name is not None and not is_missing_itself


def _missing_in(path: str) -> str:
    there = [path[:end] for end, letter in enumerate(path) if letter == "." and path[:end] in sys.modules]
    if not there:
        return "it is no dotted path."
    return f"{there[-1]} has nothing of the name that follows. It is not shown: it may be a key."


def _shown(successor: object) -> str:
    return repr(successor) if isinstance(successor, str) and successor in _setting() else "its SUCCESSOR"


def _misconfigured(alias: str, reason: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"VAULTS[{alias!r}]: {reason}")


def _kind(value: object) -> str:
    return type(value).__name__
