"""``WorkOSVault`` as a backend: options, cache, counting, one question per key, and secrets that stay inside."""

import asyncio
import base64
import copy
import logging
import pickle
import re
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.test import override_settings

from tests.faulty_server import BLOB, DATA_KEY, PLAINTEXT, FaultyServer, Reply, faulty_server
from tests.leaks import leaks
from vault_fields.backends.workos import WorkOSVault
from vault_fields.exceptions import VaultError, VaultRefused, VaultThrottled, VaultUnavailable
from vault_fields.keys import DataKey, KeyContext
from vault_fields.vaults import vault_config, vaults

API_KEY = "sk_test_51SecretApiKey"
CONTEXT = KeyContext({"organization_id": "org_1"})
OTHER = KeyContext({"organization_id": "org_2"})


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as server:
        yield server


@pytest.fixture
def vault(server: FaultyServer) -> Iterator[WorkOSVault]:
    vault = WorkOSVault("eu", api_key=API_KEY, base_url=server.url, timeout=20.0)
    yield vault
    vault.close()


def blob(number: int) -> str:
    return base64.b64encode(b"blob %d" % number).decode()


def paths(server: FaultyServer) -> list[str]:
    return [seen.path.rpartition("/")[2] for seen in server.seen]


def test_create_decrypt_and_rekey_are_one_call_each(server, vault) -> None:
    created = vault.create_data_key(CONTEXT)
    opened = vault.decrypt_data_key(blob(1), CONTEXT)
    moved = vault.rekey_data_key(blob(1), OTHER)
    assert [key.plaintext for key in (created, opened, moved)] == [PLAINTEXT] * 3
    assert [key.encrypted_keys for key in (created, opened, moved)] == [BLOB, blob(1), BLOB]
    assert [(seen.path, seen.content) for seen in server.seen] == [
        ("/vault/v1/keys/data-key", {"context": {"organization_id": "org_1"}}),
        ("/vault/v1/keys/decrypt", {"keys": blob(1)}),
        ("/vault/v1/keys/rekey", {"context": {"organization_id": "org_2"}, "encrypted_keys": blob(1)}),
    ]
    assert vault.calls == {"create": 1, "decrypt": 1, "rekey": 1}


def test_create_decrypt_and_rekey_from_coroutines(server, vault) -> None:
    async def scene() -> list[DataKey]:
        return [
            await vault.acreate_data_key(CONTEXT),
            await vault.adecrypt_data_key(blob(1), CONTEXT),
            await vault.arekey_data_key(blob(1), OTHER),
        ]

    created, opened, moved = asyncio.run(scene())
    assert [key.encrypted_keys for key in (created, opened, moved)] == [BLOB, blob(1), BLOB]
    assert paths(server) == ["data-key", "decrypt", "rekey"]
    assert vault.calls == {"create": 1, "decrypt": 1, "rekey": 1}
    assert server.opened == 1


def test_coroutines_need_no_thread(vault) -> None:
    async def scene() -> None:
        await vault.acreate_data_key(CONTEXT)
        await vault.adecrypt_data_keys({blob(n): CONTEXT for n in range(5)})

    before = set(threading.enumerate())
    asyncio.run(scene())
    assert {thread.name for thread in set(threading.enumerate()) - before if "vault-" in thread.name} == set()


def test_a_key_is_opened_from_the_cache_by_threads_and_coroutines(server, vault) -> None:
    vault.create_data_key(CONTEXT)
    asyncio.run(vault.adecrypt_data_key(blob(1), CONTEXT))
    for _ in range(3):
        vault.decrypt_data_key(BLOB)
        vault.decrypt_data_key(blob(1))
        asyncio.run(vault.adecrypt_data_key(BLOB))
        asyncio.run(vault.adecrypt_data_key(blob(1)))
    assert paths(server) == ["data-key", "decrypt"]
    assert vault.purge(CONTEXT) == 2
    vault.decrypt_data_key(BLOB)
    assert len(server.seen) == 3


def test_keys_made_by_coroutines_are_cached_with_their_context(server, vault) -> None:
    asyncio.run(vault.acreate_data_key(CONTEXT))
    assert vault.purge(OTHER) == 0
    assert vault.purge(CONTEXT) == 1
    asyncio.run(vault.arekey_data_key(blob(1), OTHER))
    assert vault.purge(OTHER) == 1


def test_50_threads_opening_one_key_are_one_call(server, vault) -> None:
    server.usual = Reply(delay=0.1)
    with ThreadPoolExecutor(50) as pool:
        keys = list(pool.map(lambda _: vault.decrypt_data_key(blob(1), CONTEXT), range(50)))
    assert len(set(map(id, keys))) == 1
    assert len(server.seen) == vault.calls["decrypt"] == 1


def test_50_coroutines_opening_one_key_are_one_call(server, vault) -> None:
    server.usual = Reply(delay=0.05)

    async def scene() -> list[DataKey]:
        return await asyncio.gather(*(vault.adecrypt_data_key(blob(1), CONTEXT) for _ in range(50)))

    assert len(set(map(id, asyncio.run(scene())))) == 1
    assert len(server.seen) == vault.calls["decrypt"] == 1


def test_a_batch_is_opened_concurrently_and_no_more_at_once_than_allowed(server) -> None:
    server.usual = Reply(delay=0.02)
    vault = WorkOSVault(api_key=API_KEY, base_url=server.url, timeout=20.0, max_concurrency=4)
    wanted = {blob(number): CONTEXT for number in range(12)}
    opened = vault.decrypt_data_keys(wanted)
    assert {name: key.encrypted_keys for name, key in opened.items()} == {name: name for name in wanted}
    assert server.opened <= 4
    vault.purge()

    async def scene() -> dict[str, Any]:
        return await vault.adecrypt_data_keys(wanted)

    before = server.opened
    assert set(asyncio.run(scene())) == set(wanted)
    assert server.opened - before <= 4
    assert len(server.seen) == vault.calls["decrypt"] == 24
    vault.close()


def test_in_a_batch_one_key_that_does_not_open_leaves_the_others_alone(server, vault) -> None:
    async def later(wanted: dict[str, Any]) -> dict[str, Any]:
        return await vault.adecrypt_data_keys(wanted)

    for first, open_them in ((0, vault.decrypt_data_keys), (10, lambda wanted: asyncio.run(later(wanted)))):
        server.will(Reply(status=400))
        opened = open_them({blob(first + number): CONTEXT for number in range(3)})
        assert sorted(type(outcome).__name__ for outcome in opened.values()) == ["DataKey", "DataKey", "VaultRefused"]


def test_errors_are_raised_to_threads_and_coroutines_and_not_cached(server, vault) -> None:
    server.will(Reply(status=422), Reply(status=422), Reply(status=401), Reply(status=401), Reply(status=400))
    with pytest.raises(VaultRefused, match=r"^VAULTS\['eu'\]: ") as caught:
        vault.decrypt_data_key(blob(1))
    assert (caught.value.alias, caught.value.status, caught.value.request_id) == ("eu", 422, "req_01")
    with pytest.raises(VaultRefused):
        asyncio.run(vault.adecrypt_data_key(blob(1)))
    with pytest.raises(VaultRefused):
        vault.create_data_key(CONTEXT)
    with pytest.raises(VaultRefused):
        asyncio.run(vault.acreate_data_key(CONTEXT))
    with pytest.raises(VaultRefused):
        asyncio.run(vault.arekey_data_key(blob(1), CONTEXT))
    assert vault.decrypt_data_key(blob(1)).plaintext == PLAINTEXT


def test_a_revoked_api_key_opens_what_is_cached_and_not_for_longer(server, vault, monkeypatch) -> None:
    vault.decrypt_data_key(blob(1), CONTEXT)
    server.usual = Reply(status=401)
    assert vault.decrypt_data_key(blob(1), CONTEXT).plaintext == PLAINTEXT
    with pytest.raises(VaultRefused):
        vault.decrypt_data_key(blob(2), CONTEXT)

    later = vault.cache.now() + vault.cache.max_age
    monkeypatch.setattr(vault.cache, "_clock", lambda: later)
    with pytest.raises(VaultRefused) as caught:
        vault.decrypt_data_key(blob(1), CONTEXT)
    assert caught.value.status == 401


def test_timeout_and_max_retries_are_those_of_the_options(server) -> None:
    vault = WorkOSVault(api_key=API_KEY, base_url=server.url, timeout=3, max_retries=0)
    server.usual = Reply(status=503)
    with pytest.raises(VaultUnavailable, match="after 1 try"):
        vault.create_data_key(CONTEXT)
    vault.close()
    vault = WorkOSVault(api_key=API_KEY, base_url=server.url, timeout=3)
    server.usual = Reply(status=429, headers={"Retry-After": "4"})
    with pytest.raises(VaultThrottled, match="after 1 try"):
        vault.create_data_key(CONTEXT)
    vault.close()


def test_an_answer_for_another_context_is_refused(server, vault) -> None:
    server.usual = Reply(
        content={"id": "x", "data_key": DATA_KEY, "encrypted_keys": BLOB, "context": {"organization_id": "org_2"}}
    )
    for use in (lambda: vault.create_data_key(CONTEXT), lambda: asyncio.run(vault.arekey_data_key(BLOB, CONTEXT))):
        with pytest.raises(VaultRefused, match="it is for another context than was asked for"):
            use()
    assert len(vault.cache) == 0


def test_a_coroutine_must_not_block_its_loop(vault) -> None:
    async def scene() -> None:
        with pytest.raises(SynchronousOnlyOperation, match="The Vault cannot be asked from an async context"):
            vault.create_data_key(CONTEXT)

    asyncio.run(scene())


def test_close_forgets_keys_and_connections_and_the_vault_works_on(server, vault) -> None:
    vault.create_data_key(CONTEXT)
    vault.close()
    assert len(vault.cache) == 0
    assert server.wait_until_all_closed()
    vault.create_data_key(CONTEXT)
    assert server.opened == 2


def test_aclose_closes_both_kinds_of_connection(server, vault) -> None:
    async def scene() -> None:
        await vault.acreate_data_key(CONTEXT)
        await vault.aclose()
        assert server.wait_until_all_closed()

    vault.create_data_key(CONTEXT)
    asyncio.run(scene())
    assert server.opened == 2


# Options.


@pytest.mark.parametrize(
    "api_key",
    ["", " ", " sk_hidden", "sk_hidden\n", "sk_\thidden", "sk_hid\x00den", "sk_hiddené", None, 7, b"sk_hidden"],
)
def test_an_api_key_that_cannot_be_one_is_refused_and_not_shown(api_key) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^VAULTS\['eu'\]: api_key must be") as caught:
        WorkOSVault("eu", api_key=api_key)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout": 0}, "timeout must be a number"),
        ({"timeout": -1}, "timeout must be a number"),
        ({"timeout": "5"}, "timeout must be a number"),
        ({"timeout": None}, "timeout must be a number"),
        ({"timeout": float("nan")}, "timeout must be a number"),
        ({"timeout": float("inf")}, "timeout must be at most 300 seconds"),
        ({"max_retries": -1}, "max_retries must be a whole number"),
        ({"max_retries": 1.5}, "max_retries must be a whole number"),
        ({"base_url": "http://api.workos.com"}, "base_url must begin with https://"),
        ({"tiemout": 3}, "unknown OPTIONS: tiemout"),
    ],
)
def test_options_that_cannot_be_are_named(options, says) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        WorkOSVault("eu", api_key=API_KEY, **options)
    assert str(caught.value).startswith("VAULTS['eu']: ")
    assert says in str(caught.value)
    assert API_KEY not in str(caught.value)


def test_without_an_api_key_the_setting_is_named() -> None:
    entry = {"BACKEND": "vault_fields.backends.workos.WorkOSVault"}
    with override_settings(VAULTS={"eu": entry}), pytest.raises(ImproperlyConfigured, match="'api_key'"):
        vaults["eu"]


def test_from_a_url_to_a_key(server) -> None:
    url = server.url.replace("http://", f"workos+http://:{API_KEY}@")
    with override_settings(VAULTS={"default": vault_config(f"{url}?timeout=2")}):
        assert vaults["default"].create_data_key(CONTEXT).plaintext == PLAINTEXT
    assert server.wait_until_all_closed(), "dropping the setting closes the connections"


class Waves:
    """Answers requests when as many are there as a wave has, or as are left."""

    def __init__(self, *, left: int, width: int) -> None:
        self._changed = threading.Condition()
        self._left, self._width, self._here = left, width, 0
        self.number = 0

    def next_reply(self) -> Reply:
        with self._changed:
            number = self.number
            self._here += 1
            if self._here == min(self._width, self._left):
                self._left, self._here = self._left - self._here, 0
                self.number += 1
                self._changed.notify_all()
            self._changed.wait_for(lambda: self.number != number, 60)
        return Reply()


@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "coroutines"])
def test_a_page_of_a_hundred_cold_keys_takes_the_time_of_three_calls(server, vault, monkeypatch, is_async) -> None:
    """However long a call takes: all that are under way at once are answered at once."""
    waves = Waves(left=100, width=40)
    monkeypatch.setattr(server, "next_reply", waves.next_reply)
    wanted = dict.fromkeys(map(blob, range(100)))
    found = asyncio.run(vault.adecrypt_data_keys(wanted)) if is_async else vault.decrypt_data_keys(wanted)
    assert {type(each) for each in found.values()} == {DataKey}
    assert waves.number == 3


def test_building_one_does_no_input_or_output() -> None:
    vault = WorkOSVault(api_key=API_KEY)
    assert vault._client._lines.retire() == []
    assert repr(vault) == "<WorkOSVault 'default' at api.workos.com>"


# Nothing leaks.


def test_a_vault_cannot_be_pickled(vault) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(vault)
    with pytest.raises(TypeError):
        copy.deepcopy(vault)


def test_what_is_not_a_data_key_names_the_host_that_answered_it(server, vault) -> None:
    server.usual = Reply(content={"id": "x"})
    for use in (
        lambda: vault.create_data_key(CONTEXT),
        lambda: vault.decrypt_data_key(BLOB),
        lambda: asyncio.run(vault.adecrypt_data_keys({BLOB: None}))[BLOB],
    ):
        try:
            error = use()
        except VaultError as raised:
            error = raised
        assert type(error) is VaultRefused
        assert re.search(r"not a data key: .*\. Host: 127\.0\.0\.1:\d+\.$", error.args[0])


def test_no_secret_is_in_repr_log_or_traceback(server, vault, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    texts = [repr(vault), repr(vault.create_data_key(CONTEXT)).replace(BLOB, "")]
    wrong = {"id": "x", "data_key": DATA_KEY, "encrypted_keys": BLOB, "context": {"organization_id": "org_2"}}
    for reply in (
        Reply(content=wrong),
        Reply(status=401, content={"error": f"{API_KEY} {DATA_KEY} {BLOB}"}),
        Reply(status=500, content={"error": f"{API_KEY} {DATA_KEY} {BLOB}"}),
        Reply(raw=f"{API_KEY} {DATA_KEY} {BLOB}".encode()),
        Reply(reset_after=40),
    ):
        server.usual = reply
        for use in (
            lambda: vault.rekey_data_key(BLOB, CONTEXT),
            lambda: asyncio.run(vault.arekey_data_key(BLOB, CONTEXT)),
        ):
            with pytest.raises(VaultError) as caught:
                use()
            texts.append("".join(traceback.format_exception(caught.value)))
            texts.append(str(pickle.dumps(caught.value)))
            assert leaks(caught.value, [API_KEY, DATA_KEY, PLAINTEXT]) == []
    texts += [record.getMessage() for record in caplog.records]
    for text in texts:
        for secret in (API_KEY, DATA_KEY, BLOB, repr(PLAINTEXT), "org_1", "org_2"):
            assert secret not in text
