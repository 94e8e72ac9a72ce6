"""Abstract, multi-table and proxy models, and foreign keys that do not point to primary keys."""

import pytest

from tests.testapp.models import ApiKey, Certificate, Share, ShortApiKey, Vip, Visit, WildcardCertificate
from vault_fields import companion
from vault_fields.exceptions import DecryptionError, KeyContextMismatch
from vault_fields.testing import assert_vault_calls


@pytest.fixture
def wildcard(organization):
    with assert_vault_calls(create=1):
        return WildcardCertificate.objects.create(
            organization=organization, label="w", secret="s", chain="c", pattern="*.example.org"
        )


def test_a_row_in_three_tables_is_one_call_and_opens_from_each(wildcard):
    with assert_vault_calls(decrypt=1, cold=True):
        row = WildcardCertificate.objects.get()
        assert (row.secret, row.chain, row.pattern) == ("s", "c", "*.example.org")
    assert ApiKey.objects.get().secret == "s"
    assert Certificate.objects.get().chain == "c"
    assert WildcardCertificate.objects.values_list("secret", "chain", "pattern").get() == ("s", "c", "*.example.org")
    assert WildcardCertificate.objects.only("pattern").get().pattern == "*.example.org"
    assert ApiKey.objects.select_related("certificate__wildcardcertificate").get().certificate.chain == "c"


def test_update_fields_reaches_the_table_that_owns_the_column(wildcard):
    row = WildcardCertificate.objects.get()
    row.secret, row.pattern = "new s", "new p"
    row.save(update_fields=["pattern"])
    reloaded = WildcardCertificate.objects.get()
    assert (reloaded.secret, reloaded.pattern) == ("s", "new p")
    row.save(update_fields=["secret"])
    assert WildcardCertificate.objects.get().secret == "new s"


def test_a_changed_context_reaches_every_table(wildcard, other_organization):
    row = WildcardCertificate.objects.get()
    row.organization = other_organization
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        row.save()
    reloaded = WildcardCertificate.objects.get()
    assert (reloaded.secret, reloaded.chain, reloaded.pattern) == ("s", "c", "*.example.org")
    row.organization_id = wildcard.organization_id
    row.save(update_fields=["organization"])
    assert WildcardCertificate.objects.get().pattern == "*.example.org"


def test_a_context_that_changed_in_the_parents_table_is_noticed_in_the_childs(wildcard, other_organization):
    ApiKey.objects.update(organization=other_organization)
    for read in (
        lambda: WildcardCertificate.objects.get().pattern,
        lambda: WildcardCertificate.objects.only("pattern").get().pattern,
        lambda: WildcardCertificate.objects.values_list("pattern").get(),
        lambda: Certificate.objects.get().chain,
    ):
        with pytest.raises(KeyContextMismatch, match="organization_id"):
            read()


def test_bulk_update_of_a_child_writes_to_both_tables(wildcard):
    row = WildcardCertificate.objects.get()
    row.secret, row.pattern = "new s", "new p"
    WildcardCertificate.objects.bulk_update([row], ["secret", "pattern"])
    reloaded = WildcardCertificate.objects.get()
    assert (reloaded.secret, reloaded.chain, reloaded.pattern) == ("new s", "c", "new p")


def test_a_child_is_saved_though_its_parents_base_manager_filters(organization):
    vip = Vip.objects.create(organization=organization, secret="s", perks={"a": 1})
    loaded = Vip.objects.get()
    loaded.secret, loaded.perks = "new", [2]
    loaded.save()
    Vip.objects.filter(perks__isnull=False).update(is_gone=False)
    assert (Vip.objects.get(pk=vip.pk).secret, Vip.objects.get().perks) == ("new", [2])


def test_a_proxy_reads_and_writes_as_its_model(organization):
    short = ShortApiKey.objects.create(organization=organization, secret="s")
    assert ApiKey.objects.get().secret == "s"
    short = ShortApiKey.objects.get()
    short.secret = "new"
    short.save()
    assert ApiKey.objects.get().secret == "new"
    assert ShortApiKey.objects.values_list("secret", flat=True).get() == "new"


def test_rows_with_a_composite_key_read_and_write(organization, other_organization):
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
    Share.objects.filter(number=1).update(organization=other_organization)
    with pytest.raises(KeyContextMismatch):
        Share.objects.get(number=1).note  # noqa: B018
    Share.objects.filter(number=2).update(number=7)
    with pytest.raises(DecryptionError, match="does not open"):
        Share.objects.get(number=7).note  # noqa: B018


def test_a_related_object_stands_for_its_primary_key(organization, other_organization, stored):
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
