"""Files that appear whole or not at all, readable by their owner only, and made once by any number of processes."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["drafted", "publish"]


def publish(path: Path, write: Callable[[Path], None]) -> bool:
    """
    Make ``path`` with the content that ``write`` puts into an empty file; return whether this call made it.

    Of several processes one wins, and the others leave its file alone. Durable on return. Raises ``OSError``.
    """
    with drafted(path) as draft:
        write(draft)
        _sync(draft)
        # A link appears at once and is refused where the name is taken; a rename would replace the winner's file.
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
    _sync(path.parent)
    return True


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """Yield an empty file beside ``path``, for its owner only, which is removed after the block. Raises ``OSError``."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield draft
    finally:
        draft.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
