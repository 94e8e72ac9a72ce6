"""Commands and audits know the index keys: they rotate, move, are counted and are shredded with the keys of rows."""

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.keystores import make_keystore
from tests.testapp.models import Contact, Organization
from vault_fields.audit.owners import OwnerCounts, owner_counts
from vault_fields.audit.places import IndexKeys, places, stored_keys, where_stored
from vault_fields.audit.shredding import ShredReport, prove_shredded
from vault_fields.audit.versions import versions_in_use
from vault_fields.backends.local import LocalVault
from vault_fields.embedded.managed.rootkey import generate_root_key
from vault_fields.exceptions import KeyRevoked, KeyUnavailable, VaultRefused
from vault_fields.models import IndexKey
from vault_fields.rows.indexkeyrows import IndexKeyRows
from vault_fields.rows.rekeykeys import rekey_index_keys
from vault_fields.rows.walk import StoredRows
from vault_fields.stored import companion as companion_format
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db

ROOT_KEY = generate_root_key()
LABEL = IndexKeys.label


@pytest.fixture
def vault(settings, tmp_path: Path) -> Iterator[LocalVault]:
    path = tmp_path / "vault.sqlite3"
    make_keystore(path, ROOT_KEY)
    entry = {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": {"path": path, "root_key": ROOT_KEY}}
    settings.VAULTS = {"default": entry, "hosted": entry}
    yield vaults["default"]  # type: ignore[misc]
    vaults.reset()


@pytest.fixture
def contact(vault, organization: Organization) -> Contact:
    return Contact.objects.create(organization=organization, ssn="1")


def item(organization: Organization) -> tuple[str, str]:
    return "organization_id", str(organization.pk)


def rekey(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("vault_rekey", *arguments, stdout=out, stderr=out, **options)
    return out.getvalue()


def found(contact: Contact) -> bool:
    """Whether the row is found by a process that has no key yet."""
    vaults.purge()
    return Contact.objects.filter(organization=contact.organization_id, ssn="1").exists()


def proof(vault: Any, organization: Organization) -> ShredReport:
    return prove_shredded(vault, *item(organization), places())


# Versions and owners.


def test_index_keys_are_counted_among_what_hangs_on_a_version(vault, contact, organization) -> None:
    kek = vault.service.keks.rotate(*item(organization))
    assert versions_in_use(vault, kek.id, places()).versions == {1: 2}, "the value, and the index key"

    assert f"{LABEL}: of 1 row with encrypted values, 1 rekeyed" in rekey("testapp.Contact", "ssn", rewrap=True)

    assert versions_in_use(vault, kek.id, places()).versions == {2: 2}
    vault.service.keks.retire(*item(organization), before=2)
    assert found(contact)


def test_a_dry_run_counts_and_writes_nothing(vault, contact, organization) -> None:
    vault.service.keks.rotate(*item(organization))
    before = IndexKey.objects.get().companion
    said = rekey("--all", rewrap=True, dry_run=True)
    assert f"{LABEL}: of 1 row with encrypted values, 1 would be rekeyed" in said
    assert IndexKey.objects.get().companion == before


def test_index_keys_are_left_as_they_are_by_a_command_for_another_model(vault, contact, organization) -> None:
    vault.service.keks.rotate(*item(organization))
    assert LABEL not in rekey("testapp.Patient", rewrap=True)
    assert f"{LABEL}: of 1 row with encrypted values, 0 rekeyed" in rekey("--all")


def test_an_index_key_is_wrapped_by_the_customers_key_and_needs_the_managed_one_no_more(
    vault, contact, organization, key_file
) -> None:
    byok = vault.service.byok
    byok.configure(*item(organization), provider="file", settings={"path": str(key_file)})
    byok.verify(*item(organization))
    byok.activate(*item(organization))
    assert owner_counts(vault, *item(organization), places())[LABEL] == OwnerCounts(managed=1)

    rekey("--all", rewrap=True)

    assert owner_counts(vault, *item(organization), places())[LABEL] == OwnerCounts(customer=1, unverified=1)
    vault.service.keks.disable(*item(organization))
    assert found(contact)
    byok.disable(*item(organization))
    with pytest.raises(KeyRevoked):
        found(contact)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "customer.key"
    path.touch(0o600)
    path.write_bytes(bytes(range(32)))
    return path


def test_index_keys_of_several_vaults_and_contexts_are_wrapped_together(
    vault, contact, organization, other_organization
) -> None:
    Contact.objects.create(organization=other_organization, ssn="1", email="a@example.org")
    for each in (organization, other_organization):
        vault.service.keks.rotate(*item(each))
    said = rekey("--all", rewrap=True, batch_size=2)
    assert f"{LABEL}: of 3 rows with encrypted values, 2 rekeyed" in said, "and the global one is current"
    assert found(contact)


# Faults.


def test_an_altered_index_key_is_left_alone_and_said_to_be(vault, contact, organization, other_organization) -> None:
    Contact.objects.create(organization=other_organization, ssn="1")
    vault.service.keks.rotate(*item(organization))
    mine, other = IndexKey.objects.order_by("pk")
    IndexKey.objects.filter(pk=mine.pk).update(companion=other.companion)
    IndexKey.objects.filter(pk=other.pk).update(companion="{}")
    said = io.StringIO()
    with pytest.raises(CommandError, match="2 rows were left alone"):
        call_command("vault_rekey", "--all", "--rewrap", stdout=said, stderr=said)
    assert f"vault_fields.IndexKey (pk={mine.pk}): the index key of ['organization_id'] is that of another" in (
        said.getvalue()
    )
    assert proof(vault, organization).broken == 2
    assert owner_counts(vault, *item(organization), places())[LABEL].unreadable == 1


def test_an_index_key_whose_proof_is_false_is_not_wrapped(vault, contact, organization) -> None:
    vault.service.keks.rotate(*item(organization))
    row = IndexKey.objects.get()
    said = companion_format.decode(row.companion)
    other = vault.create_data_key(said.context)
    forged = companion_format.Companion(said.vault, said.key_id, said.encrypted_keys, said.context, said.row)
    row.companion = companion_format.encode(companion_format.proven(forged, other))
    row.save()
    problems: list[str] = []
    report = rekey_index_keys("default", rewrap=True, on_problem=problems.append)
    assert (report.rekeyed, report.failed, report.left_alone) == (0, 1, {row.pk})
    assert problems[0].startswith(f"vault_fields.IndexKey (pk={row.pk}): ")


def test_an_index_key_that_somebody_writes_meanwhile_is_looked_at_again(
    vault, contact, organization, monkeypatch
) -> None:
    vault.service.keks.rotate(*item(organization))
    write, inner = IndexKeyRows.write, []

    def after_another(self: IndexKeyRows, changes: Any) -> Any:
        if not inner:
            inner.append(None)
            inner.append(rekey_index_keys("default", rewrap=True, on_problem=pytest.fail).rekeyed)
        return write(self, changes)

    monkeypatch.setattr(IndexKeyRows, "write", after_another)
    assert rekey_index_keys("default", rewrap=True, on_problem=pytest.fail).rekeyed == 0
    assert inner == [None, 1]
    assert found(contact)


def test_an_index_key_that_the_vault_does_not_wrap_is_left_alone(vault, contact, organization) -> None:
    vault.service.keks.rotate(*item(organization))
    vault.service.keks.disable(*item(organization))
    problems: list[str] = []
    vaults.purge()
    report = rekey_index_keys("default", rewrap=True, on_problem=problems.append)
    assert (report.rekeyed, report.failed) == (0, 1)
    assert len(problems) == 1


# Moves between vaults.


def test_an_index_key_of_the_former_vault_is_said_to_be_left(vault, contact, settings, tmp_path) -> None:
    make_keystore(tmp_path / "next.sqlite3", ROOT_KEY)
    old = settings.VAULTS["default"]
    new = {**old, "OPTIONS": {"path": tmp_path / "next.sqlite3", "root_key": ROOT_KEY}}
    settings.VAULTS = {"default": {**old, "SUCCESSOR": "next"}, "next": new}
    said = io.StringIO()
    with pytest.raises(CommandError, match="1 row was left alone"):
        call_command("vault_rekey", "--all", stdout=said, stderr=said)
    assert "the index key is in the vault 'default', and new ones come from 'next'" in said.getvalue()
    assert where_stored("default") == LABEL, "its keystore must not be given up"


def test_an_index_moves_to_another_vault_and_needs_the_former_one_no_more(vault, contact, settings, tmp_path) -> None:
    make_keystore(tmp_path / "next.sqlite3", ROOT_KEY)
    old = settings.VAULTS["default"]
    new = {**old, "OPTIONS": {"path": tmp_path / "next.sqlite3", "root_key": ROOT_KEY}}
    settings.VAULTS = {"default": {**old, "SUCCESSOR": "next"}, "next": new}
    with pytest.raises(CommandError, match="1 row was left alone"):
        rekey("--all")
    assert found(contact), "by the key in the former vault"

    call_command("vault_index", rotate=True, offline=True, stdout=io.StringIO())

    rekey("--all")
    assert where_stored("default") is None
    settings.VAULTS = {"default": {"SUCCESSOR": "next"}, "next": new}
    assert found(contact)
    assert Contact.objects.get_or_create(organization=contact.organization, ssn="1") == (contact, False)


# Shredding.


def test_destroying_a_tenants_key_ends_its_index_and_the_proof_says_so(
    vault, contact, organization, other_organization
) -> None:
    other = Contact.objects.create(organization=other_organization, ssn="1")
    vault.service.keks.destroy(*item(organization), after=timedelta(0))

    report = proof(vault, organization)

    assert report.proven
    assert (report.unreadable, report.index_keys, report.hashes, report.global_hashes) == (2, 1, 1, 0)
    assert (report.others, report.readable) == (2, 0), "the other tenant's value, and its index key"
    assert str(report).endswith(
        "Of the values of this key 1 is an index key. Its rows have 1 hash left, which tell which values were equal."
    )
    for ask in (
        lambda: Contact.objects.filter(organization=organization, ssn="1").exists(),
        lambda: list(Contact.objects.exclude(organization=organization, ssn="1")),
        lambda: Contact.objects.get_or_create(organization=organization, ssn="1"),
    ):
        with pytest.raises(KeyRevoked):
            ask()
    assert found(other)


def test_an_index_key_that_still_opens_is_no_proof(vault, contact, organization) -> None:
    """An index key may have been wrapped by other keys than the rows were."""
    Contact.objects.filter(pk=contact.pk).update(ssn=None)
    report = proof(vault, organization)
    assert (report.readable, report.index_keys, report.proven) == (1, 1, False)


def test_a_hash_of_a_global_index_is_no_proof_before_it_is_deleted(vault, contact, organization) -> None:
    contact.email = "ada@example.org"
    contact.save()
    vault.service.keks.destroy(*item(organization), after=timedelta(0))

    report = proof(vault, organization)

    assert (report.global_hashes, report.hashes, report.proven) == (1, 1, False)
    assert str(report).endswith(
        "Its rows have 1 hash of global indexes left, whose index key opens: values can be found out by trying. "
        "Delete them with `vault_kek unindex`."
    )
    assert Contact.objects.filter(email="ada@example.org").exists()

    unindex(organization)

    report = proof(vault, organization)
    assert (report.global_hashes, report.hashes, report.proven) == (0, 0, True)
    assert not Contact.objects.filter(email="ada@example.org").exists()


def unindex(organization: Organization) -> str:
    out = io.StringIO()
    call_command("vault_kek", "unindex", "=".join(item(organization)), stdout=out)
    return out.getvalue()


def test_hashes_of_shredded_values_are_deleted_and_no_others(vault, contact, organization, other_organization) -> None:
    other = Contact.objects.create(organization=other_organization, ssn="1", email="b@example.org")
    bare = Contact.objects.create(organization=other_organization)
    Contact.objects.create(organization=organization, ssn="2", email="b@example.org")
    vault.service.keks.destroy(*item(organization), after=timedelta(0))

    said = unindex(organization)

    assert "[default] testapp.Contact.ssn_keys: 2 rows lost their hashes, 0 left alone.\n" in said
    assert "[default] testapp.Contact.email_keys: 1 row lost its hashes, 0 left alone.\n" in said
    assert list(Contact.objects.filter(email="b@example.org")) == [other]
    assert set(Contact.objects.filter(ssn_index=None)) == {*Contact.objects.filter(organization=organization), bare}
    assert "testapp.Contact.ssn_keys: 0 rows lost their hashes, 0 left alone.\n" in unindex(organization)


def test_hashes_of_values_that_open_or_may_again_are_left(vault, contact, organization) -> None:
    for prepare in (lambda: None, lambda: vault.service.keks.disable(*item(organization))):
        prepare()
        with pytest.raises(CommandError, match="The values of 1 row are not known to be gone"):
            unindex(organization)
    Contact.objects.filter(pk=contact.pk).update(organization=organization)
    vault.service.keks.destroy(*item(organization), after=timedelta(0))
    with pytest.raises(CommandError, match="The values of 1 row"):
        call_command("vault_kek", "unindex", "=".join(item(organization)), vault="hosted", stdout=io.StringIO())
    assert Contact.objects.exclude(ssn_index=None).count() == 1


@pytest.mark.parametrize("answer", [VaultRefused, KeyUnavailable])
def test_hashes_of_values_of_which_nothing_is_known_are_left(vault, contact, organization, monkeypatch, answer) -> None:
    def decrypt_data_key(encrypted_keys: str) -> None:
        raise answer("not told")

    monkeypatch.setattr(vault, "decrypt_data_key", decrypt_data_key)
    with pytest.raises(CommandError, match="The values of 1 row"):
        unindex(organization)


def test_a_row_that_cannot_be_read_keeps_its_hash(vault, contact, organization) -> None:
    vault.service.keks.destroy(*item(organization), after=timedelta(0))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE testapp_contact SET ssn_keys = 'x'")
    assert "testapp.Contact.ssn_keys: 0 rows lost their hashes, 0 left alone." in unindex(organization)


def test_a_row_that_somebody_writes_meanwhile_keeps_its_new_hash(
    vault, contact, organization, other_organization, monkeypatch
) -> None:
    vault.service.keks.destroy(*item(organization), after=timedelta(0))
    write, others = StoredRows.write, [lambda: Contact(pk=contact.pk, organization=other_organization, ssn="1").save()]

    def after_another(self: StoredRows, names: Any, changes: Any) -> Any:
        if others:
            others.pop()()
        return write(self, names, changes)

    monkeypatch.setattr(StoredRows, "write", after_another)
    assert "testapp.Contact.ssn_keys: 0 rows lost their hashes, 0 left alone." in unindex(organization)
    assert Contact.objects.get(organization=other_organization, ssn="1") == contact


# Tables.


def test_a_database_without_the_table_has_no_index_keys(vault, contact, monkeypatch) -> None:
    assert [place.label for place in places(["default"])].count(LABEL) == 1
    monkeypatch.setattr(IndexKey._meta, "db_table", "nowhere")
    assert LABEL not in {place.label for place in places()}


def test_a_project_without_the_application_has_no_index_keys(vault, contact, settings) -> None:
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != "vault_fields"]
    assert not IndexKeyRows("default").exist()


def test_a_database_that_routers_leave_out_has_no_index_keys(vault, contact, settings) -> None:
    class Nowhere:
        def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
            return app_label != "vault_fields"

    settings.DATABASE_ROUTERS = [Nowhere()]
    assert not IndexKeyRows("default").exist()


def test_each_place_tells_how_much_is_there(vault, contact) -> None:
    """Progress bars ask."""
    counts = {place.label: place.count() for place in places(["default"])}
    assert (counts["testapp.Contact.ssn_keys"], counts["testapp.Patient.ssn_keys"], counts[LABEL]) == (1, 0, 1)
    assert IndexKeyRows("default").count() == 1


def test_index_keys_are_read_a_page_at_a_time(vault, contact, other_organization, django_assert_num_queries) -> None:
    Contact.objects.create(organization=other_organization, ssn="1")
    with django_assert_num_queries(3):
        assert sum(each.values for each in stored_keys([IndexKeys("default")], batch_size=1)) == 2
