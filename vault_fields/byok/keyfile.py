"""A customer key in a file on this machine, such as a secret that is mounted there."""

import errno
import os
import stat
from collections.abc import Mapping

from vault_fields.byok.settings import associated_data, checked
from vault_fields.embedded.customer.provider import Binding, KeyProvider
from vault_fields.embedded.xaes import KEY_BYTES, WrappingKey
from vault_fields.exceptions import KeyRevoked, VaultRefused, VaultUnavailable
from vault_fields.runtime.frames import forgetful_class

__all__ = ["KeyFile"]

# Removing the file, or the right to read it, withdraws the key.
_WITHDRAWN = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM}


@forgetful_class
class KeyFile(KeyProvider):
    """
    A key of 32 bytes in a file that only its owner may read. Setting: ``path``, absolute.

    The file is read for every operation: a key that is taken away is withdrawn at once.
    """

    name = "LOCAL_FILE"

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._path = checked(settings, required=["path"])["path"]
        if not os.path.isabs(self._path):  # noqa: PTH117 - it stays the text that was configured.
            raise ValueError("path must be absolute.")

    def __repr__(self) -> str:
        return f"<KeyFile {self._path}>"

    def wrap(self, sealed: bytes, binding: Binding, *, timeout: float) -> bytes:
        return self._key().wrap(sealed, associated_data(binding))

    def unwrap(self, wrapped: bytes, binding: Binding, *, timeout: float) -> bytes:
        return self._key().unwrap(wrapped, associated_data(binding))

    def _key(self) -> WrappingKey:
        try:
            # Not blocking: opening a pipe would wait for its writer.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
            try:
                material = self._read(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in _WITHDRAWN:
                raise KeyRevoked(f"{self._path} is gone or may not be read ({error.strerror}).") from error
            raise VaultUnavailable(f"{self._path} cannot be read ({error.strerror}).") from error
        if len(material) != KEY_BYTES:
            raise VaultRefused(f"{self._path} must hold exactly {KEY_BYTES} bytes.")
        if len(set(material)) == 1:
            raise VaultRefused(f"{self._path} holds one byte repeated, which anybody can guess, and no random key.")
        return WrappingKey(material)

    def _read(self, descriptor: int) -> bytes:
        # Checked on the open file: another file could be put in the place of a path in between.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise VaultRefused(f"{self._path} is not a file.")
        if status.st_mode & 0o077:
            raise VaultRefused(f"{self._path} can be read by others than its owner. Type chmod 0400 {self._path}.")
        return os.read(descriptor, KEY_BYTES + 1)
