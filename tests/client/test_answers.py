"""Answers that are not what was asked for, and redirects, which are never followed."""

import json

import pytest

from tests.client.calls import CREATE, both, failure, post_sync, quick
from tests.faulty_server import DATA_KEY, Reply, faulty_server
from vault_fields.client.failures import MAX_ANSWER_BYTES
from vault_fields.exceptions import VaultRefused


@both
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(post, server, status) -> None:
    with faulty_server() as elsewhere:
        server.usual = Reply(status=status, headers={"Location": f"{elsewhere.url}/vault/v1/keys/data-key"})
        error = failure(post, server)
        assert (type(error), error.status) == (VaultRefused, status)
        assert "redirect" in str(error)
        assert elsewhere.opened == 0


NOT_JSON = {
    "cut short": b'{"id": "a"',
    "not JSON": b"<html>" + DATA_KEY.encode(),
    "empty": b"",
    "a list": json.dumps([DATA_KEY]).encode(),
    "a string": json.dumps(DATA_KEY).encode(),
    "not UTF-8": b'{"id": "\xff"}',
    "deeper than the stack": b"[" * 200_000,
    "a number without end": b"1" * 10_000,
}


@both
@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON)
def test_an_answer_that_is_no_json_object_is_refused(post, server, raw) -> None:
    server.usual = Reply(raw=raw)
    error = failure(post, server)
    assert type(error) is VaultRefused
    assert "something that is not a JSON object" in str(error)
    assert len(server.seen) == 1


@both
@pytest.mark.parametrize("kind", ["text/html", "text/plain", "", "application/jsonx"])
def test_an_answer_of_another_media_type_is_refused(post, server, kind) -> None:
    server.usual = Reply(headers={"Content-Type": kind})
    assert "something that is not JSON" in str(failure(post, server))


def test_a_media_type_may_have_parameters(server) -> None:
    server.usual = Reply(headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert post_sync(server, quick(), CREATE).content["data_key"] == DATA_KEY


@both
def test_an_answer_is_not_read_beyond_its_bound(post, server) -> None:
    pieces = [b" " * 65536] * 400
    server.usual = Reply(pieces=pieces)
    error = failure(post, server)
    assert type(error) is VaultRefused
    assert "more than 256 KiB" in str(error)


def test_an_answer_of_exactly_the_bound_is_read(server) -> None:
    body = json.dumps({"id": "x"}).encode()
    server.will(Reply(raw=body.ljust(MAX_ANSWER_BYTES)), Reply(raw=body.ljust(MAX_ANSWER_BYTES + 1)))
    assert post_sync(server, quick(), CREATE).content == {"id": "x"}
    assert "more than 256 KiB" in str(failure(post_sync, server))


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("req_01HZX-a.b:c", "req_01HZX-a.b:c"),
        ("x" * 128, "x" * 128),
        ("x" * 129, None),
        ("has space", None),
        ("<script>", None),
        ("", None),
    ],
)
def test_a_request_id_is_believed_only_if_it_looks_like_one(server, header, shown) -> None:
    server.usual = Reply(status=400, headers={"X-Request-ID": header})
    assert failure(post_sync, server).request_id == shown
