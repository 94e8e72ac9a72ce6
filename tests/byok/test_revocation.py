"""Revocation as a project sees it: an encrypted field, a customer who withdraws a key, and when that shows."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import transaction

from tests.byok.conftest import ROOT_KEY
from tests.byok.peers import Bao, Gate, Kms
from tests.keystores import make_keystore
from tests.testapp.models import Organization, Patient
from vault_fields.backends.local import LocalVault
from vault_fields.backends.workos import WorkOSVault
from vault_fields.embedded.customer import circuits
from vault_fields.exceptions import KeyRevoked, VaultRefused, VaultUnavailable
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db

MAX_AGE = 0.4


@pytest.fixture
def configure(settings, tmp_path: Path) -> Iterator[Callable[..., LocalVault]]:
    def configure(**options: object) -> LocalVault:
        path = tmp_path / "vault.sqlite3"
        make_keystore(path, ROOT_KEY)
        settings.VAULTS = {
            "default": {
                "BACKEND": "vault_fields.backends.local.LocalVault",
                "OPTIONS": {"path": path, "root_key": ROOT_KEY, **options},
            }
        }
        vault = vaults["default"]
        assert isinstance(vault, LocalVault)
        return vault

    yield configure
    vaults.reset()


def bring_your_own_key(vault: LocalVault, organization: Organization, customer: dict) -> tuple[str, str]:
    item = "organization_id", str(organization.pk)
    vault.byok.configure(*item, **customer)
    vault.byok.verify(*item)
    vault.byok.activate(*item)
    return item


def read(patient: Patient) -> str | None:
    return Patient.objects.get(pk=patient.pk).ssn


def test_disabled_key_is_revoked_at_once_in_this_process(
    configure: Callable[..., LocalVault], customer: dict, organization: Organization, other_organization: Organization
) -> None:
    vault = configure()
    item = bring_your_own_key(vault, organization, customer)
    mine = Patient.objects.create(organization=organization, ssn="123-45-6789")
    others = Patient.objects.create(organization=other_organization, ssn="987-65-4321")
    assert read(mine) == "123-45-6789"

    vault.byok.disable(*item)

    with pytest.raises(KeyRevoked, match=r"testapp\.Patient\.ssn \(pk=\d+\).*organization_id"):
        read(mine)
    with pytest.raises(KeyRevoked), transaction.atomic():
        Patient.objects.create(organization=organization, ssn="000-00-0000")
    assert read(others) == "987-65-4321"
    vault.byok.enable(*item)
    assert read(mine) == "123-45-6789"


def test_key_withdrawn_at_its_provider_is_revoked_within_the_age_of_cached_keys_and_at_once_on_purge(
    configure: Callable[..., LocalVault], bao: Bao, organization: Organization
) -> None:
    vault = configure(key_max_age=MAX_AGE)
    settings = bao.settings()
    item = bring_your_own_key(vault, organization, {"provider": "openbao", "settings": settings})
    bao.call(f"transit/keys/{settings['key']}/config", {"deletion_allowed": True})
    patient = Patient.objects.create(organization=organization, ssn="123-45-6789")
    assert read(patient) == "123-45-6789"

    bao.call(f"transit/keys/{settings['key']}/soft-delete", method="DELETE")
    assert read(patient) == "123-45-6789", "cached, for as long as was agreed"
    time.sleep(MAX_AGE)
    with pytest.raises(KeyRevoked):
        read(patient)

    bao.call(f"transit/keys/{settings['key']}/soft-delete-restore", {})
    assert read(patient) == "123-45-6789"
    bao.call(f"transit/keys/{settings['key']}/soft-delete", method="DELETE")
    vault.purge(dict([item]))
    with pytest.raises(KeyRevoked):
        read(patient)


def test_provider_that_is_down_is_unavailable_and_all_is_well_afterwards(
    configure: Callable[..., LocalVault],
    kms: Kms,
    gate: Callable[[str], Gate],
    organization: Organization,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(circuits, "PAUSE", 0.0)
    before = gate(kms.url)
    vault = configure(timeout=4.0)
    bring_your_own_key(vault, organization, {"provider": "aws", "settings": kms.settings(endpoint_url=before.url)})
    patient = Patient.objects.create(organization=organization, ssn="123-45-6789")

    for fault in (before.shut, before.hang):
        vault.purge()
        fault()
        started = time.monotonic()
        with pytest.raises(VaultUnavailable) as caught:
            read(patient)
        assert not isinstance(caught.value, VaultRefused)
        with pytest.raises(VaultUnavailable), transaction.atomic():
            Patient.objects.create(organization=organization, ssn="000-00-0000")
        assert time.monotonic() - started < 60
        assert Patient.objects.count() == 1
        before.unlock()
        assert read(patient) == "123-45-6789"


def test_old_data_stay_under_the_managed_key_until_they_are_rekeyed(
    configure: Callable[..., LocalVault], organization: Organization, key_file: Path
) -> None:
    from vault_fields.fields.groups import group_of
    from vault_fields.rows.rekey import rekey_group

    vault = configure()
    old = Patient.objects.create(organization=organization, ssn="123-45-6789")
    item = bring_your_own_key(vault, organization, {"provider": "file", "settings": {"path": str(key_file)}})
    vault.byok.disable(*item)
    assert read(old) == "123-45-6789"
    vault.byok.enable(*item)

    group = group_of(Patient._meta.get_field("ssn"))
    problems: list[str] = []
    usual = rekey_group(group, on_problem=problems.append)
    rewrapped = rekey_group(group, rewrap=True, on_problem=problems.append)
    again = rekey_group(group, rewrap=True, on_problem=problems.append)

    assert [usual.written, rewrapped.rekeyed, rewrapped.reencrypted, again.written] == [0, 1, 0, 0]
    assert problems == []
    vault.purge()
    assert read(old) == "123-45-6789"
    vault.byok.disable(*item)
    with pytest.raises(KeyRevoked):
        read(old)
    failed = rekey_group(group, rewrap=True, on_problem=problems.append)
    assert failed.failed == 1
    assert "is disabled" in problems[0]


def test_rewrapping_writes_companions_only_and_goes_on_where_it_was_interrupted(
    configure: Callable[..., LocalVault],
    organization: Organization,
    key_file: Path,
    stored: Callable[..., tuple[str, str]],
) -> None:
    from vault_fields.fields.groups import group_of
    from vault_fields.rows.rekey import rekey_group

    vault = configure()
    rows = [Patient.objects.create(organization=organization, ssn=str(number)) for number in range(5)]
    before = [stored(row, "ssn", "ssn_keys") for row in rows]
    bring_your_own_key(vault, organization, {"provider": "file", "settings": {"path": str(key_file)}})

    @contextmanager
    def interrupted(title: str, count: Callable[[], int]) -> Iterator[Callable[[int], None]]:
        batches = iter([None, None])

        def advance(done: int) -> None:
            if next(batches, "the third") is not None:
                raise KeyboardInterrupt

        yield advance

    group, problems = group_of(Patient._meta.get_field("ssn")), []
    with pytest.raises(KeyboardInterrupt):
        rekey_group(group, rewrap=True, batch_size=1, progress=interrupted, on_problem=problems.append)
    moved = [stored(row, "ssn_keys")[0] != keys for row, (_, keys) in zip(rows, before, strict=True)]
    assert 0 < sum(moved) < 5
    rest = rekey_group(group, rewrap=True, on_problem=problems.append)

    assert (rest.rekeyed, rest.reencrypted, problems) == (5 - sum(moved), 0, [])
    after = [stored(row, "ssn", "ssn_keys") for row in rows]
    assert [value for value, _ in after] == [value for value, _ in before]
    assert all(new != old for (_, new), (_, old) in zip(after, before, strict=True))


def test_key_that_saves_share_does_not_outlive_the_change_to_another_custodian(
    configure: Callable[..., LocalVault], organization: Organization, key_file: Path
) -> None:
    from vault_fields.audit.owners import owner_counts
    from vault_fields.audit.places import places

    vault = configure(data_key_max_uses=100, data_key_max_age=600)
    Patient.objects.create(organization=organization, ssn="1")
    item = bring_your_own_key(vault, organization, {"provider": "file", "settings": {"path": str(key_file)}})
    Patient.objects.create(organization=organization, ssn="2")
    vault.byok.deactivate(*item)
    Patient.objects.create(organization=organization, ssn="3")

    found = owner_counts(vault, *item, places())["testapp.Patient.ssn_keys"]
    assert (found.managed, found.customer) == (2, 1)


def test_revocation_is_told_over_http(
    configure: Callable[..., LocalVault], key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.byok.conftest import ACME, ITEM, OTHER
    from tests.server.conftest import running
    from vault_fields.server.api import VaultApi
    from vault_fields.server.apikeys import ApiKey, ApiKeys, hash_api_key

    served = configure()
    served.byok.configure(*ITEM, provider="file", settings={"path": str(key_file)})
    served.byok.verify(*ITEM)
    served.byok.activate(*ITEM)
    api = VaultApi(served.service, ApiKeys([ApiKey(hash_api_key("sk_test_4f9Za81"))]))
    with running(api) as url:
        client = WorkOSVault("hosted", api_key="sk_test_4f9Za81", base_url=url, max_retries=0)
        key = client.create_data_key(ACME)
        client.purge()
        assert client.decrypt_data_key(key.encrypted_keys).plaintext == key.plaintext
        client.purge()
        key_file.chmod(0o644)
        # Nothing that the caller could change, and no word of it: the reason is in the log.
        with pytest.raises(VaultUnavailable) as failed, caplog.at_level("ERROR"):
            client.decrypt_data_key(key.encrypted_keys)
        assert failed.value.status == 503
        assert str(key_file) not in str(failed.value)
        assert "'organization_id'" in caplog.text
        with pytest.raises(VaultUnavailable):
            client.create_data_key(ACME)
        key_file.unlink()

        calls: list[Callable[[], object]] = [
            lambda: client.create_data_key(ACME),
            lambda: client.decrypt_data_key(key.encrypted_keys),
            lambda: client.rekey_data_key(key.encrypted_keys, OTHER),
        ]
        for call in calls:
            with pytest.raises(KeyRevoked, match="revoked by its owner") as caught:
                call()
            assert (caught.value.status, caught.value.alias) == (403, "hosted")
            assert str(key_file) not in str(caught.value)
        wrong = WorkOSVault("hosted", api_key="sk_wrong", base_url=url, max_retries=0)
        with pytest.raises(VaultRefused) as caught_wrong:
            wrong.create_data_key(OTHER)
        assert not isinstance(caught_wrong.value, KeyRevoked)
        client.close()
        wrong.close()
