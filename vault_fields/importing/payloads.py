"""The reader of payloads that WorkOS's SDKs wrote."""

from collections.abc import Callable
from typing import Any

from django.utils.deconstruct import deconstructible

from vault_fields.importing.reader import Reader
from vault_fields.interop import Layout, import_value
from vault_fields.runtime.frames import forgetful

__all__ = ["WorkosPayload"]


@deconstructible(path="vault_fields.importing.WorkosPayload")
class WorkosPayload(Reader):
    """
    Payloads of ``vault.encrypt``. Costs a call to the Vault for each row, and more without its ``layout``.

    See ``vault_fields.interop.import_value`` for what the options mean.
    """

    def __init__(self, vault: str = "default", associated_data: str = "", layout: Layout | None = None) -> None:
        self.vault = vault
        self.associated_data = associated_data
        self.layout = layout

    @forgetful
    def opener(self) -> Callable[[bytes], Any]:
        def opened(stored: bytes) -> bytes:
            options: Any = {"vault": self.vault, "associated_data": self.associated_data, "layout": self.layout}
            return import_value(stored.decode(), **options).encode()

        return opened
