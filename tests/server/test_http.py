"""The HTTP API over a real socket: every call, every status."""

import base64
import json
import logging
import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory

from vault_fields.backends.memory import InMemoryVault
from vault_fields.byok import KINDS
from vault_fields.byok.keyfile import KeyFile
from vault_fields.embedded.customer.provider import Binding, ProviderRefused
from vault_fields.exceptions import KeyUnavailable, VaultUnavailable
from vault_fields.keys import KeyContext
from vault_fields.server.api import PATIENCE
from vault_fields.server.bodies import MAX_BODY_BYTES, Rejected, read_body

from .conftest import KEY

CREATE, DECRYPT, REKEY = (f"/vault/v1/keys/{call}" for call in ("data-key", "decrypt", "rekey"))
ACME = {"organization_id": "acme"}


def refused(response: httpx.Response, status: int) -> str:
    """The one shape of a refusal; returns its text."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert list(content) == ["error"]
    return str(content["error"])


def test_created_key_decrypts_and_rekeys(client: httpx.Client) -> None:
    created = client.post(CREATE, json={"context": {"b": "2", "a": "1"}})
    assert created.status_code == 200
    key = created.json()
    assert set(key) == {"id", "data_key", "encrypted_keys", "context"}
    assert key["context"] == {"a": "1", "b": "2"}
    assert len(base64.b64decode(key["data_key"], validate=True)) == 32

    opened = client.post(DECRYPT, json={"keys": key["encrypted_keys"]})
    assert opened.status_code == 200
    assert opened.json() == {"id": key["id"], "data_key": key["data_key"]}

    moved = client.post(REKEY, json={"context": ACME, "encrypted_keys": key["encrypted_keys"]})
    assert moved.status_code == 200
    assert moved.json()["data_key"] == key["data_key"]
    assert moved.json()["context"] == ACME
    assert client.post(DECRYPT, json={"keys": moved.json()["encrypted_keys"]}).json() == opened.json()


def test_every_answer_has_a_request_id_and_is_not_stored(client: httpx.Client) -> None:
    answers = [client.post(CREATE, json={"context": ACME}), client.post(CREATE, json={}), client.get(CREATE)]
    answers.append(client.post(CREATE, headers={"Authorization": ""}))

    assert len({answer.headers["x-request-id"] for answer in answers}) == 4
    for answer in answers:
        assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer sk_wrong", "Basic sk_test_4f9Za81", "sk_test_4f9Za81", "Bearer sk_test_4f9Za81\xff"],
)
@pytest.mark.parametrize("path", [CREATE, DECRYPT, REKEY])
def test_unknown_or_missing_bearer_is_401(client: httpx.Client, path: str, authorization: str | None) -> None:
    del client.headers["Authorization"]
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}

    response = client.post(path, json={"context": ACME}, headers=headers)

    assert response.status_code == 401
    assert response.json() == {"message": "Unauthorized", "code": "unauthorized"}
    assert response.headers["www-authenticate"] == "Bearer"


def test_who_has_no_key_does_not_learn_the_methods(client: httpx.Client) -> None:
    assert client.get(CREATE, headers={"Authorization": "Bearer sk_wrong"}).status_code == 401


def test_every_configured_bearer_is_admitted(client: httpx.Client) -> None:
    for header in ("Bearer sk_another", "bearer sk_test_4f9Za81", "BEARER  sk_test_4f9Za81"):
        assert client.post(CREATE, json={"context": ACME}, headers={"Authorization": header}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_method_is_405(client: httpx.Client, method: str) -> None:
    response = client.request(method, CREATE)

    assert refused(response, 405) == "Only POST is allowed here."
    assert response.headers["allow"] == "POST"


def test_unknown_path_is_404(client: httpx.Client) -> None:
    for path in ("/", "/vault/v1/keys", "/vault/v1/keys/data-key/", "//vault/v1/keys/data-key", "/vault/v1/kv/"):
        assert refused(client.post(path, json={}), 404)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_other_content_type_is_415(client: httpx.Client, content_type: str) -> None:
    response = client.post(CREATE, content=b'{"context": {"a": "b"}}', headers={"Content-Type": content_type})

    assert "Content-Type: application/json" in refused(response, 415)


def test_charset_beside_the_content_type_does_not_matter(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}

    assert client.post(CREATE, content=b'{"context": {"a": "b"}}', headers=headers).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"context": {"a": "1", "a": "2"}}',
        b'{"context": {"a": "1"}, "context": {"a": "2"}}',
        b"[" * 100_000,
        b'{"a": ' * 30_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        json.dumps({"context": ACME}).encode("utf-16"),
    ],
)
def test_malformed_json_is_400(client: httpx.Client, body: bytes) -> None:
    for path in (CREATE, DECRYPT, REKEY):
        response = client.post(path, content=body, headers={"Content-Type": "application/json"})

        assert refused(response, 400) in {"The body is not valid JSON.", "The body must be a JSON object."}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (CREATE, {}, "context must be an object"),
        (CREATE, {"context": None}, "context must be an object"),
        (CREATE, {"context": "acme"}, "context must be an object"),
        (CREATE, {"context": [["a", "b"]]}, "context must be an object"),
        (DECRYPT, {}, "keys must be a string"),
        (DECRYPT, {"keys": None}, "keys must be a string"),
        (DECRYPT, {"keys": ["a"]}, "keys must be a string"),
        (DECRYPT, {"encrypted_keys": "a"}, "keys must be a string"),
        (REKEY, {"context": ACME}, "encrypted_keys must be a string"),
        (REKEY, {"context": ACME, "encrypted_keys": 1}, "encrypted_keys must be a string"),
        (REKEY, {"encrypted_keys": "a"}, "context must be an object"),
    ],
)
def test_missing_or_ill_typed_field_is_400(client: httpx.Client, path: str, body: object, field: str) -> None:
    assert field in refused(client.post(path, json=body), 400)


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"": "empty name"},
        {"n" * 121: "v"},
        {"n": "v" * 501},
        {str(number): "v" for number in range(11)},
        {"n": 1},
        {"n": None},
        {"n": ["v"]},
        {"n": "\ud800"},
    ],
)
def test_context_beyond_its_limits_is_422(client: httpx.Client, context: dict[str, Any]) -> None:
    def post(path: str, body: object) -> httpx.Response:
        # In ASCII: a lone surrogate can be sent in no other way.
        return client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})

    key = client.post(CREATE, json={"context": ACME}).json()

    assert "key context" in refused(post(CREATE, {"context": context}), 422)
    assert "key context" in refused(post(REKEY, {"context": context, "encrypted_keys": key["encrypted_keys"]}), 422)


def test_longest_context_fits(client: httpx.Client) -> None:
    """Every character is escaped as 12 bytes on the way there."""
    context = {f"{number}" + "🙂" * 119: "🙂" * 500 for number in range(10)}
    key = client.post(CREATE, json={"context": context}).json()

    body = json.dumps({"context": context, "encrypted_keys": key["encrypted_keys"]}, ensure_ascii=True)
    response = client.post(REKEY, content=body, headers={"Content-Type": "application/json"})

    assert response.status_code == 200
    assert response.json()["context"] == context


def test_keys_that_do_not_open_are_400_with_one_text(client: httpx.Client) -> None:
    """Unknown, of another vault, truncated, altered: no answer says which."""
    text = client.post(CREATE, json={"context": ACME}).json()["encrypted_keys"]
    foreign = InMemoryVault().create_data_key(KeyContext(ACME)).encrypted_keys
    texts = set()
    for keys in ("", "nonsense", foreign, text[:-4], text[:-8] + "AAAAAAA=", "A" * 1000):
        texts.add(refused(client.post(DECRYPT, json={"keys": keys}), 400))
        texts.add(refused(client.post(REKEY, json={"encrypted_keys": keys, "context": ACME}), 400))

    assert texts == {"The encrypted keys do not open in this vault."}


def test_revoked_key_is_403_and_says_so(client: httpx.Client, vault: InMemoryVault) -> None:
    key = client.post(CREATE, json={"context": ACME}).json()
    vault.revoke("organization_id", "acme")

    for path, body in [(DECRYPT, {"keys": key["encrypted_keys"]}), (CREATE, {"context": ACME})]:
        response = client.post(path, json=body)
        assert response.status_code == 403
        assert response.json() == {"error": "A key that is needed for this was revoked.", "code": "key_revoked"}


def test_body_beyond_the_limit_is_413(client: httpx.Client) -> None:
    body = json.dumps({"keys": "A" * MAX_BODY_BYTES})

    response = client.post(DECRYPT, content=body, headers={"Content-Type": "application/json"})

    assert "longer than 256 KiB" in refused(response, 413)


def test_body_at_the_limit_is_read(client: httpx.Client) -> None:
    body = b'{"keys": ""}'.ljust(MAX_BODY_BYTES)

    response = client.post(DECRYPT, content=body, headers={"Content-Type": "application/json"})

    assert refused(response, 400) == "The encrypted keys do not open in this vault."


@pytest.mark.parametrize(
    "failure", [VaultUnavailable("/srv/vault.sqlite3 is on a full disk"), ImproperlyConfigured("wrong root key")]
)
def test_vault_that_fails_is_503_and_the_reason_stays_here(
    client: httpx.Client, vault: InMemoryVault, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    with vault.fail_with(failure):
        response = client.post(CREATE, json={"context": ACME})

    assert refused(response, 503) == "The vault is not available."
    assert f"(request {response.headers['x-request-id']}): {failure}" in caplog.text


@pytest.mark.parametrize("failure", [KeyUnavailable("their KMS hangs"), ProviderRefused("their KMS has no such key")])
def test_customers_key_that_does_not_answer_is_503_and_a_code(
    client: httpx.Client, vault: InMemoryVault, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    with vault.fail_with(failure):
        response = client.post(CREATE, json={"context": ACME})

    assert response.status_code == 503
    expected = {"error": "A key that is needed for this does not answer. The vault does.", "code": "key_unavailable"}
    assert response.json() == expected
    assert f"(request {response.headers['x-request-id']}): {failure}" in caplog.text


def test_customers_provider_has_less_time_than_a_client_that_waits_as_long_as_the_vault(
    client: httpx.Client, vault: InMemoryVault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    had = []

    class Timed(KeyFile):
        def wrap(self, sealed: bytes, binding: Binding, *, timeout: float) -> bytes:
            had.append(timeout)
            return super().wrap(sealed, binding, timeout=timeout)

        def unwrap(self, wrapped: bytes, binding: Binding, *, timeout: float) -> bytes:
            had.append(timeout)
            return super().unwrap(wrapped, binding, timeout=timeout)

    assert isinstance(KINDS, dict)
    monkeypatch.setitem(KINDS, "timed", Timed)
    path = tmp_path / "customer.key"
    path.touch(0o600)
    path.write_bytes(os.urandom(32))
    vault.byok.configure("organization_id", "acme", provider="timed", settings={"path": str(path)})
    vault.byok.verify("organization_id", "acme")
    vault.byok.activate("organization_id", "acme")
    had.clear()
    context = {"organization_id": "acme"}
    keys = client.post(CREATE, json={"context": context}).json()["encrypted_keys"]
    client.post(DECRYPT, json={"keys": keys}).raise_for_status()
    client.post(REKEY, json={"encrypted_keys": keys, "context": context}).raise_for_status()

    assert len(had) == 4
    assert max(had) <= vault.seconds * PATIENCE < vault.seconds


def test_bug_is_500_without_a_trace_of_it(
    client: httpx.Client, vault: InMemoryVault, caplog: pytest.LogCaptureFixture
) -> None:
    with vault.fail_with(RuntimeError("secret detail")):
        response = client.post(CREATE, json={"context": ACME})

    assert refused(response, 500) == "The vault failed."
    assert "secret detail" not in response.text
    assert "secret detail" in caplog.text
    assert response.headers["x-request-id"] in caplog.text


def test_no_key_and_no_bearer_is_logged(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        key = client.post(CREATE, json={"context": ACME}).json()
        client.post(DECRYPT, json={"keys": key["encrypted_keys"]})
        client.post(DECRYPT, json={"keys": "nonsense"})

    assert "sk_test_4f9Za81" not in caplog.text
    assert key["data_key"] not in caplog.text
    assert key["encrypted_keys"] not in caplog.text


def raw(client: httpx.Client, request: bytes) -> bytes:
    """What the server answers to these bytes before it closes the connection."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=5) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Transfer-Encoding: chunked", b"411"),
        (b"Content-Length: 10000000000000000000000000", b"413"),
        (b"Content-Length: 1048577", b"413"),
        (b"Content-Length: -1", b"400"),
        (b"Content-Length: 1_0", b"400"),
    ],
)
def test_body_whose_end_is_not_known_closes_the_connection(client: httpx.Client, header: bytes, status: bytes) -> None:
    """Nothing of it may be taken for a second request."""
    second = b"POST /vault/v1/keys/decrypt HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"

    answer = raw(client, b"POST /vault/v1/keys/data-key HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n" + second)

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.count(b"HTTP/1.1") == 1


def test_line_that_is_no_request_is_refused(client: httpx.Client) -> None:
    assert raw(client, b"NONSENSE\r\n\r\n") == b'{"error": "The request is malformed."}'


@pytest.mark.parametrize(
    ("request_head", "status", "reason"),
    [
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411, "announced length only"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413, "too long"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "malformed"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414, "path is too long"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431, "malformed|headers are too long"),
    ],
)
def test_what_the_server_refuses_itself_has_the_shape_of_all_refusals(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, request_head: bytes, status: int, reason: str
) -> None:
    with caplog.at_level(logging.INFO, "vault_fields.server.access"):
        head, _, body = raw(client, request_head).partition(b"\r\n\r\n")

    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    assert lines[0].startswith(f"HTTP/1.1 {status} ")
    assert list(json.loads(body)) == ["error"]
    assert re.search(reason, json.loads(body)["error"])
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    assert headers["connection"] == "close"
    [record] = [record.access for record in caplog.records if hasattr(record, "access")]  # type: ignore[attr-defined]
    assert (record["status"], record["request_id"]) == (status, headers["x-request-id"])


SMUGGLED = b"POST /vault/v1/keys/decrypt HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "header",
    [
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b"Content-Length : 10",
        b"Content-Length: 0\r\n Transfer-Encoding: chunked",
        b"X: y\r\n\tTransfer-Encoding: chunked",
        b" Transfer-Encoding: chunked",
        b"X: y\rTransfer-Encoding: chunked",
        b"X: y\nTransfer-Encoding: identity",
        b"X: y\x00",
        b"X: y\x0bz",
        b"X\xa0: y",
        b"X[]: y",
        b": y",
        b"no header at all",
        b"From someone\r\nTransfer-Encoding: chunked",
    ],
)
def test_header_that_two_readers_might_take_for_two_things_is_refused(client: httpx.Client, header: bytes) -> None:
    """What comes behind it is nobody's second request, and no headers that this server alone does not see."""
    answer = raw(client, b"POST /vault/v1/kv HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n" + SMUGGLED)

    assert re.match(rb"HTTP/1\.1 4(00|11) ", answer)
    assert answer.count(b"HTTP/1.1") == 1
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"POST /vault/v1/kv HTTP/1.1\nHost: x\n\n",
        b"POST /vault/v1/kv HTTP/1.1\r\nHost: x\n\r\n",
        b"POST /vault/v1/kv HTTP/1.1\r\nHost: x\r\n\n",
        b"POST  /vault/v1/kv HTTP/1.1\r\n\r\n",
        b"POST /vault/v1/kv\x0bHTTP/1.1\r\n\r\n",
        b"POST /vault/v1/kv\rX HTTP/1.1\r\n\r\n",
        b"POST /vault/v1/kv HTTP/1.7\r\n\r\n",
    ],
)
def test_lines_end_and_are_parted_as_http_says(client: httpx.Client, head: bytes) -> None:
    answer = raw(client, head + SMUGGLED)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_headers_as_http_has_them_are_read(client: httpx.Client) -> None:
    head = f"GET /vault/v1/kv HTTP/1.1\r\nauthorization:\t Bearer {KEY} \r\nX-!#$%&'*+.^`|~:\r\nX-Y: gr\xfc\xdfe:\r\n"

    answer = raw(client, head.encode("latin-1") + b"Connection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")


# Probes of a container.


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_need_no_key_and_say_nothing(client: httpx.Client, path: str, method: str) -> None:
    del client.headers["Authorization"]

    response = client.request(method, path)

    assert response.status_code == 200
    assert response.content == (b'{"status": "ok"}' if method == "GET" else b"")
    assert response.headers["cache-control"] == "no-store"


def test_probes_only_tell(client: httpx.Client) -> None:
    for path in ("/healthz", "/readyz"):
        response = client.post(path, json={})
        assert refused(response, 405) == "Only GET and HEAD is allowed here."
        assert response.headers["allow"] == "GET, HEAD"
    del client.headers["Authorization"]
    assert client.get("/healthz/").status_code == 401


@pytest.mark.parametrize(
    "failure", [VaultUnavailable("/srv/vault.sqlite3 is on a full disk"), ImproperlyConfigured("wrong root key")]
)
def test_readiness_asks_the_keystore_and_life_does_not(
    client: httpx.Client,
    vault: InMemoryVault,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
) -> None:
    def fail() -> None:
        raise failure

    assert client.get("/readyz").status_code == 200
    monkeypatch.setattr(vault.service.store, "mark", fail)

    assert refused(client.get("/readyz"), 503) == "The vault is not available."
    assert str(failure) in caplog.text
    assert client.get("/healthz").status_code == 200


def test_answer_to_head_has_no_body(client: httpx.Client) -> None:
    answer = raw(client, b"HEAD /vault/v1/kv HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.endswith(b"\r\n\r\n")
    assert raw(client, b"HEAD / HTTP/1.1\r\nContent-Length: -1\r\n\r\n").endswith(b"\r\n\r\n")


def test_more_parameters_than_are_read_are_refused(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    response = client.get("/vault/v1/kv?" + "&".join(["a=b"] * 2000))
    assert refused(response, 400) == "The request is malformed."
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_no_json(client: httpx.Client, number: str) -> None:
    content = f'{{"context": {{"a": "b"}}, "x": {number}}}'
    response = client.post(CREATE, content=content, headers={"Content-Type": "application/json"})
    assert refused(response, 400) == "The body is not valid JSON."


@pytest.mark.parametrize("name", ["after", "before"])
def test_cursor_that_is_none_is_refused(client: httpx.Client, name: str) -> None:
    assert refused(client.get("/vault/v1/kv", params={name: "garbage"}), 400) == (
        f"{name} must be a cursor of an earlier page."
    )


@pytest.mark.parametrize("name", ["line1\nline2", "\n", "a/b\nc", "\r", "\u2028"])
def test_object_is_found_by_any_name(client: httpx.Client, name: str) -> None:
    client.post("/vault/v1/kv", json={"name": name, "value": "v", "key_context": ACME}).raise_for_status()
    assert client.get(f"/vault/v1/kv/name/{quote(name, safe='')}").json()["value"] == "v"


@pytest.mark.parametrize(("headers", "status"), [({"HTTP_TRANSFER_ENCODING": "chunked"}, 411), ({}, 400)])
def test_body_that_wsgi_does_not_read_is_told_from_one_that_is_empty(headers: dict[str, str], status: int) -> None:
    request = RequestFactory().generic("POST", CREATE, CONTENT_TYPE="application/json", **headers)
    with pytest.raises(Rejected) as rejected:
        read_body(request)
    assert rejected.value.status == status
