"""The checks of a keystore's place in the file system, for ``check --deploy``. They open no file."""

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Warning as CheckWarning

from vault_fields.backends.local import LocalVault

__all__ = ["check_keystore"]

# A restart, or a periodic clean-up, empties these.
_PASSING = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/var/run")  # noqa: S108 - looked for, not written to.


def check_keystore(vault: LocalVault) -> Iterator[CheckMessage]:
    # Path.exists() raises if the directory may not be searched.
    if not vault.uses_development_key and not os.path.exists(vault.path):  # noqa: PTH110
        yield CheckWarning(
            f"VAULTS[{vault.alias!r}] has a root key, and its keystore {vault.path} is missing, or out of this user's "
            "sight: nothing can be encrypted or read.",
            hint="Mount its volume, correct the path, or put a backup back with `python manage.py vault_keystore "
            "restore FILE`. If there has never been one, type `python manage.py vault_keystore create`.",
            id="vault_fields.W012",
        )
    path = Path(os.path.realpath(vault.path))
    if faults := [*_exposed(path)]:
        yield CheckWarning(
            f"VAULTS[{vault.alias!r}] has a keystore that others can get at: {'; '.join(faults)}.",
            hint=f"Type `chmod 0600` and `chown` for the files and `chmod 0700 {path.parent}` for the directory, which "
            "belong to the user that the processes run as. Anyone who could write there may have replaced or removed "
            "keys: "
            "compare with a backup.",
            id="vault_fields.W021",
        )
    if vault.has_guessable_key:
        yield CheckWarning(
            f"VAULTS[{vault.alias!r}] has a root key with a pattern, which no random key has: it can be guessed.",
            hint="Type `python manage.py vault_root_key` for a fresh one, make it the root key, "
            "add the present one to the former root keys, and type `python manage.py vault_root_key rotate`.",
            id="vault_fields.W027",
        )
    found = [(root, reason) for root, reason in _replaced() if root in path.parents and not _is_mounted(path, root)]
    if found:
        root, reason = max(found, key=lambda each: len(each[0].parts))
        yield CheckWarning(
            f"VAULTS[{vault.alias!r}] has its keystore {vault.path} in {root}, {reason}. Without the keystore, "
            "everything that was encrypted is lost.",
            hint="Move it to a directory that outlives deployments, such as a volume, and name that as path.",
            id="vault_fields.W013",
        )


def _exposed(keystore: Path) -> Iterator[str]:
    """Yield each reason why other users can read or write the keystore, or a file beside it."""
    found = {path: status for path in (keystore, *_companions(keystore)) if (status := _status(path)) is not None}
    directory = _status(keystore.parent)
    if keystore not in found or directory is None:
        return  # Missing, or out of sight: W012 reports it.
    # Root runs the check in some containers, and then looks at files of the user that the processes run as.
    owners = {0, os.geteuid() or found[keystore].st_uid}
    for path, status in found.items():
        if mode := stat.S_IMODE(status.st_mode) & 0o077:
            verb = "written" if mode & 0o022 else "read"
            yield f"{path} can be {verb} by others than its owner (mode {stat.S_IMODE(status.st_mode):04o})"
    if directory.st_mode & 0o022:
        yield f"in {keystore.parent} others can put files in its place (mode {stat.S_IMODE(directory.st_mode):04o})"
    for path, status in {**found, keystore.parent: directory}.items():
        if status.st_uid not in owners:
            yield f"{path} belongs to another user (id {status.st_uid})"


def _companions(keystore: Path) -> Iterator[Path]:
    for suffix in ("-wal", "-shm", "-development-root-key"):
        yield keystore.with_name(keystore.name + suffix)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _replaced() -> Iterator[tuple[Path, str]]:
    """Yield directories that do not last, each with the reason."""
    for name in {tempfile.gettempdir(), *_PASSING}:
        yield Path(os.path.realpath(name)), "which is emptied without asking"
    roots = [app_config.path for app_config in apps.get_app_configs()]
    if isinstance(base := getattr(settings, "BASE_DIR", None), str | os.PathLike):
        roots.append(os.fspath(base))
    name = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    if file := getattr(sys.modules.get(name), "__file__", None):
        # The directory that holds the top-level package of the settings.
        is_package = Path(file).name == "__init__.py"
        roots.append(str(Path(file).resolve().parents[name.count(".") + is_package]))
    if sys.prefix != sys.base_prefix:
        roots.append(sys.prefix)
    for each in roots:
        root = Path(os.path.realpath(each))
        # If the project is in the root directory itself, everything would be part of it.
        if root != Path(root.anchor):
            yield root, "which a deployment replaces"


def _is_mounted(path: Path, root: Path) -> bool:
    """Whether a volume is mounted between the two, which neither a deployment nor a clean-up reaches."""
    return any(os.path.ismount(parent) for parent in path.parents if root in parent.parents)
