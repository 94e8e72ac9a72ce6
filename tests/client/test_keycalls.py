"""What is a data key, and everything that is not."""

import base64
from typing import Any

import pytest

from tests.client.calls import CREATE, DECRYPT, REKEY, TENANT, assert_no_secret
from tests.faulty_server import BLOB, DATA_KEY, PLAINTEXT
from vault_fields.client import Answer, KeyCall
from vault_fields.exceptions import VaultRefused
from vault_fields.keys import DataKey


def key_from(call: KeyCall, **changes: Any) -> DataKey:
    content = {"id": "dek_1", "data_key": DATA_KEY, "encrypted_keys": BLOB, "context": {"organization_id": TENANT}}
    return call.data_key(Answer({**content, **changes}, "req_9"), alias="eu")


@pytest.mark.parametrize("call", [CREATE, REKEY, DECRYPT], ids=["create", "rekey", "decrypt"])
def test_a_right_answer_is_a_data_key(call) -> None:
    key = key_from(call)
    assert (key.id, key.plaintext, key.encrypted_keys) == ("dek_1", PLAINTEXT, BLOB)


def test_decrypt_keeps_the_encrypted_keys_that_were_asked_about() -> None:
    assert key_from(DECRYPT, encrypted_keys="b3RoZXI=", context=None).encrypted_keys == BLOB


WRONG = {
    "no id": {"id": None},
    "empty id": {"id": ""},
    "id too long": {"id": "x" * 129},
    "id with a line feed": {"id": "dek_1\n"},
    "id that is a number": {"id": 7},
    "no key": {"data_key": None},
    "key that is a list": {"data_key": [DATA_KEY]},
    "key of 31 bytes": {"data_key": base64.b64encode(bytes(31)).decode()},
    "key of 33 bytes": {"data_key": base64.b64encode(bytes(33)).decode()},
    "key without padding": {"data_key": DATA_KEY.rstrip("=")},
    "key with a line feed": {"data_key": DATA_KEY + "\n"},
    "key in url-safe base64": {"data_key": base64.urlsafe_b64encode(b"\xff" * 32).decode()},
    "key in hex": {"data_key": PLAINTEXT.hex()},
    "key that is not ASCII": {"data_key": "é" + DATA_KEY[1:]},
}
WRONG_WRAPPING = {
    "no encrypted keys": {"encrypted_keys": None},
    "empty encrypted keys": {"encrypted_keys": ""},
    "encrypted keys that are not base64": {"encrypted_keys": "not base64!"},
    "encrypted keys beyond their bound": {"encrypted_keys": "A" * (64 * 1024 + 4)},
    "no context": {"context": None},
    "another tenant": {"context": {"organization_id": "org_other"}},
    "one item more": {"context": {"organization_id": TENANT, "purpose": "care"}},
    "no item": {"context": {}},
    "context that is a list": {"context": [["organization_id", TENANT]]},
}


@pytest.mark.parametrize("call", [CREATE, REKEY, DECRYPT], ids=["create", "rekey", "decrypt"])
@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_what_is_not_a_data_key_is_refused(call, changes) -> None:
    refused(call, changes)


@pytest.mark.parametrize("call", [CREATE, REKEY], ids=["create", "rekey"])
@pytest.mark.parametrize("changes", WRONG_WRAPPING.values(), ids=WRONG_WRAPPING)
def test_a_key_that_is_wrapped_wrongly_or_for_another_context_is_refused(call, changes) -> None:
    refused(call, changes)


def refused(call: KeyCall, changes: dict[str, Any]) -> None:
    with pytest.raises(VaultRefused, match="answered something that is not a data key: ") as caught:
        key_from(call, **changes)
    error = caught.value
    assert (error.alias, error.status, error.request_id) == ("eu", 200, "req_9")
    assert error.__context__ is None
    assert_no_secret(str(error))
