"""Calls to a Vault over HTTP. Nothing outside this package knows that it is httpx."""

from vault_fields.client.budget import Budget
from vault_fields.client.endpoint import Endpoint, address_fault, is_loopback
from vault_fields.client.failures import Answer, host_in
from vault_fields.client.http import AsyncVaultClient, VaultClient
from vault_fields.client.keycalls import KeyCall
from vault_fields.client.retry import RetryPolicy

__all__ = [
    "Answer",
    "AsyncVaultClient",
    "Budget",
    "Endpoint",
    "KeyCall",
    "RetryPolicy",
    "VaultClient",
    "address_fault",
    "host_in",
    "is_loopback",
]
