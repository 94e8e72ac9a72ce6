"""What is asked of a transit engine."""

from vault_fields.openbao.messages import Payload, Request


def test_what_is_sent_does_not_show() -> None:
    payload = Payload(plaintext="c2VjcmV0")
    assert "c2VjcmV0" not in repr(payload)
    assert "c2VjcmV0" not in repr(Request("encrypt", "key", payload))
