"""How long the calls of a process to its vault take."""

import time
from collections.abc import Callable
from typing import Any

from vault_fields.vaults import vaults

__all__ = ["Calls"]


class Calls:
    """Watches this process's vault, whose every operation has one deadline."""

    def __init__(self) -> None:
        self.longest = 0.0
        vault: Any = vaults["default"]
        for name in ("create_data_key", "decrypt_data_keys", "rekey_data_key"):
            setattr(vault, name, self._timed(getattr(vault, name)))

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **more: Any) -> Any:
            began = time.monotonic()
            try:
                return call(*arguments, **more)
            finally:
                self.longest = max(self.longest, time.monotonic() - began)

        return timed
