"""The base of every reader: stored content in, values out, and one typed error for each that does not open."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from vault_fields.exceptions import DecryptionError, KeyUnavailable, VaultError, VaultRefused
from vault_fields.fields.opening import reworded
from vault_fields.runtime.frames import forget, forgetful

__all__ = ["Reader"]


class Reader(ABC):
    """
    A reader of the columns of one library. Subclass it, with ``@deconstructible``, for one that is not here.

    It holds the names of settings and functions and never a key, because migrations write it out.
    """

    @abstractmethod
    def opener(self) -> Callable[[bytes], Any]:
        """
        Return a function that opens the content of one column. Called once for each batch; derive keys here.

        That function returns bytes for a text in UTF-8, or else the value itself. Whatever it raises is the error of
        that row.
        """

    @forgetful
    def read(self, stored: Sequence[Any], using: str) -> list[Any]:
        """Return the value of each, or the error why it does not open: ``DecryptionError`` or ``VaultError``."""
        opener = self.opener()
        return [self._read(opener, each) for each in stored]

    def _read(self, opener: Callable[[bytes], Any], stored: Any) -> Any:
        try:
            return opener(content(stored))
        except (DecryptionError, VaultRefused, KeyUnavailable) as error:
            # A copy: the original holds the frames of what it was about.
            return reworded(error, error.args[0])
        except VaultError:
            raise
        except Exception as error:  # noqa: BLE001 - an opener fails in the ways of its library and of its format.
            forget(error)
            return DecryptionError(
                f"{type(self).__name__} does not open the old column ({type(error).__name__}): its keys are others, or "
                "the content was altered or never encrypted."
            )


def content(stored: Any) -> bytes:
    """Return the content of a column of text or bytes. Raises ``DecryptionError`` for any other."""
    if isinstance(stored, str):
        return stored.encode()
    if isinstance(stored, (bytes, bytearray, memoryview)):
        return bytes(stored)
    raise DecryptionError("the old column holds neither text nor bytes.")
