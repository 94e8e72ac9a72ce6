"""Index keys are replaced while others write and look up, and old ones go when nobody can use them any more."""

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import models
from django.test.utils import isolate_apps
from django.utils import timezone

from tests.testapp.models import Athlete, Contact, Dossier, Organization
from vault_fields.exceptions import KeyRevoked
from vault_fields.fields import EncryptedTextField, IndexField
from vault_fields.fields.groups import groups_of
from vault_fields.fields.indexkeys import SETTLING
from vault_fields.models import IndexKey
from vault_fields.rows import rotation
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenants(monkeypatch: pytest.MonkeyPatch) -> list[Organization]:
    def pass_time(seconds: float) -> None:
        for key in IndexKey.objects.all():
            IndexKey.objects.filter(pk=key.pk).update(created_at=key.created_at - timedelta(seconds=seconds))

    monkeypatch.setattr(rotation, "sleep", pass_time)
    # Other models of these tests are unique.
    monkeypatch.setattr(rotation, "_require_not_unique", lambda groups: None)
    found = [Organization.objects.create(workos_id=name) for name in ("org_a", "org_b")]
    for tenant in found:
        for ssn in ("1", "2", None):
            Contact.objects.create(organization=tenant, ssn=ssn, email=ssn)
    Dossier.objects.create(organization=found[0], number="1")
    return found


def rotate(*args: str, **options: Any) -> str:
    out, err = StringIO(), StringIO()
    call_command("vault_index", *args, rotate=True, stdout=out, stderr=err, **options)
    return out.getvalue()


def pass_grace(seconds: int = 3600) -> None:
    for key in IndexKey.objects.exclude(rewritten_at=None):
        IndexKey.objects.filter(pk=key.pk).update(rewritten_at=key.rewritten_at - timedelta(seconds=seconds))


def generations() -> list[int]:
    return sorted(IndexKey.objects.values_list("generation", flat=True))


def are_found(tenants: list[Organization]) -> bool:
    return (
        all(Contact.objects.filter(organization=each, ssn="1").count() == 1 for each in tenants)
        and Contact.objects.filter(email="1").count() == 2
        and Dossier.objects.filter(organization=tenants[0], number="1").count() == 1
    )


def test_a_rotation_makes_keys_and_hashes_and_deletes_the_old_keys_after_the_grace(tenants) -> None:
    hashes = set(Contact.objects.exclude(ssn=None).values_list("ssn_index", "email_index"))
    said = rotate()
    assert generations() == [1] * 4 + [2] * 4
    assert are_found(tenants)
    assert not hashes & set(Contact.objects.exclude(ssn=None).values_list("ssn_index", "email_index"))
    assert "4 index keys were made, the old ones of 0 deleted, those of 4 kept, 0 failed. Run it again after" in said
    assert "0 index keys were made, the old ones of 0 deleted, those of 4 kept" in rotate()
    pass_grace()
    assert "0 index keys were made, the old ones of 4 deleted, those of 0 kept, 0 failed." in rotate()
    assert generations() == [2] * 4
    assert are_found(tenants)
    rotate(offline=True)
    assert generations() == [3] * 4
    assert are_found(tenants)


def test_writers_use_the_new_key_and_what_they_wrote_with_the_old_one_is_found_and_rewritten(tenants) -> None:
    stale = Contact.objects.filter(organization=tenants[0], ssn="1").get()
    rotate()
    stale.plain = "x"
    stale.save()
    assert are_found(tenants)
    pass_grace()
    # It found that row, and so others may have read it since.
    assert "the old ones of 2 deleted, those of 2 kept" in rotate()
    assert are_found(tenants)
    made = Contact.objects.create(organization=tenants[0], ssn="3")
    assert Contact.objects.get(organization=tenants[0], ssn="3") == made
    pass_grace()
    assert "the old ones of 2 deleted, those of 0 kept" in rotate()
    assert are_found(tenants)


def test_a_grace_that_is_not_over_begins_after_the_walk_and_not_before_it(tenants, monkeypatch) -> None:
    rotate()
    pass_grace(3000)
    assert "the old ones of 0 deleted, those of 4 kept" in rotate()
    assert "the old ones of 4 deleted, those of 0 kept" in rotate(grace=2000)


def test_a_run_that_is_interrupted_goes_on(tenants, monkeypatch) -> None:
    def interrupted(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rotation, "reindex_group", interrupted)
        with pytest.raises(CommandError, match="Interrupted"):
            rotate()
    assert generations() == [1] * 4 + [2] * 4
    assert IndexKey.objects.exclude(rewritten_at=None).count() == 0
    assert are_found(tenants)
    assert "0 index keys were made" in rotate()
    assert generations() == [1] * 4 + [2] * 4


def test_keys_are_made_all_or_none(tenants, monkeypatch) -> None:
    vault, made = vaults["default"], vaults["default"].create_data_key
    left = [1]

    def create(context: Any) -> Any:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return made(context)

    monkeypatch.setattr(vault, "create_data_key", create)
    with pytest.raises(CommandError, match="Interrupted"):
        rotate()
    assert generations() == [1] * 4


def test_the_keys_of_one_tenant_are_rotated_alone(tenants) -> None:
    said = rotate(context=[f"organization_id={tenants[1].pk}"])
    assert "1 index key was made" in said
    assert generations() == [1] * 4 + [2]
    assert "1 row has its hash" not in said
    assert are_found(tenants)


def test_a_key_that_is_refused_is_left_alone_and_the_others_are_rotated(tenants, monkeypatch) -> None:
    vault, made = vaults["default"], vaults["default"].create_data_key

    def create(context: Any) -> Any:
        if context.get("organization_id") == str(tenants[0].pk):
            raise KeyRevoked("The key is disabled.")
        return made(context)

    monkeypatch.setattr(vault, "create_data_key", create)
    with pytest.raises(CommandError, match="1 row was left alone"):
        rotate(offline=True)
    assert generations() == [1] + [2] * 3


def test_an_altered_key_is_left_alone(tenants) -> None:
    IndexKey.objects.filter(pk=IndexKey.objects.latest("pk").pk).update(companion="altered")
    with pytest.raises(CommandError, match="1 row was left alone"):
        rotate(context=["vault_fields_index=testapp.Contact.email"])
    assert generations() == [1] * 4 + [2]


def test_old_keys_stay_while_a_row_of_theirs_does_not_open(tenants, move) -> None:
    contact = Contact.objects.filter(organization=tenants[0], ssn="1").get()
    move(Contact, tenants[1], contact.pk)
    with pytest.raises(CommandError, match="1 row was left alone"):
        rotate(offline=True)
    # That row's: its tenant's own, and the one of all tenants.
    assert generations() == [1, 1, 2, 2, 2, 2]
    assert Contact.objects.filter(email="2").count() == 2


def test_a_row_whose_tenant_cannot_be_told_keeps_all_old_keys(tenants, execute) -> None:
    contact = Contact.objects.filter(organization=tenants[0], ssn="1").get()
    execute("UPDATE testapp_contact SET ssn_keys = 'x' WHERE id = %s", contact.pk)
    with pytest.raises(CommandError, match="1 row was left alone"):
        rotate(offline=True)
    assert generations() == [1] * 4 + [2] * 4


def test_new_keys_are_waited_for(tenants, monkeypatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(rotation, "sleep", waited.append)
    rotate()
    assert 0 < waited[0] <= SETTLING.total_seconds()
    IndexKey.objects.update(created_at=timezone.now() - SETTLING)
    rotate()
    assert waited[1] == 0


def test_a_database_without_index_keys_has_nothing_to_rotate(tenants) -> None:
    IndexKey.objects.all().delete()
    assert "0 index keys were made, the old ones of 0 deleted, those of 0 kept, 0 failed." in rotate()


def test_the_report_is_told_as_json(tenants) -> None:
    *rows, keys = json.loads(rotate(format="json"))
    assert {row["label"] for row in rows} >= {"testapp.Contact.ssn_keys", "testapp.Dossier.number_keys"}
    assert keys["database"] == "default"
    assert (keys["begun"], keys["finished"], keys["waiting"], keys["left_alone"]) == (4, 0, 4, [])
    assert keys["again_after"].startswith("20")


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (["testapp.Contact"], {}, "serve all fields of their key contexts"),
        ([], {"rebuild": True}, "neither --rebuild"),
        ([], {"grace": 60}, "at least 1200 seconds"),
        ([], {"context": ["organization_id"]}, "NAME=VALUE"),
    ],
)
def test_options_that_do_not_go_together_are_refused(args, options, message, db) -> None:
    with pytest.raises(CommandError, match=message):
        rotate(*args, **options)


def test_options_of_a_rotation_need_one(db) -> None:
    with pytest.raises(CommandError, match="are about --rotate"):
        call_command("vault_index", "testapp.Contact", offline=True)


@isolate_apps("tests.testapp")
def test_an_index_under_a_constraint_is_unique() -> None:
    class Plain(models.Model):
        tenant = models.CharField(max_length=10)
        ssn = EncryptedTextField(key_context=["tenant"], index=True)

        class Meta:
            app_label = "testapp"

    class Unique(models.Model):
        tenant = models.CharField(max_length=10)
        ssn = EncryptedTextField(key_context=["tenant"], index=True)

        class Meta:
            app_label = "testapp"
            constraints = [
                models.UniqueConstraint(fields=["tenant", "ssn_index"], name="one"),
                models.CheckConstraint(condition=models.Q(tenant="x"), name="other"),
            ]

    (plain,), (unique,) = groups_of(Plain), groups_of(Unique)
    assert not rotation._is_unique(plain, Plain._meta.get_field("ssn_index"))
    assert rotation._is_unique(unique, Unique._meta.get_field("ssn_index"))
    named = IndexField("ssn", label="x", index_name="last4")
    named.name = "ssn_last4_index"
    assert not rotation._is_unique(unique, named)
    assert rotation._is_unique(*athlete())
    rotation._require_not_unique([plain])
    with pytest.raises(ImproperlyConfigured, match="add --offline"):
        rotation._require_not_unique([plain, unique])


def athlete() -> tuple[Any, IndexField]:
    group = groups_of(Athlete)[0]
    return group, Athlete._meta.get_field("number_index")


def test_what_is_unique_is_rotated_offline() -> None:
    tenant = Organization.objects.create(workos_id="org_a")
    Contact.objects.create(organization=tenant, ssn="1")
    with pytest.raises(CommandError, match=r"Athlete.number is unique by its index 'number_index'"):
        rotate()
    assert generations() == [1]
    rotate(offline=True)
    assert generations() == [2]
    assert Contact.objects.filter(organization=tenant, ssn="1").exists()


def test_verifying_writes_nothing_and_fails_if_something_is_amiss(tenants, execute) -> None:
    call_command("vault_index", "testapp.Contact", verify=True, stdout=StringIO())
    execute("UPDATE testapp_contact SET ssn_index = NULL WHERE ssn IS NOT NULL")
    with pytest.raises(CommandError, match="4 hashes are missing or wrong"):
        call_command("vault_index", "testapp.Contact", verify=True, stdout=StringIO())
    assert Contact.objects.exclude(ssn_index=None).count() == 0
