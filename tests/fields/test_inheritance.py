"""Abstract, multi-table and proxy models, and foreign keys that do not point to primary keys."""

import pytest
from django.core import serializers
from django.db import models, transaction
from django.db.models import Value
from django.db.models.signals import post_init
from django.test.utils import isolate_apps

from tests.testapp.models import (
    ApiKey,
    Branch,
    Certificate,
    Office,
    Share,
    ShortApiKey,
    Vip,
    Visit,
    WildcardCertificate,
)
from vault_fields.exceptions import DecryptionError, KeyContextMismatch, ValueRefused
from vault_fields.fields import BlindIndex, EncryptedTextField
from vault_fields.normalize import last_four
from vault_fields.stored import companion
from vault_fields.testing import assert_vault_calls


@pytest.fixture
def wildcard(organization):
    with assert_vault_calls(create=1):
        return WildcardCertificate.objects.create(
            organization=organization, label="w", secret="s", chain="c", pattern="*.example.org"
        )


def test_a_row_in_three_tables_is_one_call_and_opens_from_each(wildcard) -> None:
    with assert_vault_calls(decrypt=1, cold=True):
        row = WildcardCertificate.objects.get()
        assert (row.secret, row.chain, row.pattern) == ("s", "c", "*.example.org")
    assert ApiKey.objects.get().secret == "s"
    assert Certificate.objects.get().chain == "c"
    assert WildcardCertificate.objects.values_list("secret", "chain", "pattern").get() == ("s", "c", "*.example.org")
    assert WildcardCertificate.objects.only("pattern").get().pattern == "*.example.org"
    assert ApiKey.objects.select_related("certificate__wildcardcertificate").get().certificate.chain == "c"


def test_update_fields_reaches_the_table_that_owns_the_column(wildcard) -> None:
    row = WildcardCertificate.objects.get()
    row.secret, row.pattern = "new s", "new p"
    row.save(update_fields=["pattern"])
    reloaded = WildcardCertificate.objects.get()
    assert (reloaded.secret, reloaded.pattern) == ("s", "new p")
    row.save(update_fields=["secret"])
    assert WildcardCertificate.objects.get().secret == "new s"


def test_a_changed_context_reaches_every_table(wildcard, other_organization) -> None:
    row = WildcardCertificate.objects.get()
    row.organization = other_organization
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        row.save()
    reloaded = WildcardCertificate.objects.get()
    assert (reloaded.secret, reloaded.chain, reloaded.pattern) == ("s", "c", "*.example.org")
    row.organization_id = wildcard.organization_id
    row.save(update_fields=["organization"])
    assert WildcardCertificate.objects.get().pattern == "*.example.org"


def test_a_context_that_changed_in_the_parents_table_is_noticed_in_the_childs(
    wildcard, other_organization, move
) -> None:
    move(ApiKey, other_organization)
    for read in (
        lambda: WildcardCertificate.objects.get().pattern,
        lambda: WildcardCertificate.objects.only("pattern").get().pattern,
        lambda: WildcardCertificate.objects.values_list("pattern").get(),
        lambda: Certificate.objects.get().chain,
    ):
        with pytest.raises(KeyContextMismatch, match="organization_id"):
            read()


def test_bulk_update_of_a_child_writes_to_both_tables(wildcard) -> None:
    row = WildcardCertificate.objects.get()
    row.secret, row.pattern = "new s", "new p"
    WildcardCertificate.objects.bulk_update([row], ["secret", "pattern"])
    reloaded = WildcardCertificate.objects.get()
    assert (reloaded.secret, reloaded.chain, reloaded.pattern) == ("new s", "c", "new p")


def test_the_row_of_a_parent_holds_what_its_child_holds(wildcard, stored) -> None:
    before = stored(ApiKey.objects.get(), "secret")
    with assert_vault_calls(cold=True):
        row = WildcardCertificate.objects.get()
        parent = row.certificate_ptr.apikey_ptr
        assert "$vf$" in serializers.serialize("json", [parent])
        parent.save()
    assert stored(ApiKey.objects.get(), "secret") == before
    assert parent.secret == "s"
    row.secret, row.chain = "assigned", None
    parent = row.certificate_ptr.apikey_ptr
    assert parent.secret == "s"  # Django has remembered it.
    del row._state.fields_cache["certificate_ptr"]
    assert (row.certificate_ptr.chain, row.certificate_ptr.secret) == (None, "assigned")
    with pytest.raises(ValueRefused, match="save the row before serializing it"):
        serializers.serialize("json", [row.certificate_ptr.apikey_ptr])
    row.certificate_ptr.apikey_ptr.save()
    assert ApiKey.objects.get().secret == "assigned"


def test_whoever_watches_rows_as_they_are_made_sees_values_in_that_of_a_parent(wildcard) -> None:
    seen = []

    def watch(instance, **kwargs) -> None:
        seen.append(instance.secret)

    row = WildcardCertificate.objects.get()
    post_init.connect(watch, sender=Certificate)
    try:
        assert row.certificate_ptr.secret == "s"
    finally:
        post_init.disconnect(watch, sender=Certificate)
    assert seen == ["s"]


def test_a_child_is_saved_though_its_parents_base_manager_filters(organization) -> None:
    vip = Vip.objects.create(organization=organization, secret="s", perks={"a": 1})
    loaded = Vip.objects.get()
    loaded.secret, loaded.perks = "new", [2]
    loaded.save()
    Vip.objects.filter(perks__isnull=False).update(is_gone=False)
    assert (Vip.objects.get(pk=vip.pk).secret, Vip.objects.get().perks) == ("new", [2])


def test_a_proxy_reads_and_writes_as_its_model(organization) -> None:
    short = ShortApiKey.objects.create(organization=organization, secret="s")
    assert ApiKey.objects.get().secret == "s"
    short = ShortApiKey.objects.get()
    short.secret = "new"
    short.save()
    assert ApiKey.objects.get().secret == "new"
    assert ShortApiKey.objects.values_list("secret", flat=True).get() == "new"


def test_columns_of_a_proxy_are_written_by_themselves(organization, other_organization) -> None:
    short = ShortApiKey.objects.create(organization=organization, secret="s")
    short.secret = "named"
    short.save(update_fields=["secret"])
    short.organization = other_organization
    ShortApiKey.objects.bulk_update([short], ["organization"])
    assert ApiKey.objects.get().secret == "named"
    assert ShortApiKey.objects.update(secret="all") == 1
    assert ApiKey.objects.get().secret == "all"


def test_rows_with_a_composite_key_read_and_write(organization, other_organization, execute) -> None:
    for number in range(3):
        Share.objects.create(organization=organization, number=number, note=f"n{number}")
    shares = Share.objects.order_by("number")
    with assert_vault_calls(decrypt=3, cold=True):
        assert [share.note for share in shares.all()] == ["n0", "n1", "n2"]
    assert list(shares.values_list("pk", "note")) == [((organization.pk, n), f"n{n}") for n in range(3)]
    assert [share.note for share in shares.only("note")] == ["n0", "n1", "n2"]
    rows = list(shares)
    for row in rows:
        row.note += "!"
    Share.objects.bulk_update(rows, ["note"])
    assert [share.note for share in shares.all()] == ["n0!", "n1!", "n2!"]
    execute("UPDATE testapp_share SET organization_id = %s WHERE number = 1", other_organization.pk)
    with pytest.raises(KeyContextMismatch):
        Share.objects.get(number=1).note  # noqa: B018
    execute("UPDATE testapp_share SET number = 7 WHERE number = 2")
    with pytest.raises(DecryptionError, match="does not open"):
        Share.objects.get(number=7).note  # noqa: B018


def test_a_related_object_stands_for_its_primary_key(organization, other_organization, stored) -> None:
    visit = Visit.objects.create(organization=organization, report="r")
    decoded = companion.decode(stored(visit, "report_keys")[0])
    assert decoded.context == {"organization": str(organization.pk)}
    assert decoded.row == {"organization": "org_1"}
    assert Visit.objects.get().report == "r"
    assert Visit.objects.values_list("report", flat=True).get() == "r"
    loaded = Visit.objects.get()
    loaded.organization = other_organization
    loaded.save()
    assert Visit.objects.get().report == "r"


def saved_whole(row) -> None:
    row.save()


def saved_by_name(row) -> None:
    row.save(update_fields=["organization"])


def saved_in_bulk(row) -> None:
    type(row).objects.bulk_update([row], ["organization"])


def saved_in_bulk_by_expression(row) -> None:
    row.organization_id = Value(row.organization_id)
    type(row).objects.bulk_update([row], ["organization"])


@pytest.mark.parametrize("save", [saved_whole, saved_by_name, saved_in_bulk])
@pytest.mark.parametrize("model", [ApiKey, ShortApiKey, Certificate, WildcardCertificate])
def test_a_parent_that_is_saved_as_such_takes_along_what_its_children_hold(
    wildcard, other_organization, model, save
) -> None:
    row = model.objects.get()
    row.organization = other_organization
    save(row)
    assert ApiKey.objects.get().organization == other_organization
    rows = WildcardCertificate.objects.values_list("secret", "chain", "pattern")
    assert list(rows) == [("s", "c", "*.example.org")]


@pytest.mark.parametrize("save", [saved_whole, saved_by_name, saved_in_bulk, saved_in_bulk_by_expression])
def test_a_parent_without_encrypted_fields_takes_along_what_its_children_hold(
    organization, other_organization, save
) -> None:
    Branch.objects.create(organization=organization, secret="s")
    row = Office.objects.get()
    row.organization = other_organization
    save(row)
    assert Branch.objects.values_list("organization", "secret").get() == (other_organization.pk, "s")


@pytest.mark.parametrize("save", [saved_whole, saved_by_name, saved_in_bulk])
def test_a_parent_whose_childs_value_does_not_open_is_not_saved(
    wildcard, other_organization, stored, execute, save
) -> None:
    execute("UPDATE testapp_wildcardcertificate SET pattern = '$vf$1$AAAA'")
    row = ApiKey.objects.get()
    row.organization = other_organization
    with pytest.raises(DecryptionError, match="WildcardCertificate.pattern"), transaction.atomic():
        save(row)
    assert stored(wildcard.apikey_ptr, "organization_id") == (wildcard.organization_id,)
    assert Certificate.objects.get().chain == "c"


def test_a_parent_that_keeps_its_tenant_costs_no_call_and_a_lock(
    wildcard, django_assert_num_queries, lock_queries
) -> None:
    row = ApiKey.objects.get()
    row.label = "new"
    with assert_vault_calls():
        with django_assert_num_queries(1):
            row.save(update_fields=["label"])
        with django_assert_num_queries(1 + lock_queries):
            row.save()


def test_a_column_that_is_bound_to_is_compared_as_it_is_spelled(organization) -> None:
    Branch.objects.create(organization=organization, region="North", secret="s")
    row = Office.objects.get()
    row.region = "north"
    row.save()
    assert Branch.objects.values_list("region", "secret").get() == ("north", "s")


@isolate_apps("tests.testapp")
def test_columns_beside_a_field_give_way_where_a_child_declares_the_field_otherwise() -> None:
    context = {"key_context": ["tenant"]}

    class Base(models.Model):
        tenant = models.IntegerField()
        ssn = EncryptedTextField(unique=True, index=[True, BlindIndex(name="ends", normalize=last_four)], **context)

        class Meta:
            abstract = True
            app_label = "testapp"

    class Same(Base):
        class Meta:
            app_label = "testapp"

    class WithoutIndex(Base):
        ssn = EncryptedTextField(**context)

        class Meta:
            app_label = "testapp"

    class WithOneIndex(Base):
        ssn = EncryptedTextField(index=True, **context)

        class Meta:
            app_label = "testapp"

    class Plain(Base):
        ssn = models.TextField()

        class Meta:
            app_label = "testapp"

    class Without(Base):
        ssn = None

        class Meta:
            app_label = "testapp"

    def columns_of(model):
        return {field.name for field in model._meta.fields} - {"id", "tenant"}

    assert columns_of(Same) == {"ssn", "ssn_keys", "ssn_index", "ssn_ends_index"}
    assert columns_of(WithoutIndex) == {"ssn", "ssn_keys"}
    assert columns_of(WithOneIndex) == {"ssn", "ssn_keys", "ssn_index"}
    assert columns_of(Plain) == {"ssn"}
    assert columns_of(Without) == set()
    others = (WithoutIndex, WithOneIndex, Plain, Without)
    assert [len(model._meta.constraints) for model in (Same, *others)] == [1, 0, 0, 0, 0]
