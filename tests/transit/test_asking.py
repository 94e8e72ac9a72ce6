"""What is asked of a transit engine."""

from vault_fields.transit.asking import Ask, Payload


def test_what_is_sent_does_not_show() -> None:
    payload = Payload(plaintext="c2VjcmV0")
    assert "c2VjcmV0" not in repr(payload)
    assert "c2VjcmV0" not in repr(Ask("encrypt", "key", payload))
