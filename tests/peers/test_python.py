"""WorkOS's own SDK for Python, as it comes from PyPI, takes the embedded Vault for WorkOS."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import workos
from workos import AsyncWorkOSClient, WorkOSClient

from tests.peers.conftest import Served

ACME = {"organization_id": "acme"}


@pytest.fixture
def client(served: Served) -> Iterator[WorkOSClient]:
    with WorkOSClient(api_key=served.key, base_url=served.url, max_retries=0) as client:
        yield client


@asynccontextmanager
async def opened(served: Served) -> AsyncIterator[AsyncWorkOSClient]:
    async with AsyncWorkOSClient(api_key=served.key, base_url=served.url, max_retries=0) as client:
        yield client


def name() -> str:
    return f"secret/{uuid.uuid4()}"


def test_every_method_of_the_sdk_is_called_here() -> None:
    public = {each for each in dir(workos.vault.Vault) if not each.startswith("_")}

    assert public == {
        "create_data_key",
        "create_decrypt",
        "create_kv",
        "create_rekey",
        "decrypt",
        "delete_kv",
        "encrypt",
        "get_kv",
        "get_name",
        "list_kv",
        "list_kv_metadata",
        "list_kv_versions",
        "update_kv",
    }


def test_data_keys(client: WorkOSClient) -> None:
    key = client.vault.create_data_key(context=ACME)
    assert key.context == ACME

    opened = client.vault.create_decrypt(keys=key.encrypted_keys)
    assert (opened.id, opened.data_key) == (key.id, key.data_key)

    moved = client.vault.create_rekey(encrypted_keys=key.encrypted_keys, context={"organization_id": "globex"})
    assert (moved.data_key, moved.context) == (key.data_key, {"organization_id": "globex"})
    assert client.vault.create_decrypt(keys=moved.encrypted_keys).data_key == key.data_key


@pytest.mark.parametrize("associated_data", [None, "row 7, übrigens"])
def test_encrypt_and_decrypt(client: WorkOSClient, associated_data: str | None) -> None:
    payload = client.vault.encrypt(data="grüße 🙂", key_context=ACME, associated_data=associated_data)

    assert client.vault.decrypt(encrypted_data=payload, associated_data=associated_data) == "grüße 🙂"


def test_life_of_an_object(client: WorkOSClient) -> None:
    secret = name()
    created = client.vault.create_kv(name=secret, value="one", key_context=ACME)
    assert created.context == ACME
    assert created.environment_id == "peers"
    assert created.updated_by.name == "Peers"

    read = client.vault.get_kv(created.id)
    assert (read.id, read.name, read.value, read.metadata) == (created.id, secret, "one", created)
    assert client.vault.get_name(secret) == read
    described = client.vault.list_kv_metadata(created.id)
    assert (described.name, described.metadata) == (secret, created)

    updated = client.vault.update_kv(created.id, value="two", version_check=created.version_id)
    assert updated.metadata.version_id != created.version_id
    with pytest.raises(workos.ConflictError):
        client.vault.update_kv(created.id, value="three", version_check=created.version_id)
    client.vault.update_kv(created.id, value="three")
    client.vault.update_kv(created.id, value="four", version_check=None)
    assert client.vault.get_kv(created.id).value == "four"

    versions = client.vault.list_kv_versions(created.id).data
    assert [each.current_version for each in versions] == [True, False, False, False]
    assert versions[-1].id == created.version_id
    assert versions[-1].created_at == created.updated_at
    assert all(each.size > 0 and each.etag for each in versions)

    with pytest.raises(workos.ConflictError):
        client.vault.delete_kv(created.id, version_check=created.version_id)
    client.vault.delete_kv(created.id, version_check=versions[0].id)
    for call in (client.vault.get_kv, client.vault.list_kv_metadata, client.vault.list_kv_versions):
        with pytest.raises(workos.NotFoundError):
            call(created.id)
    with pytest.raises(workos.NotFoundError):
        client.vault.get_name(secret)
    with pytest.raises(workos.NotFoundError):
        client.vault.delete_kv(created.id)


def test_name_is_taken_once(client: WorkOSClient) -> None:
    secret = name()
    client.vault.create_kv(name=secret, value="one", key_context=ACME)

    with pytest.raises(workos.ConflictError):
        client.vault.create_kv(name=secret, value="two", key_context={"organization_id": "globex"})


def test_pages_follow_each_other(client: WorkOSClient) -> None:
    prefix = uuid.uuid4().hex
    ids = [client.vault.create_kv(name=f"{prefix}-{each}", value="", key_context=ACME).id for each in range(7)]

    page = client.vault.list_kv(search=prefix, limit=3, order="asc")

    assert [each.id for each in page.auto_paging_iter()] == ids
    assert [each.id for each in client.vault.list_kv(search=prefix, limit=3)] == ids[:-4:-1]
    after = client.vault.list_kv(search=prefix, limit=3, order="asc", after=ids[2])
    assert [each.id for each in after] == ids[3:6]
    assert [each.id for each in client.vault.list_kv(search=prefix, limit=2, order="asc", before=ids[3])] == ids[1:3]
    written = client.vault.list_kv_metadata(ids[3]).metadata.updated_at
    later = client.vault.list_kv(search=prefix, updated_after=written)
    assert {each.id for each in later} <= set(ids[4:])


def test_refusals_are_the_errors_of_the_sdk(client: WorkOSClient, served: Served) -> None:
    with pytest.raises(workos.UnprocessableEntityError):
        client.vault.create_data_key(context={})
    with pytest.raises(workos.BadRequestError):
        client.vault.create_decrypt(keys="bm90aGluZw==")
    with (
        WorkOSClient(api_key="sk_wrong", base_url=served.url, max_retries=0) as stranger,
        pytest.raises(workos.AuthenticationError),
    ):
        stranger.vault.create_data_key(context=ACME)


def test_environments_know_nothing_of_each_other(client: WorkOSClient, served: Served) -> None:
    secret = name()
    created = client.vault.create_kv(name=secret, value="ours", key_context=ACME)
    key = client.vault.create_data_key(context=ACME)

    with WorkOSClient(api_key=served.other_key, base_url=served.url, max_retries=0) as other:
        with pytest.raises(workos.NotFoundError):
            other.vault.get_kv(created.id)
        with pytest.raises(workos.NotFoundError):
            other.vault.get_name(secret)
        with pytest.raises(workos.BadRequestError):
            other.vault.create_decrypt(keys=key.encrypted_keys)
        assert other.vault.create_kv(name=secret, value="theirs", key_context=ACME).environment_id == "others"

    assert client.vault.get_name(secret).value == "ours"


def test_events_of_the_platform(client: WorkOSClient) -> None:
    secret = name()
    created = client.vault.create_kv(name=secret, value="", key_context={"organization_id": secret})
    client.vault.get_kv(created.id)
    client.vault.delete_kv(created.id)
    key = client.vault.create_data_key(context=ACME)
    client.vault.create_decrypt(keys=key.encrypted_keys)
    client.vault.create_rekey(encrypted_keys=key.encrypted_keys, context=ACME)

    names = ["vault.data.created", "vault.data.read", "vault.data.deleted", "vault.dek.read", "vault.dek.decrypted"]
    page = client.events.list_events(events=[*names, "vault.dek.rekeyed", "vault.kek.created"], limit=2)
    found: list[Any] = list(page.auto_paging_iter())

    ours = [each for each in found if getattr(each.data, "kv_name", None) == secret]
    assert sorted(each.event for each in ours) == sorted(names[:3])
    assert {each.data.actor_name for each in found} == {"Peers"}
    assert any(each.event == "vault.kek.created" and secret in each.data.key_name for each in found)
    assert any(each.event == "vault.dek.read" and each.data.key_ids == [key.id] for each in found)
    assert any(each.event == "vault.dek.rekeyed" and each.data.key_ids == [key.id] for each in found)
    assert any(each.event == "vault.dek.decrypted" and each.data.key_id == key.id for each in found)


def test_coroutines_do_the_same(served: Served) -> None:
    async def use() -> None:
        async with opened(served) as client:
            vault, secret = client.vault, name()
            key = await vault.create_data_key(context=ACME)
            assert (await vault.create_decrypt(keys=key.encrypted_keys)).data_key == key.data_key
            moved = await vault.create_rekey(encrypted_keys=key.encrypted_keys, context={"a": "b"})
            assert moved.data_key == key.data_key
            payload = await vault.encrypt(data="text", key_context=ACME, associated_data="row")
            assert await vault.decrypt(encrypted_data=payload, associated_data="row") == "text"

            created = await vault.create_kv(name=secret, value="one", key_context=ACME)
            assert (await vault.get_kv(created.id)).value == "one"
            assert (await vault.get_name(secret)).id == created.id
            assert (await vault.list_kv_metadata(created.id)).name == secret
            await vault.update_kv(created.id, value="two", version_check=created.version_id)
            assert len((await vault.list_kv_versions(created.id)).data) == 2
            page = await vault.list_kv(search=secret)
            assert [each.id async for each in page.auto_paging_iter()] == [created.id]
            await vault.delete_kv(created.id)
            with pytest.raises(workos.NotFoundError):
                await vault.get_kv(created.id)

    asyncio.run(use())


def test_of_writers_who_expect_one_version_one_succeeds(served: Served) -> None:
    async def race() -> list[Any]:
        async with opened(served) as client:
            created = await client.vault.create_kv(name=name(), value="", key_context=ACME)
            updates = [
                client.vault.update_kv(created.id, value=str(each), version_check=created.version_id)
                for each in range(8)
            ]
            return await asyncio.gather(*updates, return_exceptions=True)

    results = asyncio.run(race())

    assert sorted(type(each).__name__ for each in results) == ["ConflictError"] * 7 + ["ObjectWithoutValue"]
