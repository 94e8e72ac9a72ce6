"""Hashes are written with their values, on every path, and found by them."""

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from uuid import UUID

import django
import pytest
from django.core import serializers
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import connection, models, transaction
from django.test.utils import isolate_apps

from tests.testapp.models import Contact, Organization
from vault_fields import normalize
from vault_fields.exceptions import DecryptionError, EnvelopeError, IndexKeyMissing, KeyRevoked, ValueRefused
from vault_fields.fields import BlindIndex, EncryptedJSONField, EncryptedTextField, IndexField
from vault_fields.fields.groups import groups_of
from vault_fields.fields.queryhooks import djangos_updates
from vault_fields.fields.saving import load_missing
from vault_fields.models import IndexKey
from vault_fields.rows.rekey import reencrypt_group
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db


@contextmanager
def rolled_back() -> Iterator[None]:
    """Roll back what is written within the block."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture
def first() -> Organization:
    return Organization.objects.create(workos_id="org_a")


@pytest.fixture
def second() -> Organization:
    return Organization.objects.create(workos_id="org_b")


def has(contact: Contact, ssn: str) -> bool:
    return Contact.objects.filter(organization=contact.organization_id, ssn=ssn, pk=contact.pk).exists()


def test_equal_values_of_two_tenants_have_different_hashes(first, second) -> None:
    one, other = (Contact.objects.create(organization=each, ssn="1") for each in (first, second))
    same = Contact.objects.create(organization=first, ssn="1")
    assert one.ssn_index == same.ssn_index != other.ssn_index
    assert one.ssn_index.version == 4


def test_a_global_index_finds_values_without_a_tenant(first, second) -> None:
    one = Contact.objects.create(organization=first, email="Ada@Example.org")
    other = Contact.objects.create(organization=second, email="ada@example.ORG")
    assert one.email_index == other.email_index
    assert set(Contact.objects.filter(email="ADA@example.org")) == {one, other}
    assert set(Contact.objects.filter(email__iexact="ada@example.org")) == {one, other}
    assert set(Contact.objects.filter(email__in=["ADA@example.org", None, "nobody"])) == {one, other}
    assert not Contact.objects.filter(email__in=[]).exists()
    assert not Contact.objects.exclude(email="ada@example.org").exists()
    with pytest.raises(FieldError, match="lookup 'iexact'"):
        Contact.objects.filter(organization=first, ssn__iexact="1")
    with pytest.raises(FieldError, match="lookup 'contains'"):
        Contact.objects.filter(email__contains="ada")


def test_every_way_to_write_writes_the_hash(first, second) -> None:
    contact = Contact.objects.create(organization=first, ssn="1")
    assert has(contact, "1")
    contact.ssn = "2"
    contact.save()
    assert has(contact, "2")
    contact.ssn = "3"
    contact.save(update_fields=["ssn"])
    assert has(contact, "3")
    contact.ssn = "4"
    Contact.objects.bulk_update([contact], ["ssn"])
    assert has(contact, "4")
    Contact.objects.filter(pk=contact.pk).update(ssn="5")
    assert has(contact, "5")
    Contact.objects.filter(pk=contact.pk).update(organization=second)
    contact.refresh_from_db()
    assert has(contact, "5")
    contact.organization = first
    contact.save()
    assert has(contact, "5")
    Contact.objects.bulk_create(
        [Contact(pk=contact.pk, organization=first, ssn="6", email="e")],
        update_conflicts=True,
        update_fields=["ssn", "email", "organization"],
        unique_fields=["pk"] if connection.features.supports_update_conflicts_with_target else None,
    )
    assert has(contact, "6")
    Contact.objects.filter(pk=contact.pk).update(ssn=None)
    contact.refresh_from_db()
    assert (contact.ssn, contact.ssn_index) == (None, None)
    contact.ssn = ""
    contact.save()
    assert has(contact, "")
    contact.ssn = None
    contact.save()
    contact.refresh_from_db()
    assert contact.ssn_index is None


def test_a_lookup_finds_what_get_or_create_created(first) -> None:
    made, is_new = Contact.objects.get_or_create(organization=first, ssn="1", defaults={"plain": "x"})
    assert is_new
    assert Contact.objects.get_or_create(organization=first, ssn="1") == (made, False)
    found, is_new = Contact.objects.update_or_create(organization=first, ssn="1", defaults={"ssn": "2"})
    assert (found, is_new) == (made, False)
    assert has(made, "2")


def test_a_refreshed_value_brings_its_hash(first) -> None:
    contact = Contact.objects.create(organization=first, ssn="1")
    Contact.objects.filter(pk=contact.pk).update(ssn="2")
    contact.refresh_from_db(fields=["ssn"])
    contact.save()
    assert has(contact, "2")


def test_a_row_read_without_its_hash_is_written_with_it(first) -> None:
    Contact.objects.create(organization=first, ssn="1")
    contact = Contact.objects.only("ssn", "plain", "organization").get()
    contact.save(update_fields=["ssn"])
    assert has(contact, "1")
    contact = Contact.objects.defer("ssn", "ssn_keys").get()
    contact.plain = "x"
    contact.save()
    assert has(contact, "1")


def test_a_deferred_member_does_not_undo_another_writer(first) -> None:
    contact = Contact.objects.create(organization=first, ssn="1", email="a")
    stale = Contact.objects.get()
    contact.ssn = "2"
    contact.save()
    stale.email = "b"
    stale.save(update_fields=["email"])
    assert has(contact, "2")
    assert Contact.objects.get(email="b") == contact


def other_writer(contact: Contact, ssn: str) -> None:
    other = Contact.objects.get(pk=contact.pk)
    other.ssn = ssn
    other.save()


def test_a_hash_that_is_read_later_than_its_value_is_not_written_beside_it(first) -> None:
    contact = Contact.objects.create(organization=first, ssn="1")
    stale = Contact.objects.get()
    other_writer(contact, "2")
    stale.refresh_from_db(fields=["ssn_index"])
    stale.save()
    assert (stale.ssn, has(contact, "1"), has(contact, "2")) == ("1", True, False)
    stale = Contact.objects.defer("ssn_index").get()
    other_writer(contact, "3")
    assert stale.ssn_index is not None
    stale.save()
    assert (stale.ssn, has(contact, "1"), has(contact, "3")) == ("1", True, False)


def test_a_value_that_is_read_later_than_its_hash_is_written_with_its_own(first) -> None:
    contacts = [Contact.objects.create(organization=first, ssn=each) for each in "12"]
    queryset = Contact.objects.defer("ssn").order_by("pk")
    if django.VERSION >= (6, 1):
        queryset = queryset.fetch_mode(models.FETCH_PEERS)
    stale = list(queryset)
    for contact in contacts:
        other_writer(contact, f"{contact.ssn}0")
    assert [each.ssn for each in stale] == ["10", "20"]
    for each in stale:
        each.save()
    assert [has(each, f"{each.ssn}") for each in contacts] == [False, False]
    assert [has(each, f"{each.ssn}0") for each in contacts] == [True, True]


def test_a_deferred_value_that_saving_loads_is_written_with_its_own_hash(first) -> None:
    contact = Contact.objects.create(organization=first, ssn="1")
    stale = Contact.objects.defer("ssn").get()
    other_writer(contact, "2")
    load_missing([stale], next(group for group in groups_of(Contact) if "ssn" in group.member_names))
    stale.save()
    assert has(contact, "2")


def test_an_assigned_hash_is_made_again(first) -> None:
    contact = Contact.objects.create(organization=first, ssn="1")
    read = Contact.objects.get()
    read.ssn_index = None
    read.save()
    assert has(contact, "1")
    read = Contact.objects.get()
    del read.ssn_index
    with pytest.raises(AttributeError, match="ssn_index"):
        del read.ssn_index
    assert read.ssn_index is not None


def test_a_hash_that_was_made_in_a_rolled_back_transaction_is_made_again(first) -> None:
    Contact.objects.create(organization=first, ssn="1")
    IndexKey.objects.all().delete()
    djangos_updates()[0](Contact.objects.all(), ssn_index=None)
    copied = Contact.objects.defer("ssn_index").get()
    for write in (rolled_back, nullcontext):
        copied.pk = None
        with write():
            Contact.objects.bulk_create([copied])
    assert has(copied, "1")


def test_hashes_cannot_be_written_by_themselves(first) -> None:
    contact = Contact.objects.create(organization=first, ssn="1")
    with pytest.raises(FieldError, match="ssn_index holds hashes"):
        Contact.objects.update(ssn_index=None)
    assert has(contact, "1")


def test_a_first_key_that_was_rolled_back_is_not_used_again(first) -> None:
    contact = Contact(organization=first, ssn="1")
    with rolled_back():
        contact.save()
    assert not IndexKey.objects.exists()
    contact._state.adding, contact.pk = True, None
    contact.save()
    assert has(contact, "1")
    with rolled_back():
        Contact.objects.update(ssn=None)
        IndexKey.objects.all().delete()
        contact.ssn = "2"
        contact.save()
    contact.save()
    assert has(contact, "2")


def test_a_fixture_keeps_hashes_and_their_keys(first) -> None:
    contact = Contact.objects.create(organization=first, ssn="1")
    fixture = serializers.serialize("json", [*IndexKey.objects.all(), contact])
    assert "ssn_index" in fixture
    Contact.objects.all().delete()
    IndexKey.objects.all().delete()
    for each in serializers.deserialize("json", fixture):
        each.save()
    assert has(contact, "1")


def test_a_lost_index_key_is_not_replaced_unseen(first, second) -> None:
    contact = Contact.objects.create(organization=first, ssn="1")
    IndexKey.objects.all().delete()
    with (
        pytest.raises(IndexKeyMissing, match=r"testapp.Contact.ssn \(pk=None\): rows of this key context"),
        transaction.atomic(),
    ):
        Contact.objects.create(organization=first, ssn="2")
    assert Contact.objects.get() == contact
    Contact.objects.create(organization=second, ssn="2", email="x")
    IndexKey.objects.all().delete()
    with pytest.raises(IndexKeyMissing, match="testapp.Contact.email"), transaction.atomic():
        Contact.objects.create(organization=Organization.objects.create(workos_id="org_c"), email="y")


def test_an_index_key_of_somebody_else_is_refused(first, second) -> None:
    Contact.objects.create(organization=first, ssn="1")
    Contact.objects.create(organization=second, ssn="1")
    one, other = IndexKey.objects.order_by("pk")
    IndexKey.objects.filter(pk=one.pk).update(companion=other.companion)
    with pytest.raises(EnvelopeError, match="that of another key context"):
        Contact.objects.filter(organization=first, ssn="1").exists()
    with pytest.raises(DecryptionError, match=r"testapp.Contact.ssn \(pk=None\)"), transaction.atomic():
        Contact.objects.create(organization=first, ssn="1")
    companion = Contact.objects.values_list("ssn_keys", flat=True).get(organization=first)
    IndexKey.objects.filter(pk=one.pk).update(companion=companion)
    with pytest.raises(EnvelopeError, match="or of a row"):
        Contact.objects.filter(organization=first, ssn="1").exists()
    forged = one.companion[:-8] + ("A" if one.companion[-8] != "A" else "B") + one.companion[-7:]
    IndexKey.objects.filter(pk=one.pk).update(companion=forged)
    with pytest.raises(DecryptionError, match="does not open"):
        Contact.objects.filter(organization=first, ssn="1").exists()


def test_a_withdrawn_key_does_not_read_as_not_found(first, monkeypatch) -> None:
    Contact.objects.create(organization=first, ssn="1")
    vault = vaults["default"]
    vault.purge()

    def revoked(wanted: object) -> dict[str, KeyRevoked]:
        return {name: KeyRevoked("The key is disabled.") for name in wanted}  # type: ignore[attr-defined]

    monkeypatch.setattr(vault, "decrypt_data_keys", revoked)
    for queryset in (Contact.objects.filter(organization=first, ssn="1"), first.contacts.exclude(ssn="1")):
        with pytest.raises(KeyRevoked):
            queryset.exists()


def test_two_makers_of_an_index_key_use_the_same_one(first, monkeypatch) -> None:
    from vault_fields.fields import indexing, indexkeys

    Contact.objects.create(organization=first, ssn="1")
    Contact.objects.update(ssn=None)
    with monkeypatch.context() as patched:
        patched.setattr(indexing, "find_written_keys", lambda wanted, using: {})
        contact = Contact.objects.create(organization=first, ssn="2")
    assert IndexKey.objects.count() == 1
    assert has(contact, "2")
    read = indexkeys._read
    with monkeypatch.context() as patched:
        # An old snapshot does not show the row that another transaction has committed.
        patched.setattr(indexing, "find_written_keys", lambda wanted, using: {})
        patched.setattr(indexing, "require_never_used", lambda *args: None)
        patched.setattr(indexkeys, "_read", lambda *args, lock=False: read(*args, lock=True) if lock else {})
        contact = Contact.objects.create(organization=first, ssn="3")
    assert has(contact, "3")


def test_a_key_that_somebody_made_meanwhile_is_not_a_lost_one(first, second, monkeypatch) -> None:
    from vault_fields.fields import indexing, searching

    contact = Contact.objects.create(organization=first, ssn="1", email="e")
    find = [lambda wanted, using: {}, searching.find_keys]

    def find_keys(wanted: object, using: str) -> object:
        return find.pop(0)(wanted, using)

    with monkeypatch.context() as patched:
        patched.setattr(searching, "find_keys", find_keys)
        assert has(contact, "1")
        assert not find
        patched.setattr(searching, "find_keys", lambda wanted, using: {})
        assert not Contact.objects.filter(organization=second, ssn="1").exists()
        patched.setattr(indexing, "find_written_keys", lambda wanted, using: {})
        contact = Contact.objects.create(organization=first, ssn="2", email="f")
    assert has(contact, "2")
    assert IndexKey.objects.count() == 2


def test_costs_are_one_query_for_the_index_key_and_no_call_when_warm(first, django_assert_num_queries) -> None:
    Contact.objects.create(organization=first, ssn="1")
    with django_assert_num_queries(2):
        assert Contact.objects.get(organization=first, ssn="1")
    vault = vaults["default"]
    vault.purge()
    calls = dict(vault.calls)
    for _ in range(3):
        assert Contact.objects.filter(organization=first, ssn="1").exists()
    assert vault.calls["decrypt"] - calls.get("decrypt", 0) == 1
    assert vault.calls["create"] == calls["create"]
    with django_assert_num_queries(2):
        Contact.objects.bulk_create([Contact(organization=first, ssn=str(each)) for each in range(3)])


def test_a_query_does_not_show_what_it_looks_for(first) -> None:
    queryset = Contact.objects.filter(organization=first, ssn="078-05-1120")
    assert "078" not in str(queryset.query)
    assert "078" not in repr(queryset.query.where)
    with pytest.raises(TypeError, match="cannot be pickled or cached"):
        pickle.dumps(queryset.query)
    assert copy.copy(queryset.query.where.children[1]).rhs != "078-05-1120"
    assert not copy.deepcopy(queryset).exists()
    again = Contact.objects.filter(organization=first, ssn="078-05-1120")
    assert queryset.query.where.children[1] == again.query.where.children[1]
    assert hash(queryset.query.where.children[1]) == hash(again.query.where.children[1])


def test_a_value_that_cannot_be_encrypted_cannot_be_looked_for(first) -> None:
    with pytest.raises(FieldError, match="lone surrogate") as caught:
        Contact.objects.filter(organization=first, ssn="078\ud800")
    assert "078" not in str(caught.value)


def test_reencryption_keeps_rows_found(first) -> None:
    contact = Contact.objects.create(organization=first, ssn="1")
    (group,) = (group for group in groups_of(Contact) if group.companion == "ssn_keys")
    problems: list[str] = []
    reencrypt_group(group, on_problem=problems.append)
    assert not problems
    assert has(contact, "1")


def test_a_normalization_that_fails_shows_no_value(first, monkeypatch) -> None:
    def fail(text: str) -> str:
        raise LookupError(text)

    monkeypatch.setattr(Contact._meta.get_field("ssn_index"), "normalize", fail)
    with pytest.raises(ValueRefused, match=r"index 'ssn_index' failed \(LookupError\)") as caught, transaction.atomic():
        Contact.objects.create(organization=first, ssn="078")
    assert "078" not in str(caught.value)
    assert caught.value.__context__ is None
    monkeypatch.setattr(Contact._meta.get_field("ssn_index"), "normalize", lambda text: None)
    assert Contact.objects.create(organization=first, ssn="078").ssn_index is None
    assert not Contact.objects.filter(organization=first, ssn="078").exists()


def test_the_table_of_index_keys_is_needed(first, monkeypatch) -> None:
    from vault_fields.fields import indexkeys

    def get_model(*names: str) -> None:
        raise LookupError

    monkeypatch.setattr(indexkeys.apps, "get_model", get_model)
    with pytest.raises(ImproperlyConfigured, match="add 'vault_fields' to INSTALLED_APPS"):
        Contact.objects.create(organization=first, ssn="1")


@pytest.mark.parametrize("index", ["tenant", 1, object()])
def test_an_index_that_is_none_is_refused(index) -> None:
    with pytest.raises(TypeError, match="index is True"):
        EncryptedTextField(key_context=["organization_id"], index=index)


def test_json_has_no_index() -> None:
    with pytest.raises(TypeError, match="EncryptedJSONField has no index"):
        EncryptedJSONField(key_context=["organization_id"], index=True)


def test_options_of_an_index_are_checked() -> None:
    with pytest.raises(ValueError, match="scope is"):
        BlindIndex(scope="tenant")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="normalize is a function"):
        BlindIndex(normalize="casefold")  # type: ignore[arg-type]
    (index,) = EncryptedTextField(key_context=["organization_id"], index="global").indexes
    assert index.scope == "global"


def test_an_index_column_is_made_again_from_a_migration() -> None:
    for name in ("ssn_index", "email_index"):
        column = Contact._meta.get_field(name)
        _, path, args, options = column.deconstruct()
        assert path == "vault_fields.fields.IndexField"
        again = IndexField(*args, **options)
        assert (again.normalize, again.scope) == (column.normalize, column.scope)
        assert (again.null, again.db_index, again.editable) == (True, True, False)


@isolate_apps("tests.testapp")
def test_the_oldest_label_names_the_index() -> None:
    class Base(models.Model):
        tenant = models.CharField(max_length=10)
        ssn = EncryptedTextField(key_context=["tenant"], index=True)

        class Meta:
            abstract = True
            app_label = "testapp"

    class Renamed(Base):
        code = EncryptedTextField(key_context=["tenant"], index=True, former_labels=["testapp.Old.code"])
        pin = EncryptedTextField(key_context=["tenant"], index=BlindIndex(label="pins"))

        class Meta:
            app_label = "testapp"

    labels = {name: Renamed._meta.get_field(f"{name}_index").index_label for name in ("ssn", "code", "pin")}
    assert labels == {"ssn": "testapp.Renamed.ssn", "code": "testapp.Old.code", "pin": "pins"}


@isolate_apps("tests.testapp")
def test_a_copied_index_column_stands_for_the_one_that_the_field_would_add() -> None:
    class Copied(models.Model):
        tenant = models.CharField(max_length=10)
        ssn = EncryptedTextField(key_context=["tenant"], index=True)
        ssn_index = IndexField("ssn", label="testapp.Original.ssn")
        pin_index = IndexField("pin", label="testapp.Original.pin")
        pin = EncryptedTextField(key_context=["tenant"], index=True)

        class Meta:
            app_label = "testapp"

    columns = [field for field in Copied._meta.local_fields if isinstance(field, IndexField)]
    assert {field.index_label for field in columns} == {"testapp.Original.ssn", "testapp.Original.pin"}
    assert len(columns) == 2


def test_an_index_key_does_not_say_whose_it_is() -> None:
    assert str(IndexKey(pk=5)) == "index key 5"


@pytest.mark.parametrize(
    ("function", "text", "normal"),
    [
        (normalize.casefold, "Straße@X", "strasse@x"),
        (normalize.nfkc, "ﬁle", "file"),
        (normalize.nfkc_casefold, "ＡＢＣ", "abc"),
        (normalize.digits, "078-05 1120", "078051120"),
        (normalize.digits, "٣", "3"),
        (normalize.digits, "none", None),
        (normalize.last_four, "4111 1111 1111 1234", "1234"),
        (normalize.last_four, "123", None),
        (normalize.last_four, "none", None),
    ],
)
def test_normalizations(function, text, normal) -> None:
    assert function(text) == normal


def test_hashes_of_all_kinds_of_bytes_are_taken_by_the_database(first) -> None:
    Contact.objects.bulk_create([Contact(organization=first, ssn=str(number)) for number in range(300)])
    assert Contact.objects.filter(organization=first, ssn__in=[str(number) for number in range(300)]).count() == 300
    assert isinstance(Contact.objects.first().ssn_index, UUID)


def test_rows_of_several_indexes_and_none_are_written_together(first) -> None:
    contact = Contact(organization=first, ssn="1", email="E")
    contact.save()
    contact.email = "f"
    contact.save()
    assert has(contact, "1")
    assert Contact.objects.get(email="F") == contact
