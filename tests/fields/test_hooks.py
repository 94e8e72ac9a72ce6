"""The hooks on model classes and on QuerySet: bulk operations, upserts, fixtures, deferred loading."""

import json
import pickle
from io import StringIO

import pytest
from django.core import serializers
from django.core.exceptions import FieldError
from django.core.management import call_command
from django.db import connection, models, transaction
from django.test.utils import CaptureQueriesContext, isolate_apps

from tests.testapp.models import (
    ApiKey,
    Customer,
    Document,
    Legacy,
    Letter,
    Organization,
    Patient,
    Setting,
    Token,
    Vip,
    WildcardCertificate,
)
from vault_fields.exceptions import KeyContextError, ValueRefused
from vault_fields.fields import CompanionField
from vault_fields.stored import companion
from vault_fields.testing import assert_vault_calls, capture_vault_calls
from vault_fields.vaults import vaults


def fresh(instance):
    return type(instance).objects.get(pk=instance.pk)


def test_bulk_create_of_ten_thousand_rows_of_one_context_is_ten_calls(organization) -> None:
    with assert_vault_calls(create=10):
        Patient.objects.bulk_create(
            [Patient(organization=organization, ssn=str(n), history=None) for n in range(10_000)], batch_size=500
        )
    keys = Patient.objects.values_list("ssn_keys", flat=True)
    assert len(set(keys)) == 10
    with assert_vault_calls(decrypt=10, cold=True):
        assert {patient.ssn for patient in Patient.objects.all()} == {str(n) for n in range(10_000)}


def test_bulk_create_asks_once_for_each_context(organization, other_organization) -> None:
    rows = [
        Patient(organization=owner, ssn=f"{owner.pk} {n}", notes="n", history=[n])
        for n in range(20)
        for owner in (organization, other_organization)
    ]
    with assert_vault_calls(create=2):
        created = Patient.objects.bulk_create(rows)
    assert [row.ssn for row in created] == [row.ssn for row in rows]
    for row in Patient.objects.all():
        assert row.ssn.startswith(f"{row.organization_id} ")


def test_the_rows_that_share_a_key_can_be_limited_down_to_one(organization, settings) -> None:
    settings.VAULTS = {
        "default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault", "OPTIONS": {"max_rows_per_key": 1}}
    }
    with assert_vault_calls(create=5):
        Patient.objects.bulk_create([Patient(organization=organization, ssn=str(n)) for n in range(5)])


def test_bulk_create_follows_a_relation_with_one_query(organization, django_assert_num_queries) -> None:
    rows = [Document(organization_id=organization.pk, body=str(n)) for n in range(5)]
    with django_assert_num_queries(2):
        Document.objects.bulk_create(rows)
    assert sorted(Document.objects.values_list("body", flat=True)) == list("01234")


def test_bulk_create_through_related_managers_and_generators(organization) -> None:
    organization.patients.bulk_create(Patient(organization=organization, ssn=str(n)) for n in range(3))
    assert sorted(patient.ssn for patient in organization.patients.all()) == ["0", "1", "2"]


def test_bulk_create_writes_nothing_if_one_row_is_refused(organization) -> None:
    rows = [Patient(organization=organization, ssn="a"), Patient(organization=organization, ssn="$vf$1$")]
    with pytest.raises(ValueRefused), transaction.atomic():
        Patient.objects.bulk_create(rows)
    assert not Patient.objects.exists()
    assert rows[0].ssn == "a"


def upsert(rows, update_fields, unique_fields=("id",)):
    options = {} if connection.vendor == "mysql" else {"unique_fields": list(unique_fields)}
    return Patient.objects.bulk_create(rows, update_conflicts=True, update_fields=update_fields, **options)


def test_an_upsert_writes_value_and_companion_together(patient, organization) -> None:
    row = Patient(pk=patient.pk, organization=organization, ssn="new", history=["new"], name="not written")
    upsert([row], ["organization", "ssn", "notes", "history"])
    assert (fresh(patient).ssn, fresh(patient).notes, fresh(patient).history) == ("new", None, ["new"])
    assert fresh(patient).name == "Ada"


def test_an_upsert_that_may_move_a_row_has_to_write_all_that_depends_on_it(patient, organization) -> None:
    row = Patient(pk=patient.pk, organization=organization, ssn="new")
    with pytest.raises(
        KeyContextError, match="Patient.notes: an upsert that updates organization has to update .*notes"
    ):
        upsert([row], ["organization", "ssn"])
    assert fresh(patient).ssn == "123-45-6789"


def test_an_upsert_matched_by_the_context_updates_what_it_names(db) -> None:
    Setting.objects.create(tenant="t", kind="k", value="old")
    row = Setting(tenant="t", kind="k", value="new")
    if connection.vendor == "mysql":
        with pytest.raises(KeyContextError, match="has to name 'kind'"):
            Setting.objects.bulk_create([row], update_conflicts=True, update_fields=["value"])
        return
    with pytest.raises(KeyContextError, match="has to name 'kind'"):
        Setting.objects.bulk_create([row], update_conflicts=True, update_fields=["value"], unique_fields=["tenant"])
    Setting.objects.bulk_create([row], update_conflicts=True, update_fields=["value", "kind"], unique_fields=["tenant"])
    assert Setting.objects.get().value == "new"


def test_an_upsert_of_a_row_that_was_saved_before_stays_readable(patient, organization) -> None:
    saved = fresh(patient)
    saved.ssn = "x"
    saved.save()
    other = fresh(patient)
    other.ssn, other.notes, other.history = None, None, None
    other.save()
    upsert([saved], ["organization", "ssn", "notes", "history"])
    assert fresh(patient).ssn == "x"


def test_an_upsert_that_does_not_fix_the_context_is_refused(patient, organization, other_organization) -> None:
    row = Patient(pk=patient.pk, organization=other_organization, ssn="new")
    with pytest.raises(KeyContextError, match="has to name 'organization_id' in unique_fields or update_fields"):
        upsert([row], ["ssn"])
    assert fresh(patient).ssn == "123-45-6789"


def test_an_upsert_of_other_columns_needs_nothing(patient, organization) -> None:
    upsert([Patient(pk=patient.pk, organization=organization, name="new", ssn="not written")], ["name"])
    assert (fresh(patient).name, fresh(patient).ssn) == ("new", "123-45-6789")


def test_conflicts_can_be_ignored(patient, organization) -> None:
    Patient.objects.bulk_create(
        [Patient(pk=patient.pk, organization=organization, ssn="ignored")], ignore_conflicts=True
    )
    assert fresh(patient).ssn == "123-45-6789"


def test_bulk_update_encrypts_with_the_rows_own_keys(organization) -> None:
    for n in range(4):
        Patient.objects.create(organization=organization, ssn=str(n), history=None)
    rows = list(Patient.objects.order_by("pk"))
    before = [row.ssn_keys for row in rows]
    for row in rows:
        row.ssn = f"new {row.pk}"
    with assert_vault_calls(decrypt=4, cold=True):
        assert Patient.objects.bulk_update(rows, ["ssn"]) == 4
    assert [row.ssn for row in rows] == [f"new {row.pk}" for row in rows]
    reloaded = list(Patient.objects.order_by("pk"))
    assert [row.ssn for row in reloaded] == [row.ssn for row in rows]
    assert [row.ssn_keys for row in reloaded] == before


def test_bulk_update_takes_none_json_and_batches(organization) -> None:
    rows = Patient.objects.bulk_create([Patient(organization=organization, ssn=str(n), history=[n]) for n in range(7)])
    rows = list(Patient.objects.order_by("pk"))
    for n, row in enumerate(rows):
        row.ssn = None if n % 2 else "x"
        row.history.append("more")
    Patient.objects.bulk_update(rows, ["ssn", "history"], batch_size=3)
    reloaded = list(Patient.objects.order_by("pk"))
    assert [row.ssn for row in reloaded] == ["x", None, "x", None, "x", None, "x"]
    assert [row.history for row in reloaded] == [[n, "more"] for n in range(7)]


def test_bulk_update_of_the_context_encrypts_again(patient, other_organization) -> None:
    row = fresh(patient)
    row.organization = other_organization
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        Patient.objects.bulk_update([row], ["organization"])
    assert (fresh(patient).ssn, fresh(patient).history) == ("123-45-6789", [1])
    assert fresh(patient).organization == other_organization


def test_bulk_update_refuses_a_context_that_it_does_not_save(patient, other_organization) -> None:
    row = fresh(patient)
    row.organization = other_organization
    row.ssn = "new"
    with pytest.raises(KeyContextError, match="organization_id differs from that of the stored row"):
        Patient.objects.bulk_update([row], ["ssn"])
    assert fresh(patient).ssn == "123-45-6789"


def test_bulk_update_of_other_columns_is_left_alone(patient) -> None:
    row = Patient.objects.only("name").get(pk=patient.pk)
    row.name = "new"
    with assert_vault_calls(cold=True):
        Patient.objects.bulk_update([row], ["name"])
    assert (fresh(patient).name, fresh(patient).ssn) == ("new", "123-45-6789")


def test_bulk_update_that_fails_leaves_the_rows_readable(patient, monkeypatch) -> None:
    row = fresh(patient)
    row.ssn = "new"
    monkeypatch.setattr(models.QuerySet, "update", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Patient.objects.bulk_update([row], ["ssn"])
    assert row.ssn == "new"
    monkeypatch.undo()
    row.save()
    assert fresh(patient).ssn == "new"


def test_bulk_update_of_one_value_of_a_shared_companion_keeps_the_other(organization) -> None:
    letter = Letter.objects.create(organization=organization, subject="s", text=[1])
    row = Letter.objects.only("subject", "organization").get(pk=letter.pk)
    row.subject = "new"
    Letter.objects.bulk_update([row], ["subject"])
    assert (fresh(letter).subject, fresh(letter).text) == ("new", [1])


def test_bulk_update_without_a_primary_key_says_what_django_says(organization) -> None:
    with pytest.raises(ValueError, match="must have a primary key"):
        Patient.objects.bulk_update([Patient(organization=organization, ssn="x")], ["ssn"])


def test_bulk_update_refuses_expressions(patient) -> None:
    row = fresh(patient)
    row.ssn = models.F("name")
    with pytest.raises(FieldError, match="takes values, not expressions"):
        Patient.objects.bulk_update([row], ["ssn"])


@pytest.mark.parametrize("form", ["json", "xml", "jsonl"])
def test_fixtures_hold_ciphertext_and_load_without_a_call(patient, form, stored) -> None:
    before = stored(patient, "ssn", "ssn_keys", "history", "history_keys", "notes")
    output = StringIO()
    # The xml serializer reads the attribute to see whether it is None.
    with assert_vault_calls(decrypt=int(form == "xml"), cold=True):
        call_command("dumpdata", "testapp", format=form, stdout=output)
    assert "123-45" not in output.getvalue()
    Patient.objects.all().delete()
    Organization.objects.all().delete()
    with assert_vault_calls():
        for deserialized in serializers.deserialize(form, output.getvalue()):
            deserialized.save()
    assert stored(patient, "ssn", "ssn_keys", "history", "history_keys", "notes") == before
    assert (fresh(patient).ssn, fresh(patient).history) == ("123-45-6789", [1])


@pytest.mark.parametrize("form", ["json", "xml", "jsonl", "python"])
@pytest.mark.parametrize("value", [4217421742, 42.17421742, True, "4217421742", [4217421742]], ids=repr)
def test_no_kind_of_json_stands_in_a_fixture_in_the_clear(organization, form, value) -> None:
    row = Patient.objects.create(organization=organization, history=value)
    fields = str(serializers.serialize(form, [row]))
    assert "17421742" not in fields
    assert "'history': True" not in fields
    assert '"history": true' not in fields
    Patient.objects.all().delete()
    for deserialized in serializers.deserialize(form, serializers.serialize(form, [row])):
        deserialized.save()
    assert fresh(row).history == value
    assert type(fresh(row).history) is type(value)


def test_a_fixture_of_plaintext_is_encrypted_when_it_is_loaded(organization, stored) -> None:
    fixture = [
        {
            "model": "testapp.patient",
            "pk": 7,
            "fields": {"organization": organization.pk, "ssn": "plain", "history": {"a": 1}},
        }
    ]
    for deserialized in serializers.deserialize("json", json.dumps(fixture)):
        deserialized.save()
        assert deserialized.object.ssn == "plain"
    assert stored(Patient(pk=7), "ssn")[0].startswith("$vf$1$")
    assert (fresh(Patient(pk=7)).ssn, fresh(Patient(pk=7)).history) == ("plain", {"a": 1})


def test_a_value_that_was_not_saved_is_not_serialized(organization) -> None:
    with pytest.raises(ValueRefused, match="save the row before serializing it"):
        serializers.serialize("json", [Patient(pk=1, organization=organization, ssn="secret")])


@pytest.mark.parametrize("form", ["json", "xml", "jsonl", "python"])
def test_a_value_that_was_assigned_again_unchanged_is_serialized_as_it_is_stored(organization, form) -> None:
    letter = Letter.objects.create(organization=organization, subject="s", text=[1])
    expected = serializers.serialize(form, [Letter.objects.get()])
    # As full_clean() and audit logs do.
    letter.subject, letter.text = letter.subject, list(letter.text)
    assert serializers.serialize(form, [letter]) == expected
    letter = Letter.objects.get()
    letter.subject = letter.subject
    assert Letter._meta.get_field("vault_keys").value_to_string(letter) == letter.vault_keys


@pytest.mark.parametrize("form", ["json", "xml", "jsonl", "python"])
@pytest.mark.parametrize("deferred", [["subject", "text"], ["vault_keys"], ["text", "vault_keys"]], ids=",".join)
def test_deferred_values_are_serialized_too(organization, form, deferred) -> None:
    letter = Letter.objects.create(organization=organization, subject="s", text=[1])
    fixture = serializers.serialize(form, Letter.objects.defer(*deferred))
    Letter.objects.all().delete()
    for deserialized in serializers.deserialize(form, fixture):
        deserialized.save()
    assert (fresh(letter).subject, fresh(letter).text) == ("s", [1])


def test_what_is_serialized_is_read_without_a_lock(organization) -> None:
    Letter.objects.create(organization=organization, subject="s", text=[1])
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        serializers.serialize("json", Letter.objects.defer("text"))
    assert len(queries) == 2
    assert not any("FOR UPDATE" in query["sql"] for query in queries)


def test_a_fixture_whose_row_is_anothers_here_is_encrypted_for_it(organization, other_organization) -> None:
    row = Patient.objects.create(organization=organization, ssn="s", history=None)
    fixture = json.loads(serializers.serialize("json", [row]))
    fixture[0]["fields"]["organization"] = other_organization.pk
    for deserialized in serializers.deserialize("json", json.dumps(fixture)):
        deserialized.save()
    assert fresh(row).ssn == "s"


def test_json_that_is_not_encrypted_yet_is_not_serialized_as_a_string(organization, execute) -> None:
    row = Legacy.objects.create(organization=organization, text=None, data=None)
    execute("UPDATE testapp_legacy SET text = 'plain', data = %s", '{"a":   1}')
    with pytest.raises(ValueRefused, match=r"testapp\.Legacy\.data: JSON that is not encrypted yet"):
        serializers.serialize("json", [fresh(row)])
    execute("UPDATE testapp_legacy SET data = NULL")
    assert '"text": "plain"' in serializers.serialize("json", [fresh(row)])


def test_json_that_is_not_encrypted_yet_is_not_changed_by_reading_it(organization, execute) -> None:
    row = Legacy.objects.create(organization=organization, text=None, data=None)
    execute("UPDATE testapp_legacy SET data = %s", '{"a":   1}')
    read = fresh(row)
    assert read.data == {"a": 1}
    assert pickle.loads(pickle.dumps(read)).data == {"a": 1}
    read.data["a"] = 2
    with pytest.raises(TypeError, match="changed in place"):
        pickle.dumps(read)


@isolate_apps("tests.testapp")
def test_a_companion_without_values_is_serialized_as_any_column() -> None:
    class Row(models.Model):
        keys = CompanionField()

        class Meta:
            app_label = "testapp"

    assert Row(keys="text")._meta.get_field("keys").value_to_string(Row(keys="text")) == "text"


def test_a_value_that_was_changed_in_place_is_not_serialized(patient) -> None:
    row = fresh(patient)
    row.history.append(2)
    with pytest.raises(ValueRefused, match="save the row before serializing it"):
        serializers.serialize("json", [row])


@pytest.mark.parametrize("form", ["json", "xml"])
def test_fixtures_of_rows_in_several_tables_load_without_a_call(organization, form) -> None:
    values = {"secret": "s", "chain": "c", "pattern": "*.example.org"}
    row = WildcardCertificate.objects.create(organization=organization, **values)
    Vip.objects.create(organization=organization, secret="of a parent", perks=None)
    output = StringIO()
    call_command("dumpdata", "testapp", format=form, stdout=output)
    for existing in (True, False):
        if not existing:
            ApiKey.objects.all().delete()
            Customer.objects.all().delete()
        with assert_vault_calls(cold=True):
            for deserialized in serializers.deserialize(form, output.getvalue()):
                deserialized.save()
        read = fresh(row)
        assert {name: getattr(read, name) for name in values} == values
        assert Vip.objects.get().secret == "of a parent"


def test_a_save_loads_deferred_values_that_go_with_a_changed_context(organization, other_organization) -> None:
    letter = Letter.objects.create(organization=organization, subject="s", text=[1])
    row = Letter.objects.only("organization").get(pk=letter.pk)
    row.organization = other_organization
    row.save()
    assert (fresh(letter).subject, fresh(letter).text) == ("s", [1])


def test_peers_are_fetched_sealed_and_in_one_query(organization, django_assert_num_queries) -> None:
    if not hasattr(models, "FETCH_PEERS"):
        # The fetch mode came with Django 6.1; before it, each row loads its own.
        assert not hasattr(models.QuerySet, "fetch_mode")
        return
    for n in range(4):
        Patient.objects.create(organization=organization, ssn=str(n), history=None)
    rows = list(Patient.objects.order_by("pk").defer("ssn").fetch_mode(models.FETCH_PEERS))
    with django_assert_num_queries(1), assert_vault_calls(decrypt=4, cold=True):
        assert [row.ssn for row in rows] == ["0", "1", "2", "3"]
    with assert_vault_calls():
        rows[0].save()


def test_peers_that_are_gone_are_left_out(organization) -> None:
    if not hasattr(models, "FETCH_PEERS"):
        assert not hasattr(models.QuerySet, "fetch_mode")  # As above.
        return
    for n in range(3):
        Patient.objects.create(organization=organization, ssn=str(n), history=None)
    rows = list(Patient.objects.order_by("pk").defer("ssn").fetch_mode(models.FETCH_PEERS))
    Patient.objects.filter(pk=rows[1].pk).delete()
    assert rows[0].ssn == "0"
    assert rows[2].ssn == "2"
    with pytest.raises(Patient.DoesNotExist):
        rows[1].ssn  # noqa: B018


@pytest.mark.django_db(transaction=True)
def test_deferred_values_are_loaded_without_a_transaction_too() -> None:
    organization = Organization.objects.create(workos_id="org_1")
    letter = Letter.objects.create(organization=organization, subject="s", text=[1])
    row = Letter.objects.only("subject", "organization").get(pk=letter.pk)
    row.subject = "new"
    row.save()
    assert (fresh(letter).subject, fresh(letter).text) == ("new", [1])


def test_a_signal_handler_may_replace_a_value_while_a_fixture_is_loaded(organization, stored) -> None:
    def replace(sender, instance, **kwargs) -> None:
        instance.ssn = "replaced"

    models.signals.post_save.connect(replace, sender=Patient)
    try:
        row = Patient(pk=5, organization=organization, ssn="x", history=None)
        row.save_base(raw=True)
    finally:
        models.signals.post_save.disconnect(replace, sender=Patient)
    assert row.ssn == "replaced"
    assert fresh(row).ssn == "x"


def test_a_value_given_as_an_expression_is_refused(patient) -> None:
    field = Patient._meta.get_field("ssn")
    with pytest.raises(FieldError, match="testapp.Patient.ssn"), transaction.atomic():
        list(Patient.objects.annotate(value=models.Value("x", output_field=field)))


def test_a_companion_that_no_field_uses_is_a_column_like_any_other() -> None:
    from django.test.utils import isolate_apps

    with isolate_apps("tests.testapp"):

        class Row(models.Model):
            keys = CompanionField()

            class Meta:
                app_label = "testapp"

    assert Row._meta.get_field("keys").pre_save(Row(keys="x"), add=True) == "x"


def test_a_row_that_is_gone_says_so(patient) -> None:
    row = Patient.objects.defer("ssn").get(pk=patient.pk)
    Patient.objects.all().delete()
    with pytest.raises(Patient.DoesNotExist):
        row.ssn  # noqa: B018


def test_inserts_that_go_round_the_hooks_are_encrypted_all_the_same(organization, stored) -> None:
    row = Patient(organization=organization, ssn="x", history=[2])
    fields = [field for field in Patient._meta.concrete_fields if not field.primary_key]
    with capture_vault_calls() as calls:
        Patient._base_manager._insert([row], fields, using="default")
    assert calls == {"create": 1}
    (loaded,) = Patient.objects.all()
    assert (loaded.ssn, loaded.history) == ("x", [2])


def test_a_vault_of_its_own(organization, settings) -> None:
    memory = {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}
    settings.VAULTS = {"default": memory, "other": memory}
    row = Token.objects.create(tenant="00000000-0000-0000-0000-000000000001", secret="x")
    assert companion.decode(row.secret_keys).vault == "default"
    assert vaults["other"].calls.total() == 0
