"""Caches of queries: what they keep of encrypted fields, and whether it is served after a key was withdrawn."""

import pytest
from cachalot.settings import cachalot_settings
from cacheops import invalidate_all
from cacheops.redis import redis_client
from django.core.cache import cache
from django.db.models import F, OuterRef, Subquery

from tests.packages.models import Cached, CachedOnRequest, Found
from tests.testapp.models import Organization, Patient
from vault_fields.checks.packages import check_packages
from vault_fields.exceptions import KeyRevoked
from vault_fields.vaults import vaults

SECRET = "078-05-1120"

OPENED_WHEN_TOUCHED = {
    "instances": lambda model: [row.ssn for row in model.objects.all()],
    "one": lambda model: [model.objects.get().ssn],
    "only": lambda model: [row.ssn for row in model.objects.only("ssn")],
    "defer": lambda model: [row.ssn for row in model.objects.defer("ssn")],
    "joined": lambda model: [row.ssn for row in model.objects.select_related("organization")],
}
OPENED_AT_ONCE = {
    "values": lambda model: [row["ssn"] for row in model.objects.values("ssn")],
    "values_list": lambda model: list(model.objects.values_list("ssn", flat=True)),
    "first": lambda model: [model.objects.values_list("ssn", flat=True).first()],
}
FROM_ANOTHER_MODEL = {
    "a relation": lambda name, model: list(Organization.objects.values_list(f"{name}s__ssn", flat=True)),
    "an annotation": lambda name, model: [row.ssn for row in Organization.objects.annotate(ssn=F(f"{name}s__ssn"))],
    "a subquery": lambda name, model: [
        row.ssn
        for row in Organization.objects.annotate(
            ssn=Subquery(model.objects.filter(organization=OuterRef("pk")).values("ssn")[:1])
        )
    ],
}


@pytest.fixture
def cacheops(transactional_db):
    """Nothing is cached in a transaction that wrote."""
    invalidate_all()
    yield lambda: b"".join(redis_client.get(key) for key in redis_client.keys("q:*"))
    invalidate_all()


@pytest.fixture
def cachalot(transactional_db, settings):
    settings.CACHEOPS_ENABLED = False
    cache.clear()
    cachalot_settings.load()
    yield lambda: b"".join(cache._cache.values())
    cachalot_settings.unload()
    cache.clear()


@pytest.fixture
def withdrawn():
    """Withdraw the key of an organization until the test ends."""
    organizations = []

    def withdraw(organization) -> None:
        organizations.append(str(organization.pk))
        vaults["default"].revoke("organization_id", organizations[-1])

    yield withdraw
    for pk in organizations:
        vaults["default"].restore("organization_id", pk)


def stored(model):
    organization = Organization.objects.create(workos_id="org_1")
    model.objects.create(organization=organization, ssn=SECRET, history={"a": SECRET})
    return organization


@pytest.mark.parametrize("read", OPENED_WHEN_TOUCHED.values(), ids=OPENED_WHEN_TOUCHED)
def test_cacheops_keeps_instances_encrypted(cacheops, withdrawn, read) -> None:
    organization = stored(Cached)
    assert read(Cached) == [SECRET]
    assert b"$vf$" in cacheops()
    assert SECRET.encode() not in cacheops()
    assert read(Cached) == [SECRET]
    withdrawn(organization)
    with pytest.raises(KeyRevoked):
        read(Cached)


@pytest.mark.parametrize("read", OPENED_AT_ONCE.values(), ids=OPENED_AT_ONCE)
def test_cacheops_keeps_values_in_the_clear_unless_it_is_told_not_to(cacheops, withdrawn, read) -> None:
    """What W023 is about. This package has no say in it: to a cache they are strings."""
    organization = stored(Cached)
    assert read(Cached) == [SECRET]
    assert SECRET.encode() in cacheops()
    CachedOnRequest.objects.create(organization=organization, ssn=SECRET, history=[])
    invalidate_all()
    assert read(CachedOnRequest) == [SECRET]
    assert cacheops() == b""
    withdrawn(organization)
    with pytest.raises(KeyRevoked):
        read(CachedOnRequest)


def test_cacheops_keeps_instances_on_request(cacheops) -> None:
    stored(CachedOnRequest)
    assert [row.ssn for row in CachedOnRequest.objects.all().cache()] == [SECRET]
    assert b"$vf$" in cacheops()
    assert SECRET.encode() not in cacheops()
    row = CachedOnRequest.objects.get()
    row.ssn = "changed"
    row.save()
    assert [row.ssn for row in CachedOnRequest.objects.all().cache()] == ["changed"]


@pytest.mark.parametrize("read", FROM_ANOTHER_MODEL.values(), ids=FROM_ANOTHER_MODEL)
def test_cacheops_keeps_what_a_query_of_another_model_took_unless_it_says_not_to(cacheops, read) -> None:
    stored(CachedOnRequest)
    assert read("cachedonrequest", CachedOnRequest) == [SECRET]
    assert SECRET.encode() in cacheops()
    invalidate_all()
    assert list(Organization.objects.nocache().values_list("cachedonrequests__ssn", flat=True)) == [SECRET]
    assert cacheops() == b""


def test_w023_a_cache_of_queries() -> None:
    messages = [message for message in check_packages(None) if message.id == "vault_fields.W023"]
    assert [message.obj for message in messages] == [Cached, Found]
    assert messages[0].hint.startswith('Write "packages.cached": {"ops": (), "timeout": 60} in CACHEOPS')


@pytest.mark.parametrize(
    "read",
    [
        *OPENED_WHEN_TOUCHED.values(),
        *OPENED_AT_ONCE.values(),
        *(lambda model, read=read: read("cached", model) for read in FROM_ANOTHER_MODEL.values()),
    ],
    ids=[*OPENED_WHEN_TOUCHED, *OPENED_AT_ONCE, *FROM_ANOTHER_MODEL],
)
def test_cachalot_keeps_what_the_database_holds(cachalot, withdrawn, django_assert_num_queries, read) -> None:
    organization = stored(Cached)
    assert read(Cached) == [SECRET]
    assert b"$vf$" in cachalot()
    assert SECRET.encode() not in cachalot()
    with django_assert_num_queries(0):
        assert read(Cached) == [SECRET]
    withdrawn(organization)
    with pytest.raises(KeyRevoked):
        read(Cached)


def test_cachalot_notices_every_way_to_write(cachalot) -> None:
    def read():
        return list(Cached.objects.values_list("ssn", flat=True))

    organization = stored(Cached)
    row = Cached.objects.get()
    assert read() == [SECRET]
    row.ssn = "saved"
    row.save()
    assert read() == ["saved"]
    row.ssn = "in part"
    row.save(update_fields=["ssn"])
    assert read() == ["in part"]
    Cached.objects.update(ssn="updated")
    assert read() == ["updated"]
    row.ssn = "in bulk"
    Cached.objects.bulk_update([row], ["ssn"])
    assert read() == ["in bulk"]
    Cached.objects.bulk_create([Cached(organization=organization, ssn="created", history=[])])
    assert sorted(read()) == ["created", "in bulk"]


def test_what_is_cached_by_hand(patient, withdrawn) -> None:
    """Instances and their querysets are encrypted in a cache; what values() gives is what was asked for."""
    row = Patient.objects.get()
    assert row.ssn
    cache.set_many({"instance": row, "rows": list(Patient.objects.all()), "queryset": Patient.objects.all()})
    assert not [name for name, value in cache._cache.items() if b"123-45-6789" in value]
    cache.set("values", list(Patient.objects.values("ssn")))
    assert b"123-45-6789" in cache._cache[cache.make_key("values")]
    withdrawn(row.organization)
    with pytest.raises(KeyRevoked):
        _ = cache.get("instance").ssn
    cache.clear()
