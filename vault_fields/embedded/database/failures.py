"""Errors about a file of the embedded Vault, in words that name the file and what to do about it."""

import errno
import sqlite3
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from vault_fields.embedded.database.columns import Malformed
from vault_fields.exceptions import VaultRefused, VaultUnavailable

__all__ = ["damaged", "from_os", "from_sqlite", "raise_as_ours"]

_READ_ONLY = "is read-only for this process. Give it write access to the file and to its directory."
_FULL = "is on a full disk; nothing was written. Free some space."
_DAMAGED = "is damaged. Restore it from a backup: move its files away, and run `manage.py vault_keystore restore`."
_NO_DIRECTORY = "cannot be created: its directory does not exist. Create it, or correct the path."

_SQLITE = {
    sqlite3.SQLITE_BUSY: "is locked by another process for longer than the timeout. Find out which, and try again.",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened. It must be a file that this process can read and write, in a directory "
    "where it can create files.",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: "failed on reading or writing. Look at the disk and at the system's log.",
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
}
_OS = {
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
    errno.EROFS: _READ_ONLY,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
}
# These mean that the path is wrong: waiting does not help.
_OS_SETTING = {
    errno.ENOENT: _NO_DIRECTORY,
    errno.ENOTDIR: _NO_DIRECTORY,
    errno.EISDIR: "is a directory. The path must name a file.",
}


def damaged(location: str, problem: str, kind: type[VaultUnavailable] = VaultUnavailable) -> VaultUnavailable:
    """Return the error about a keystore in which one thing contradicts another, whoever changed it."""
    return kind(f"The keystore {location} is damaged or was tampered with: {problem}. Restore it from a backup.")


def raise_as_ours(error: BaseException, path: Path) -> None:
    """Raise the error of this package for an error of reading or writing a keystore; return for all others."""
    if isinstance(error, sqlite3.Error):
        raise from_sqlite(error, path) from error
    # This package itself raises FileExistsError, about a backup.
    if isinstance(error, OSError) and not isinstance(error, FileExistsError):
        raise from_os(error, path) from error
    if isinstance(error, (UnicodeDecodeError, Malformed)):
        # SQLite quotes the file in its messages, and the sqlite3 module cannot read the quoted text.
        raise VaultUnavailable(f"The keystore {path} {_DAMAGED}") from None
    if isinstance(error, (OverflowError, UnicodeEncodeError)):
        raise VaultRefused(
            "A text with a lone surrogate, and a number of more than 64 bits, stand in no keystore."
        ) from None


def from_sqlite(error: sqlite3.Error, path: Path) -> Exception:
    """Return the error of this package for one of SQLite's."""
    # Errors of the sqlite3 module itself carry no code. Extended codes hold the primary code in their low byte.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return ImproperlyConfigured(f"{path} is not a keystore. Correct the path, or move that file away.")
    return VaultUnavailable(f"The keystore {path} {_SQLITE.get(code, f'failed: {error}.')}")


def from_os(error: OSError, path: Path) -> Exception:
    """Return the error of this package for one of the operating system's."""
    if error.errno in _OS_SETTING:
        return ImproperlyConfigured(f"{path} {_OS_SETTING[error.errno]}")
    return VaultUnavailable(f"{path} {_OS.get(error.errno or 0, f'failed: {error.strerror}.')}")
