"""Saving single rows: what is stored, what it costs, and that value and companion never part."""

import json
from typing import Never

import pytest
from django.core.exceptions import FieldError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, connection, transaction
from django.db.models import F, Value
from django.views.debug import ExceptionReporter

from tests.testapp.models import Bookmark, Document, Letter, Organization, Patient, Setting, Token
from vault_fields.exceptions import DecryptionError, KeyContextError, KeyContextMismatch, ValueRefused
from vault_fields.stored import companion, envelope
from vault_fields.testing import assert_vault_calls

TEXTS = ["", "0", "a", "x" * 100_000, "مرحبا", "汉字", "🩺👩‍⚕️", "a\x00b", "line\nline", "'\"\\%s", " padded "]
JSONS = [0, 1, -1.5, True, False, "", "text", [], {}, {"a": None}, [None, [1, {"é": "🩺"}]], {"": ""}, 10**30]


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def fresh(instance):
    return type(instance).objects.get(pk=instance.pk)


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_exactly(organization, text) -> None:
    patient = Patient.objects.create(organization=organization, ssn=text)
    assert fresh(patient).ssn == text


@pytest.mark.parametrize("value", JSONS, ids=repr)
def test_json_comes_back_exactly_with_its_type(organization, value) -> None:
    read = fresh(Patient.objects.create(organization=organization, history=value)).history
    assert read == value
    assert type(read) is type(value)


def test_none_is_null_in_both_columns(organization, stored) -> None:
    patient = Patient.objects.create(organization=organization, ssn=None, history=None)
    assert stored(patient, "ssn", "ssn_keys", "history", "history_keys") == (None, None, None, None)
    assert fresh(patient).ssn is None
    assert fresh(patient).history is None


def test_the_database_holds_an_envelope_and_its_companion(organization, stored) -> None:
    patient = Patient.objects.create(organization=organization, ssn="123-45-6789")
    text, keys = stored(patient, "ssn", "ssn_keys")
    decoded = companion.decode(keys)
    assert envelope.decode(text).key_id == decoded.key_id
    assert decoded.context == {"organization_id": str(organization.pk)}
    assert "123-45" not in text + keys


def test_creating_a_row_with_three_encrypted_fields_is_one_call(organization) -> None:
    with assert_vault_calls(create=1):
        Patient.objects.create(organization=organization, ssn="a", notes="b", history={"c": 1})


def test_a_row_without_values_costs_nothing(organization) -> None:
    with assert_vault_calls():
        Patient.objects.create(organization=organization, history=None)


def test_saving_an_unchanged_row_costs_nothing_and_writes_the_same(patient, stored) -> None:
    before = stored(patient, "ssn", "ssn_keys", "history", "history_keys")
    loaded = fresh(patient)
    with assert_vault_calls(cold=True):
        loaded.name = "Grace"
        loaded.save()
    assert stored(patient, "ssn", "ssn_keys", "history", "history_keys") == before
    assert fresh(patient).name == "Grace"


def test_assigning_the_same_value_again_keeps_the_ciphertext(patient, stored) -> None:
    before = stored(patient, "ssn", "history")
    loaded = fresh(patient)
    loaded.ssn, loaded.history = loaded.ssn, list(loaded.history)
    with assert_vault_calls(cold=True):
        loaded.save()
    assert stored(patient, "ssn", "history") == before


def test_a_changed_value_keeps_the_data_key_of_its_row(patient, stored) -> None:
    (keys,) = stored(patient, "ssn_keys")
    loaded = fresh(patient)
    loaded.ssn = "new"
    with assert_vault_calls(decrypt=1, cold=True):
        loaded.save()
    assert stored(patient, "ssn_keys") == (keys,)
    assert fresh(patient).ssn == "new"


def test_a_value_where_there_was_none_shares_the_key_of_its_row(organization) -> None:
    patient = fresh(Patient.objects.create(organization=organization, ssn="a", history=None))
    patient.notes = "b"
    with assert_vault_calls(decrypt=1, cold=True):
        patient.save()
    reloaded = fresh(patient)
    assert companion.decode(reloaded.notes_keys).key_id == companion.decode(reloaded.ssn_keys).key_id
    assert reloaded.notes == "b"


def test_a_json_value_changed_in_place_is_saved(patient) -> None:
    loaded = fresh(patient)
    loaded.history.append({"b": 2})
    loaded.save()
    assert fresh(patient).history == [1, {"b": 2}]


def test_a_json_value_assigned_and_then_changed_in_place_is_saved(patient) -> None:
    loaded = fresh(patient)
    loaded.history = value = list(loaded.history)
    loaded.save()
    value.append(2)
    loaded.save()
    assert fresh(patient).history == [1, 2]


def test_a_changed_context_means_a_fresh_key_for_every_value(patient, other_organization, stored) -> None:
    old = companion.decode(stored(patient, "ssn_keys")[0])
    loaded = fresh(patient)
    loaded.organization = other_organization
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        loaded.save()
    new = companion.decode(stored(patient, "ssn_keys")[0])
    assert new.context == {"organization_id": str(other_organization.pk)}
    assert new.key_id != old.key_id
    reloaded = fresh(patient)
    assert (reloaded.ssn, reloaded.notes, reloaded.history) == ("123-45-6789", "", [1])


def test_the_context_may_change_before_the_value_is_first_read(patient, other_organization) -> None:
    loaded = fresh(patient)
    loaded.organization = other_organization
    assert loaded.ssn == "123-45-6789"
    loaded.save()
    assert fresh(patient).ssn == "123-45-6789"


def test_saving_the_context_alone_encrypts_again(patient, other_organization) -> None:
    loaded = fresh(patient)
    loaded.organization = other_organization
    loaded.save(update_fields=["organization"])
    assert fresh(patient).ssn == "123-45-6789"
    assert fresh(patient).organization == other_organization


def test_a_changed_context_that_is_not_saved_along_is_refused(patient, other_organization, stored) -> None:
    before = stored(patient, "ssn", "ssn_keys")
    loaded = fresh(patient)
    loaded.organization = other_organization
    loaded.ssn = "new"
    with (
        pytest.raises(
            KeyContextError,
            match=r"testapp.Patient.ssn \(pk=\d+\): organization_id differs from that of the stored row",
        ),
        transaction.atomic(),
    ):
        loaded.save(update_fields=["ssn"])
    assert stored(patient, "ssn", "ssn_keys") == before


def test_a_changed_context_is_noticed_where_there_was_no_value_yet(organization, other_organization) -> None:
    patient = Patient.objects.create(organization=organization, history=None)
    loaded = fresh(patient)
    loaded.organization, loaded.ssn = other_organization, "new"
    with (
        pytest.raises(KeyContextError, match="organization_id differs from that of the stored row"),
        transaction.atomic(),
    ):
        loaded.save(update_fields=["ssn"])
    with (
        pytest.raises(KeyContextError, match="organization_id differs from that of the stored row"),
        transaction.atomic(),
    ):
        Patient.objects.bulk_update([loaded], ["ssn"])
    loaded.organization = organization
    loaded.save(update_fields=["ssn"])
    assert fresh(patient).ssn == "new"
    loaded.notes = "note"
    Patient.objects.bulk_update([loaded], ["notes"])
    assert fresh(patient).notes == "note"


def test_a_row_that_is_gone_is_reported_by_django(organization) -> None:
    gone = Patient(pk=987, organization=organization, ssn="x")
    with pytest.raises(DatabaseError), transaction.atomic():
        gone.save(update_fields=["ssn"])


def test_a_row_moved_by_sql_is_noticed_and_not_laundered_by_a_save(patient, other_organization, stored, move) -> None:
    move(Patient, other_organization)
    before = stored(patient, "ssn", "ssn_keys")
    loaded = fresh(patient)
    with pytest.raises(KeyContextMismatch, match="vault_rekey testapp.Patient --accept-moved"):
        loaded.ssn  # noqa: B018
    with pytest.raises(KeyContextMismatch), transaction.atomic():
        loaded.save()
    assert stored(patient, "ssn", "ssn_keys") == before


def test_a_moved_row_can_be_overwritten(patient, other_organization, move) -> None:
    move(Patient, other_organization)
    loaded = fresh(patient)
    loaded.ssn, loaded.notes, loaded.history = "new", None, None
    loaded.save()
    assert fresh(patient).ssn == "new"


def test_update_fields_writes_value_and_companion_together(patient, other_organization, stored) -> None:
    loaded = fresh(patient)
    loaded.ssn = "new"
    loaded.save(update_fields=["ssn"])
    assert fresh(patient).ssn == "new"


def test_update_fields_with_none_clears_both_columns(patient, stored) -> None:
    loaded = fresh(patient)
    loaded.ssn = None
    loaded.save(update_fields=["ssn"])
    assert stored(patient, "ssn", "ssn_keys") == (None, None)


def test_saving_with_deferred_fields_does_not_write_a_stale_companion(patient, stored) -> None:
    stale = Patient.objects.defer("ssn").get(pk=patient.pk)
    newer = fresh(patient)
    newer.ssn, newer.ssn_keys = None, None
    newer.save()
    newer.ssn = "newer"
    newer.save()
    stale.name = "stale"
    stale.save()
    assert fresh(patient).ssn == "newer"
    assert fresh(patient).name == "stale"


def test_a_row_that_loaded_only_the_value_writes_it_whole_as_django_writes_what_is_loaded(
    patient, organization
) -> None:
    stale = Patient.objects.only("ssn").get(pk=patient.pk)
    newer = fresh(patient)
    newer.ssn = None
    newer.save()
    newer.ssn = "newer"
    newer.save()
    with assert_vault_calls(cold=True):
        stale.save()
    assert fresh(patient).ssn == "123-45-6789"


@pytest.mark.parametrize("assign", [True, False])
def test_a_named_value_is_written_though_it_equals_what_was_read(patient, assign) -> None:
    loaded = fresh(patient)
    assert loaded.ssn == "123-45-6789"
    Patient.objects.update(ssn=None)
    if assign:
        loaded.ssn = "123-45-6789"
    loaded.save(update_fields=["ssn"])
    assert fresh(patient).ssn == "123-45-6789"


def test_a_save_that_was_rolled_back_is_repeated_with_the_value_assigned_again(patient) -> None:
    loaded = fresh(patient)
    for attempt in (1, 2):
        with transaction.atomic():
            loaded.ssn, loaded.history = "new", {"new": 1}
            loaded.save(update_fields=["ssn", "history"])
            loaded.full_clean()
            transaction.set_rollback(attempt == 1)
    assert (fresh(patient).ssn, fresh(patient).history) == ("new", {"new": 1})


def test_a_change_of_context_that_was_rolled_back_is_noticed(patient, organization, other_organization) -> None:
    row = fresh(patient)
    row.organization = other_organization
    with transaction.atomic():
        row.save()
        transaction.set_rollback(True)
    row.ssn = "new"
    for names in (["ssn"], ["notes"]):
        with (
            pytest.raises(KeyContextError, match="organization_id differs from that of the stored row"),
            transaction.atomic(),
        ):
            row.save(update_fields=names)
    row.save(update_fields=["ssn", "organization"])
    assert (fresh(patient).ssn, fresh(patient).organization) == ("new", other_organization)
    assert (fresh(patient).notes, fresh(patient).history) == ("", [1])


def test_a_row_is_saved_in_part_with_one_look_at_what_is_stored(
    organization, django_assert_num_queries, lock_queries
) -> None:
    row = Patient.objects.create(organization=organization, ssn="x", history=None)
    row.ssn = "y"
    with django_assert_num_queries(1 + lock_queries):
        row.save(update_fields=["ssn"])
    assert fresh(row).ssn == "y"


@pytest.mark.parametrize("load", [
    lambda rows: rows.only("name"),
    lambda rows: rows.defer("ssn"),
    lambda rows: rows.defer("ssn", "notes", "history"),
    lambda rows: rows.only("history", "name"),
    lambda rows: rows.only("pk"),
])  # fmt: skip
@pytest.mark.parametrize("names", [None, ["organization"], ["organization_id", "name"]])
def test_the_context_may_change_while_values_are_deferred(patient, other_organization, load, names) -> None:
    row = load(Patient.objects).get(pk=patient.pk)
    row.organization = other_organization
    row.save(update_fields=names)
    reloaded = fresh(patient)
    assert reloaded.organization == other_organization
    assert (reloaded.ssn, reloaded.notes, reloaded.history) == ("123-45-6789", "", [1])


@pytest.mark.parametrize("load", [lambda rows: rows, lambda rows: rows.defer("name"), lambda rows: rows.defer("ssn")])
@pytest.mark.parametrize("names", [None, ["organization"]])
def test_a_stale_row_that_writes_its_context_writes_its_values_along(
    patient, organization, other_organization, load, names
) -> None:
    stale = load(Patient.objects).get(pk=patient.pk)
    newer = fresh(patient)
    newer.organization = other_organization
    newer.save()
    stale.save(update_fields=names)
    reloaded = fresh(patient)
    assert reloaded.organization == organization
    assert (reloaded.ssn, reloaded.history) == ("123-45-6789", [1])


def test_values_that_are_not_named_stay_unsaved(patient, other_organization) -> None:
    row = fresh(patient)
    row.ssn, row.organization, row.notes = "draft", other_organization, None
    row.history.append("draft")
    row.save(update_fields=["organization"])
    assert (fresh(patient).ssn, fresh(patient).notes, fresh(patient).history) == ("123-45-6789", "", [1])
    assert (row.ssn, row.notes, row.history) == ("draft", None, [1, "draft"])
    Patient.objects.bulk_update([row], ["organization"])
    assert (fresh(patient).ssn, fresh(patient).history) == ("123-45-6789", [1])
    row.save()
    assert (fresh(patient).ssn, fresh(patient).notes, fresh(patient).history) == ("draft", None, [1, "draft"])


def test_a_stale_value_that_is_not_named_is_not_written(
    organization, other_organization, django_assert_num_queries, lock_queries
) -> None:
    letter = Letter.objects.create(organization=organization, subject="s", text=[1])
    stale = fresh(letter)
    assert (stale.subject, stale.text) == ("s", [1])
    newer = fresh(letter)
    newer.text = ["newer"]
    newer.save()
    stale.subject = "named"
    with django_assert_num_queries(1 + lock_queries):
        stale.save(update_fields=["subject"])
    assert (fresh(letter).subject, fresh(letter).text) == ("named", ["newer"])
    stale.organization = other_organization
    stale.save(update_fields=["organization"])
    assert (fresh(letter).subject, fresh(letter).text) == ("named", ["newer"])
    Letter.objects.bulk_update([stale], ["subject"])
    assert (fresh(letter).subject, fresh(letter).text) == ("named", ["newer"])
    assert (stale.subject, stale.text) == ("named", [1])
    stale.save()
    assert (fresh(letter).subject, fresh(letter).text) == ("named", [1])


def test_what_was_never_loaded_is_not_overwritten(organization) -> None:
    letters = [Letter.objects.create(organization=organization, subject="s", text=[n]) for n in range(3)]
    built = [Letter(pk=letter.pk, organization_id=organization.pk, subject="new") for letter in letters]
    built[0].save(update_fields=["subject"])
    Letter.objects.bulk_update(built[1:], ["subject"])
    assert [(row.subject, row.text) for row in Letter.objects.order_by("pk")] == [("new", [n]) for n in range(3)]


def test_a_deleted_attribute_is_loaded_again(patient) -> None:
    row = fresh(patient)
    row.ssn = "draft"
    del row.ssn
    assert row.ssn == "123-45-6789"
    del row.ssn
    with pytest.raises(AttributeError):
        del row.ssn


def test_a_value_takes_the_place_of_one_whose_companion_is_malformed(patient, execute) -> None:
    execute("UPDATE testapp_patient SET ssn_keys = 'malformed'")
    row = fresh(patient)
    row.name = "Grace"
    row.save()
    with pytest.raises(DecryptionError, match=r"testapp.Patient.ssn \(pk="):
        row.ssn  # noqa: B018
    row.ssn = "new"
    row.save()
    assert fresh(patient).ssn == "new"


def test_a_value_assigned_to_a_deferred_row_is_saved(patient) -> None:
    loaded = Patient.objects.only("name").get(pk=patient.pk)
    loaded.ssn = "new"
    loaded.save()
    assert fresh(patient).ssn == "new"


def test_a_save_that_failed_can_be_repeated(patient, stored) -> None:
    loaded = fresh(patient)
    loaded.ssn = "new"
    with transaction.atomic():
        loaded.save(update_fields=["ssn"])
        transaction.set_rollback(True)
    assert fresh(patient).ssn == "123-45-6789"
    with assert_vault_calls():
        loaded.save(update_fields=["ssn"])
    assert fresh(patient).ssn == "new"


def test_expressions_are_refused(patient) -> None:
    for expression in (F("name"), Value("x")):
        loaded = fresh(patient)
        loaded.ssn = expression
        with pytest.raises(FieldError, match="testapp.Patient.ssn"), transaction.atomic():
            loaded.save()
    assert fresh(patient).ssn == "123-45-6789"


@pytest.mark.parametrize("value", ["$vf$1$x$y", "$vf$27$"])
def test_a_value_that_looks_encrypted_is_refused(patient, value) -> None:
    loaded = fresh(patient)
    loaded.ssn = value
    with pytest.raises(ValueRefused, match="begins like an encrypted value"), transaction.atomic():
        loaded.save()
    assert fresh(patient).ssn == "123-45-6789"


@pytest.mark.parametrize(
    "value", [object(), float("nan"), {"a": "\ud800"}, {1, 2}, deep(100_000)], ids=lambda value: type(value).__name__
)
def test_what_json_cannot_hold_is_refused_without_showing_it(organization, value) -> None:
    with pytest.raises(ValueRefused) as caught, transaction.atomic():
        Patient.objects.create(organization=organization, history=value)
    assert "testapp.Patient.history" in str(caught.value)
    assert "ud800" not in str(caught.value)
    assert "nan" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert not Patient.objects.exists()


def test_a_value_above_the_limit_is_refused(organization, monkeypatch) -> None:
    monkeypatch.setattr("vault_fields.stored.envelope.MAX_PLAINTEXT_BYTES", 3)
    assert fresh(Patient.objects.create(organization=organization, ssn="abc", history=None)).ssn == "abc"
    with (
        pytest.raises(ValueRefused, match=r"testapp.Patient.ssn .*it has 4 bytes, and at most 3"),
        transaction.atomic(),
    ):
        Patient.objects.create(organization=organization, ssn="abcd", history=None)


def test_a_lone_surrogate_is_refused(organization) -> None:
    with pytest.raises(ValueRefused, match="surrogate"), transaction.atomic():
        Patient.objects.create(organization=organization, ssn="\ud800secret")


def test_a_row_without_its_context_is_refused(db) -> None:
    with pytest.raises(KeyContextError) as caught, transaction.atomic():
        Patient.objects.create(ssn="secret")
    assert "testapp.Patient.ssn" in str(caught.value)
    assert "organization_id" in str(caught.value)
    assert not Patient.objects.exists()


def test_the_context_may_lie_behind_a_relation(organization, stored) -> None:
    with assert_vault_calls(create=1):
        document = Document.objects.create(organization=organization, body="text")
    decoded = companion.decode(stored(document, "body_keys")[0])
    assert decoded.context == {"organization_id": "org_1", "purpose": "documents"}
    assert decoded.row == {"organization_id": str(organization.pk)}
    assert fresh(document).body == "text"


def test_reading_through_a_relation_context_costs_no_query(organization, django_assert_num_queries) -> None:
    for _ in range(3):
        Document.objects.create(organization=organization, body="text")
    with django_assert_num_queries(1):
        assert [document.body for document in Document.objects.all()] == ["text"] * 3


def test_a_value_saved_after_the_related_row_changed_gets_the_new_context(organization, stored) -> None:
    document = Document.objects.create(organization=organization, body="text")
    Organization.objects.update(workos_id="org_new")
    assert fresh(document).body == "text"
    loaded = fresh(document)
    loaded.body = "new"
    loaded.save()
    assert companion.decode(stored(document, "body_keys")[0]).context["organization_id"] == "org_new"


def test_two_fields_share_a_declared_companion(organization, stored) -> None:
    with assert_vault_calls(create=1):
        letter = Letter.objects.create(organization=organization, subject="s", text={"t": 1})
    subject, text, keys = stored(letter, "subject", "text", "vault_keys")
    key_id = companion.decode(keys).key_id
    assert envelope.decode(subject).key_id == envelope.decode(text).key_id == key_id
    assert (fresh(letter).subject, fresh(letter).text) == ("s", {"t": 1})


def test_one_of_two_values_may_change(organization) -> None:
    letter = Letter.objects.create(organization=organization, subject="s", text={"t": 1})
    loaded = Letter.objects.only("subject").get(pk=letter.pk)
    loaded.subject = "new"
    loaded.save(update_fields=["subject"])
    assert (fresh(letter).subject, fresh(letter).text) == ("new", {"t": 1})


def test_clearing_one_of_two_values_keeps_the_companion(organization) -> None:
    letter = Letter.objects.create(organization=organization, subject="s", text={"t": 1})
    loaded = fresh(letter)
    loaded.subject = None
    loaded.save(update_fields=["subject"])
    assert (fresh(letter).subject, fresh(letter).text) == (None, {"t": 1})


def test_a_stale_row_does_not_part_the_values_of_a_shared_companion(organization, other_organization) -> None:
    letter = Letter.objects.create(organization=organization, subject="s", text={"t": 1})
    stale = Letter.objects.only("subject", "organization").get(pk=letter.pk)
    newer = fresh(letter)
    newer.text = None
    newer.save()
    newer.text, newer.subject = {"t": 2}, None
    newer.save()
    stale.subject = "stale"
    stale.save(update_fields=["subject"])
    assert (fresh(letter).subject, fresh(letter).text) == ("stale", {"t": 2})


def test_a_value_is_bound_to_its_row(db, execute) -> None:
    import uuid

    tenant = uuid.uuid4()
    first = Token.objects.create(tenant=tenant, secret="first")
    second = Token.objects.create(tenant=tenant, secret="second")
    assert (fresh(first).secret, fresh(second).secret) == ("first", "second")
    assert dict(Token.objects.values_list("pk", "secret")) == {first.pk: "first", second.pk: "second"}


def test_a_value_follows_the_column_that_it_is_bound_to(organization, stored) -> None:
    bookmark = Bookmark.objects.create(organization=organization, slug="a", region="eu", url="u")
    (before,) = stored(bookmark, "url_keys")
    loaded = fresh(bookmark)
    loaded.slug = "b"
    refusal = "slug differs from that of the stored row and decides whether the value opens"
    with pytest.raises(KeyContextError, match=refusal), transaction.atomic():
        loaded.save(update_fields=["url"])
    loaded.save(update_fields=["slug"])
    assert fresh(bookmark).url == "u"
    loaded = fresh(bookmark)
    loaded.slug = "c"
    loaded.save()
    assert fresh(bookmark).url == "u"
    loaded.slug = "d"
    Bookmark.objects.bulk_update([loaded], ["slug"])
    assert fresh(bookmark).url == "u"
    assert stored(bookmark, "url_keys") == (before,)


def test_a_bound_column_is_not_saved_with_a_context_that_is_not(organization, other_organization) -> None:
    bookmark = Bookmark.objects.create(organization=organization, slug="a", region="eu", url="u")
    loaded = fresh(bookmark)
    loaded.slug, loaded.organization = "b", other_organization
    with (
        pytest.raises(KeyContextError, match="organization_id differs from that of the stored row"),
        transaction.atomic(),
    ):
        loaded.save(update_fields=["slug"])
    assert fresh(bookmark).url == "u"


def test_only_the_changed_columns_of_a_context_have_to_be_saved(organization, other_organization) -> None:
    bookmark = Bookmark.objects.create(organization=organization, slug="a", region="eu", url="u")
    loaded = fresh(bookmark)
    loaded.organization, loaded.url = other_organization, "new"
    loaded.save(update_fields=["organization", "url"])
    assert fresh(bookmark).url == "new"


def test_a_function_derives_the_context(db, stored) -> None:
    setting = Setting.objects.create(tenant="t\x1f1", kind=None, value="v")
    assert companion.decode(stored(setting, "value_keys")[0]).context == {"tenant": "t\x1f1", "kind": "general"}
    assert companion.decode(stored(setting, "value_keys")[0]).row == {"tenant": "t\x1f1", "kind": None}
    assert fresh(setting).value == "v"
    assert Setting.objects.values_list("value", flat=True).get() == "v"
    assert Setting.objects.only("value").get().value == "v"


def test_a_copied_row_is_a_row_of_its_own(patient, other_organization) -> None:
    copy = fresh(patient)
    copy.pk = None
    copy.organization = other_organization
    copy.save(force_insert=True)
    assert copy.pk != patient.pk
    assert fresh(copy).ssn == fresh(patient).ssn == "123-45-6789"


def test_refresh_takes_what_is_stored_without_opening_it(patient, stored) -> None:
    loaded = fresh(patient)
    newer = fresh(patient)
    newer.ssn, newer.history = "newer", {"n": 1}
    newer.save()
    before = stored(patient, "ssn", "ssn_keys")
    with assert_vault_calls(cold=True):
        loaded.refresh_from_db()
        loaded.save()
    assert stored(patient, "ssn", "ssn_keys") == before
    assert (loaded.ssn, loaded.history) == ("newer", {"n": 1})
    loaded.ssn = "unsaved"
    loaded.refresh_from_db(fields=["ssn"])
    assert loaded.ssn == "newer"


def test_refresh_takes_a_queryset_of_the_callers(patient) -> None:
    row = fresh(patient)
    row.ssn = "unsaved"
    row.refresh_from_db(from_queryset=Patient.objects.select_related("organization"))
    assert (row.ssn, row.history) == ("123-45-6789", [1])
    with pytest.raises(Patient.DoesNotExist):
        row.refresh_from_db(from_queryset=Patient.objects.filter(name="nobody"))


def test_get_or_create_and_update_or_create_take_values_as_defaults(organization) -> None:
    patient, created = Patient.objects.get_or_create(
        organization=organization, name="Ada", defaults={"ssn": "1", "history": {}}
    )
    assert created
    patient, created = Patient.objects.update_or_create(
        organization=organization, name="Ada", defaults={"ssn": "2"}, create_defaults={"ssn": "3"}
    )
    assert not created
    assert (fresh(patient).ssn, fresh(patient).history) == ("2", {})


def test_searching_by_value_in_get_or_create_is_refused(patient, organization) -> None:
    with pytest.raises(FieldError, match="does not support the lookup 'exact'"), transaction.atomic():
        Patient.objects.get_or_create(organization=organization, ssn="123-45-6789")
    assert Patient.objects.count() == 1


def test_queryset_update_refuses_expressions(patient, stored) -> None:
    before = stored(patient, "ssn", "ssn_keys")
    for value in (F("name"), Value("x"), F("ssn")):
        with pytest.raises(FieldError, match="testapp.Patient.ssn"), transaction.atomic():
            Patient.objects.update(ssn=value)
    assert stored(patient, "ssn", "ssn_keys") == before
    Patient.objects.update(ssn=None)
    assert fresh(patient).ssn is None


def test_ciphertext_does_not_leak_into_another_column(patient) -> None:
    with pytest.raises(FieldError, match="use in an update"), transaction.atomic():
        Patient.objects.update(name=F("ssn"))


def test_related_managers_encrypt(organization) -> None:
    patient = organization.patients.create(ssn="1")
    assert fresh(patient).ssn == "1"


def test_no_plaintext_in_the_statements(organization, settings) -> None:
    settings.DEBUG = True
    connection.queries_log.clear()
    Patient.objects.create(organization=organization, ssn="123-45-6789", history={"k": "hidden value"})
    log = repr(connection.queries)
    assert "INSERT" in log
    assert "123-45" not in log
    assert "hidden value" not in log


# In no line of source, since a debug page shows those around each frame.
SSN = f"{78:03}-{5:02}-{1120}"


WRITES = {
    "save": lambda row: row.save(),
    "update_fields": lambda row: row.save(update_fields=["history"]),
    "bulk_update": lambda row: Patient.objects.bulk_update([row], ["history"]),
}


def debug_page(error):
    return ExceptionReporter(None, type(error), error, error.__traceback__).get_traceback_html()


def circular():
    value = {"ssn": SSN}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    "damage",
    [
        lambda row: row.history.update(when=object()),
        lambda row: row.history.update(n=float("nan")),
        lambda row: row.history.update(circular()),
        lambda row: setattr(row, "history", {**row.history, "when": object()}),
        lambda row: setattr(row, "history", circular()),
    ],
    ids=["object", "nan", "circular", "assigned", "assigned circular"],
)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("saved", [False, True])
def test_json_that_cannot_be_encoded_is_refused_of_a_row_that_was_read(organization, damage, write, saved) -> None:
    row = fresh(Patient.objects.create(organization=organization, history={"ssn": SSN}))
    assert row.history == {"ssn": SSN}
    if saved:
        row.name = "saved"
        row.save()
    damage(row)
    with pytest.raises(ValueRefused) as caught, transaction.atomic():
        WRITES[write](row)
    assert str(caught.value).startswith(
        f"testapp.Patient.history (pk={row.pk}): the value is refused: it cannot be enc"
    )
    assert SSN not in debug_page(caught.value)
    assert fresh(row).history == {"ssn": SSN}


class FailingEncoder(DjangoJSONEncoder):
    def default(self, o) -> Never:
        raise KeyError(o)


class FailingDecoder(json.JSONDecoder):
    def decode(self, s) -> Never:
        raise KeyError(s)


def test_an_encoder_that_fails_in_its_own_way_leaks_nothing(organization, monkeypatch) -> None:
    row = Patient.objects.create(organization=organization, history={"ssn": SSN})
    monkeypatch.setattr(Patient._meta.get_field("history"), "encoder", FailingEncoder)
    row.history["when"] = object()
    with pytest.raises(ValueRefused, match=r"testapp\.Patient\.history .* cannot be encoded \(KeyError\)") as caught:
        row.save()
    assert SSN not in debug_page(caught.value)


def test_a_decoder_that_fails_in_its_own_way_leaks_nothing(organization, monkeypatch) -> None:
    row = fresh(Patient.objects.create(organization=organization, history={"ssn": SSN}))
    monkeypatch.setattr(Patient._meta.get_field("history"), "decoder", FailingDecoder)
    with pytest.raises(DecryptionError, match=r"testapp\.Patient\.history .* its decoder failed") as caught:
        _ = row.history
    assert SSN not in debug_page(caught.value)
