"""Providers of customer keys: AWS KMS, the transit engine of OpenBao, and files on this machine."""

from collections.abc import Callable, Mapping

from vault_fields.byok.aws import AwsKms
from vault_fields.byok.keyfile import KeyFile
from vault_fields.byok.openbao import OpenBaoTransit
from vault_fields.embedded.customer.provider import KeyProvider
from vault_fields.runtime.frames import forgetful

__all__ = ["KINDS", "build_provider"]

KINDS: Mapping[str, Callable[[Mapping[str, str]], KeyProvider]] = {
    "aws": AwsKms,
    "file": KeyFile,
    "openbao": OpenBaoTransit,
}


@forgetful
def build_provider(kind: str, settings: Mapping[str, str]) -> KeyProvider:
    """
    Return the provider of one of ``KINDS`` with its settings. No I/O.

    Raises ``ValueError`` for a kind or settings that do not exist, and ``ImproperlyConfigured`` for a library that is
    not installed.
    """
    if kind not in KINDS:
        raise ValueError(f"the provider must be one of {', '.join(KINDS)}.")
    return KINDS[kind](settings)
