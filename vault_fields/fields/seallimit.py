"""
Fresh data keys for rows that are written again, so that no data key seals without bound.

AES-GCM with random nonces allows 2^32 seals under one key (NIST SP 800-38D, section 8.3). A key is made for a bounded
number of rows, but each of them may be written again for years, by any process: nobody counts. So chance decides at
every seal under a key that a row has already, and now and then the row leaves the key. See
``docs/decisions/0103-seals-of-a-data-key-are-bounded-by-chance.md`` for the bound.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ONE_IN", "is_due", "suspended"]

ONE_IN = 10_000

_draw = secrets.randbelow


def is_due(seals: int, companions: int) -> bool:
    """
    Whether a row's companion gets a fresh data key, now that this many values are about to be sealed under its old
    one.

    The more companions rows of its model have, each of which leaves the key by itself, the sooner each one does.
    """
    return _draw(ONE_IN) < seals * companions


@contextmanager
def suspended() -> Iterator[None]:
    """Give no row a fresh data key by chance within the block, in any thread: for tests that count calls."""
    from unittest import mock  # A fifth of the time that it takes to import the fields.

    with mock.patch(f"{__name__}._draw", lambda one_in: one_in):
        yield
