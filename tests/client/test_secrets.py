"""Nothing leaks: not into a repr, a log at any level or a frame of a traceback."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.client.calls import API_KEY, CREATE, DECRYPT, REKEY, assert_no_secret, both, endpoint, failure, quick
from tests.faulty_server import BLOB, DATA_KEY, PLAINTEXT, Reply
from tests.leaks import leaks
from vault_fields.client import AsyncVaultClient, VaultClient


def test_no_secret_is_in_a_repr(server) -> None:
    vault_endpoint = endpoint(server.url)
    client, later = VaultClient(vault_endpoint, quick()), AsyncVaultClient(vault_endpoint, quick())
    request = vault_endpoint.request(CREATE.path, CREATE.payload, quick().begin())
    for thing in (vault_endpoint, client, later, request, CREATE, REKEY, DECRYPT):
        assert_no_secret(repr(thing))
    assert repr(client) == "<VaultClient of <Endpoint 'eu' at 127.0.0.1>>"
    assert repr(later) == "<AsyncVaultClient of <Endpoint 'eu' at 127.0.0.1>>"


@both
def test_no_secret_is_in_any_log_at_any_level(post, server, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    leaky = {"error": f"{API_KEY} {DATA_KEY} {BLOB}"}
    server.will(Reply(status=503, content=leaky), Reply(reset_after=5))
    for call in (CREATE, DECRYPT, REKEY):
        post(server, quick(), call)
    server.usual = Reply(status=401, content=leaky)
    failure(post, server)
    messages = [record.getMessage() for record in caplog.records]
    told = (
        f"VAULTS['eu']: The Vault cannot answer now (HTTP 503). Host: 127.0.0.1:{server.server_port}. Trying again in"
    )
    assert any(told in text for text in messages)
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    for text in [*messages, *map(repr, (record.args for record in caplog.records))]:
        assert_no_secret(text)


@both
@pytest.mark.parametrize(
    "reply", [Reply(status=500), Reply(status=401), Reply(raw=DATA_KEY.encode()), Reply(reset_after=9)]
)
def test_no_frame_of_a_traceback_has_the_api_key_or_a_data_key_as_a_local_variable(post, server, reply) -> None:
    """Error trackers send the local variables of every frame."""
    server.usual = reply
    error = failure(post, server, quick(max_retries=1))
    assert leaks(error, [API_KEY, DATA_KEY, PLAINTEXT]) == []


def test_many_threads_closing_and_calling_never_see_anything_but_answers(server) -> None:
    client = VaultClient(endpoint(server.url), quick(timeout=5, max_retries=0))
    stop = threading.Event()

    def keep_closing() -> None:
        while not stop.wait(0.003):
            client.close()

    closer = threading.Thread(target=keep_closing)
    closer.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.post(CREATE.path, CREATE.payload), range(150)))
    finally:
        stop.set()
        closer.join()
        client.close()
    assert {answer.content["data_key"] for answer in answers} == {DATA_KEY}
