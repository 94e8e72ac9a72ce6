"""The exception tree, and that every module says what it exports."""

import copy
import importlib
import pickle
import pkgutil

import pytest

import vault_fields
from vault_fields import exceptions
from vault_fields.embedded.customer.provider import ProviderThrottled
from vault_fields.exceptions import (
    DecryptionError,
    EnvelopeError,
    KeyContextError,
    KeyContextMismatch,
    KeyRevoked,
    KeyUnavailable,
    PlaintextFound,
    ValueRefused,
    VaultError,
    VaultFieldsError,
    VaultRefused,
    VaultThrottled,
    VaultUnavailable,
)
from vault_fields.runtime.deadline import KeySilent

VAULT_ERRORS = [VaultError, VaultUnavailable, VaultThrottled, VaultRefused, KeyRevoked, KeyUnavailable]
VAULT_ERRORS += [KeySilent, ProviderThrottled]


def test_every_exception_has_the_one_base() -> None:
    for name in exceptions.__all__:
        assert issubclass(getattr(exceptions, name), VaultFieldsError)


def test_the_tree_answers_what_a_caller_asks() -> None:
    assert issubclass(KeyContextMismatch, DecryptionError)
    assert issubclass(EnvelopeError, DecryptionError)
    assert issubclass(PlaintextFound, DecryptionError)
    assert issubclass(VaultThrottled, VaultUnavailable)
    assert issubclass(KeyUnavailable, VaultUnavailable)
    assert issubclass(KeySilent, KeyUnavailable)
    assert issubclass(ProviderThrottled, KeyUnavailable)
    assert issubclass(KeyRevoked, VaultRefused)
    assert not issubclass(VaultRefused, VaultUnavailable)
    assert not issubclass(DecryptionError, VaultError)


@pytest.mark.parametrize("error", [KeyContextError, ValueRefused])
def test_a_wrong_value_is_a_value_error_too(error) -> None:
    assert issubclass(error, ValueError)


@pytest.mark.parametrize("kind", VAULT_ERRORS)
@pytest.mark.parametrize("duplicate", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_vault_errors_keep_their_attributes_in_a_pickle(kind, duplicate) -> None:
    """Task queues pickle exceptions."""
    error = duplicate(kind("no", alias="eu", status=503, request_id="req_1", retry_after=1.5))
    assert type(error) is kind
    assert error.retry_after == 1.5
    assert (error.args, error.alias, error.status, error.request_id) == (("no",), "eu", 503, "req_1")
    assert str(error) == "VAULTS['eu']: no (request req_1)"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_vault_errors_survive_every_pickle_protocol(protocol) -> None:
    assert pickle.loads(pickle.dumps(VaultRefused("no", status=403), protocol)).status == 403


def test_the_text_has_only_what_is_known() -> None:
    assert str(VaultError("no")) == "no"
    assert str(VaultError("no", alias="a")) == "VAULTS['a']: no"
    assert str(VaultError("no", request_id="r")) == "no (request r)"


def modules() -> list[str]:
    return [module.name for module in pkgutil.walk_packages(vault_fields.__path__, "vault_fields.")]


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in modules()
        if name.startswith(
            ("vault_fields.client", "vault_fields.vaults", "vault_fields.exceptions", "vault_fields.key")
        )
    ],
)
def test_all_is_sorted_and_complete(name) -> None:
    module = importlib.import_module(name)
    defined = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and isinstance(value, type | type(modules)) and value.__module__ == name
    }
    exported = set(module.__all__)
    assert len(exported) == len(module.__all__)
    assert list(module.__all__) == sorted(
        module.__all__, key=lambda key: (not key.isupper(), not key[0].isupper(), key)
    )
    assert defined <= exported, f"{name}.__all__ lacks {sorted(defined - exported)}"
    assert all(hasattr(module, key) for key in exported)
