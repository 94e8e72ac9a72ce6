"""A key that was withdrawn, told apart from every other refusal."""

import json

import pytest

from tests.client.calls import both, failure
from tests.faulty_server import Reply
from vault_fields.errorcodes import KEY_AWAY_BODY, KEY_AWAY_STATUS, REVOKED_BODY, REVOKED_STATUS
from vault_fields.exceptions import KeyRevoked, KeyUnavailable, VaultRefused, VaultUnavailable


@both
def test_status_and_code_together_say_that_a_key_was_revoked(post, server) -> None:
    server.usual = Reply(REVOKED_STATUS, content=dict(REVOKED_BODY))
    error = failure(post, server)
    assert (type(error), error.status, error.request_id) == (KeyRevoked, REVOKED_STATUS, "req_01")
    assert "revoked by its owner" in str(error)
    assert len(server.seen) == 1


@both
@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, content=dict(REVOKED_BODY)),
        Reply(403, content={"message": "Forbidden", "code": "forbidden"}),
        Reply(403, content={"code": ["key_revoked"]}),
        Reply(403, content=["key_revoked"]),
        Reply(403, raw=b""),
        Reply(403, raw=b"\xff"),
        Reply(403, raw=b"[" * 200_000),
        Reply(403, raw=json.dumps(REVOKED_BODY).encode()[:-1]),
    ],
)
def test_one_without_the_other_does_not(post, server, reply) -> None:
    server.usual = reply
    assert type(failure(post, server)) is VaultRefused


@both
def test_server_that_fails_is_unavailable_whatever_its_body_says(post, server) -> None:
    server.usual = Reply(500, content=dict(REVOKED_BODY))
    assert type(failure(post, server)) is VaultUnavailable


@both
def test_status_and_code_together_say_that_a_key_does_not_answer(post, server) -> None:
    """Its server has asked as often as is of use."""
    server.usual = Reply(KEY_AWAY_STATUS, content=dict(KEY_AWAY_BODY))
    error = failure(post, server)
    assert (type(error), error.status, error.request_id) == (KeyUnavailable, KEY_AWAY_STATUS, "req_01")
    assert "does not answer (HTTP 503). Host: 127.0.0.1" in str(error)
    assert len(server.seen) == 1


@both
@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, content=dict(KEY_AWAY_BODY)),
        Reply(503, content={"error": "no"}),
        Reply(503, content=["key_unavailable"]),
    ],
)
def test_without_both_it_is_the_vault_that_is_away(post, server, reply) -> None:
    server.usual = reply
    assert type(failure(post, server)) is VaultUnavailable
