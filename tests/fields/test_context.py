"""Where a context comes from, and every way in which it cannot be derived."""

import enum
import uuid

import pytest
from django.core.exceptions import FieldDoesNotExist
from django.db import models, transaction
from django.db.models import Value
from django.test.utils import isolate_apps

from tests.testapp.models import Document, Organization, Patient, Setting, Token
from vault_fields.exceptions import KeyContextError
from vault_fields.fields import EncryptedTextField, context_from
from vault_fields.fields.bindings import attribute_text
from vault_fields.fields.context import ContextSource
from vault_fields.stored import companion


class Color(enum.Enum):
    RED = "red"
    SEVEN = 7


class Region(models.TextChoices):
    EU = "eu", "Europe"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        ("é🩺", "é🩺"),
        (7, "7"),
        (-7, "-7"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Color.RED, "red"),
        (Color.SEVEN, "7"),
        (Region.EU, "eu"),
    ],
)
def test_what_may_name_a_tenant(value, text) -> None:
    assert attribute_text(value) == text


@pytest.mark.parametrize(
    "value", [None, 1.0, True, b"a", {"a": 1}, ["a"], object()], ids=lambda value: type(value).__name__
)
def test_what_has_more_than_one_spelling_is_refused(value) -> None:
    with pytest.raises(KeyContextError, match=f"type {type(value).__name__} cannot name a tenant"):
        attribute_text(value)


@pytest.mark.parametrize("declaration", ["organization_id", None, 7, [1], {"a": 1}, {"a": ["b"]}, {1: "a"}], ids=repr)
def test_a_declaration_of_another_kind_is_refused(declaration) -> None:
    with pytest.raises(TypeError, match="key_context"):
        EncryptedTextField(key_context=declaration)


@pytest.mark.parametrize("value", [None, 1.5, True, ["a"]], ids=repr)
def test_a_constant_that_cannot_name_a_tenant_is_refused_by_its_name(value) -> None:
    with pytest.raises(TypeError, match=r"key_context\['purpose'\] has a value of type .* cannot name a tenant"):
        EncryptedTextField(key_context={"organization_id": "organization_id", "purpose": Value(value)})


@pytest.mark.parametrize("option", ["former_labels", "bind_to"])
@pytest.mark.parametrize("value", ["app.Model.field", [5], None, {"a": 1}], ids=repr)
def test_options_that_are_no_list_of_strings_are_refused(option, value) -> None:
    with pytest.raises(TypeError, match=f"{option} is a list of strings, not "):
        EncryptedTextField(key_context=["organization_id"], **{option: value})


@pytest.mark.parametrize("value", ["False", "write", 0, 1, None], ids=repr)
def test_migrating_is_a_phase_and_nothing_like_one(value) -> None:
    with pytest.raises(TypeError, match='migrating is False, "read" or True, not'):
        EncryptedTextField(key_context=["organization_id"], migrating=value)


@pytest.mark.parametrize("label", ["ssn", "Patient.ssn", "tests.testapp.Patient.ssn", "", "a..b", "a.b."])
def test_former_label_is_a_whole_one(label) -> None:
    with pytest.raises(ValueError, match=r"a label is 'app_label\.Model\.field'"):
        EncryptedTextField(key_context=["organization_id"], former_labels=[label])


def test_key_context_is_required() -> None:
    with pytest.raises(TypeError, match="key_context"):
        EncryptedTextField()


def test_items_are_counted() -> None:
    assert len(ContextSource(["a", "b"])) == 2
    assert len(ContextSource({"a": "x__y", "b": Value("c")})) == 2


@pytest.mark.parametrize("region", [1.5, None, "", {"a": 1}, True], ids=repr)
@isolate_apps("tests.testapp")
def test_an_attribute_that_cannot_be_used_names_field_attribute_and_remedy(region) -> None:
    class Row(models.Model):
        region = models.CharField(max_length=10, null=True)
        secret = EncryptedTextField(key_context=["region"])

        class Meta:
            app_label = "testapp"

    with pytest.raises(KeyContextError, match=r"testapp.Row.secret \(pk=7\): .*'region'"):
        Row(pk=7, region=region, secret="x").save()


@isolate_apps("tests.testapp")
def test_a_value_its_column_does_not_take_is_refused() -> None:
    class Row(models.Model):
        tenant = models.UUIDField()
        secret = EncryptedTextField(key_context=["tenant"])

        class Meta:
            app_label = "testapp"

    with pytest.raises(KeyContextError, match="'tenant'"):
        Row(pk=7, tenant="not a uuid", secret="x").save()


def test_a_uuid_given_as_text_is_the_same_context(db) -> None:
    tenant = uuid.uuid4()
    token = Token.objects.create(tenant=tenant.hex, secret="x")
    assert companion.decode(token.secret_keys).context == {"tenant_id": str(tenant)}
    assert Token.objects.get().secret == "x"


def test_a_relation_that_is_not_set_is_refused(db) -> None:
    with pytest.raises(
        KeyContextError, match=r"testapp.Document.body .*'organization__workos_id': 'organization' is not set"
    ):
        Document(body="x").save()


def test_a_relation_to_a_row_that_is_gone_is_refused(db) -> None:
    with pytest.raises(KeyContextError, match="'organization' is not set"):
        Document(organization_id=987654, body="x").save()


def test_a_value_too_long_for_a_context_is_refused(db) -> None:
    with pytest.raises(KeyContextError, match=r"testapp.Setting.value .*at most 500 characters"):
        Setting(tenant="x" * 501, value="x").save()


def test_a_value_at_the_limit_is_taken(organization) -> None:
    organization.workos_id = "ü" * 100
    organization.save()
    Document.objects.create(organization=organization, body="x")
    assert Document.objects.get().body == "x"


@isolate_apps("tests.testapp")
def test_a_function_has_to_return_a_context() -> None:
    @context_from("name")
    def derive(row):
        return {"name": row.name and 7}

    class Row(models.Model):
        name = models.CharField(max_length=10)
        secret = EncryptedTextField(key_context=derive)

        class Meta:
            app_label = "testapp"

    with pytest.raises(KeyContextError, match=r"testapp.Row.secret \(pk=None\): Values in a key context are strings"):
        Row(name="x", secret="x").save()


@isolate_apps("tests.testapp")
def test_an_attribute_that_is_no_column_is_an_error_when_it_is_needed() -> None:
    class Row(models.Model):
        secret = EncryptedTextField(key_context=["tenant"])

        class Meta:
            app_label = "testapp"

    with pytest.raises(FieldDoesNotExist, match="testapp.Row has no column 'tenant'"):
        Row(secret="x").save()


@isolate_apps("tests.testapp")
def test_a_path_that_ends_nowhere_is_refused() -> None:
    class Row(models.Model):
        organization = models.ForeignKey(Organization, models.CASCADE)
        secret = EncryptedTextField(key_context={"a": "organization__typo"})

        class Meta:
            app_label = "testapp"

    with pytest.raises(KeyContextError, match="testapp.Organization has no column 'typo'"):
        Row(organization=Organization(pk=1), secret="x").save()


def test_bind_to_needs_a_value_before_the_row_is_inserted(db) -> None:
    with isolate_apps("tests.testapp"):

        class Row(models.Model):
            tenant = models.CharField(max_length=10)
            number = models.IntegerField(null=True)
            secret = EncryptedTextField(key_context=["tenant"], bind_to=["number"])

            class Meta:
                app_label = "testapp"

        with pytest.raises(KeyContextError, match="bind_to names 'number', which has no value before"):
            Row(tenant="x", secret="x").save()


def test_a_companion_that_could_not_be_read_again_is_not_written(db) -> None:
    @context_from("note")
    def derive(row):
        return {"tenant": "a"}

    with isolate_apps("tests.testapp"):

        class Row(models.Model):
            note = models.TextField()
            secret = EncryptedTextField(key_context=derive)

            class Meta:
                app_label = "testapp"

        with pytest.raises(
            KeyContextError, match=r"testapp.Row.secret \(pk=None\): the companion would not be readable"
        ):
            Row(note="x" * 5000, secret="x").save()


def test_adding_an_item_to_a_context_goes_on_opening_what_was_written_before(patient, monkeypatch) -> None:
    field = Patient._meta.get_field("ssn")
    from vault_fields.fields import groups

    monkeypatch.setattr(field, "source", ContextSource({"organization_id": "organization_id", "name": "name"}))
    groups._groups.pop(Patient, None)
    try:
        loaded = Patient.objects.get(pk=patient.pk)
        assert loaded.ssn == "123-45-6789"
        loaded.ssn = "new"
        loaded.save()
        reloaded = Patient.objects.get(pk=patient.pk)
        assert set(companion.decode(reloaded.ssn_keys).context) == {"organization_id", "name"}
        assert reloaded.ssn == "new"
    finally:
        monkeypatch.undo()
        groups._groups.pop(Patient, None)


def test_a_context_without_a_common_item_is_a_mismatch(patient, monkeypatch) -> None:
    from vault_fields.exceptions import KeyContextMismatch
    from vault_fields.fields import groups

    field = Patient._meta.get_field("ssn")
    monkeypatch.setattr(field, "source", ContextSource(["name"]))
    groups._groups.pop(Patient, None)
    try:
        with pytest.raises(KeyContextMismatch, match="name of the row differs"):
            Patient.objects.get(pk=patient.pk).ssn  # noqa: B018
        monkeypatch.setattr(field, "source", ContextSource({"a": Value("b")}))
        groups._groups.pop(Patient, None)
        with pytest.raises(KeyContextMismatch, match="organization_id of the row differs"):
            Patient.objects.get(pk=patient.pk).ssn  # noqa: B018
    finally:
        monkeypatch.undo()
        groups._groups.pop(Patient, None)


def test_a_function_that_names_no_column_is_compared_with_nothing_which_is_why_e002_refuses_it(
    organization, monkeypatch
) -> None:
    """What stands outside of the row has a form of its own, which is compared: see ``test_outside``."""
    from vault_fields.fields import groups

    schema = "acme"
    source = ContextSource(context_from()(lambda row: {"schema": schema}))
    monkeypatch.setattr(Patient._meta.get_field("ssn"), "source", source)
    groups._groups.pop(Patient, None)
    try:
        Patient.objects.create(organization=organization, ssn="123-45-6789")
        assert companion.decode(Patient.objects.get().ssn_keys).context == {"schema": "acme"}
        schema = "evil"
        assert Patient.objects.get().ssn == "123-45-6789"
    finally:
        monkeypatch.undo()
        groups._groups.pop(Patient, None)


def test_many_rows_behind_relations_are_saved_with_one_query_for_all_contexts(
    organization, django_assert_num_queries, lock_queries
) -> None:
    with transaction.atomic():
        Document.objects.bulk_create([Document(organization=organization, body=str(n)) for n in range(3)])
    rows = list(Document.objects.all())
    for row in rows:
        row.body += "!"
    with django_assert_num_queries(2 + lock_queries):
        Document.objects.bulk_update(rows, ["body"])


def test_a_relation_whose_row_is_gone_is_not_set(db) -> None:
    source = Document._meta.get_field("body").source
    with pytest.raises(KeyContextError, match="'organization' is not set; set it before saving"):
        source.derive(Document(organization_id=999))
