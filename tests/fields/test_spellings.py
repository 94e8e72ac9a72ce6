"""Whatever a plain field's ``save()`` takes for a key is taken here; ids of data keys may repeat."""

import uuid

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from tests.testapp.models import Document, Organization, Patient, Reply, Thread, Token
from vault_fields.exceptions import KeyContextError
from vault_fields.fields import EncryptedTextField
from vault_fields.vaults import vaults

WAYS = {
    "create": Document.objects.create,
    "save": lambda **values: Document(**values).save(),
    "bulk_create": lambda **values: Document.objects.bulk_create([Document(**values), Document(**values)]),
    "update_or_create": lambda **values: Document.objects.update_or_create(pk=1, defaults=values),
    "get_or_create": lambda **values: Document.objects.get_or_create(pk=1, defaults=values),
}


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
def test_a_key_may_be_given_as_text(organization, write) -> None:
    write(organization_id=str(organization.pk), body="text")
    assert {document.body for document in Document.objects.all()} == {"text"}
    assert {document.organization for document in Document.objects.all()} == {organization}


def test_a_key_given_as_text_stays_what_it_is_and_its_relation_works(organization) -> None:
    document = Document(organization_id=str(organization.pk), body="text")
    document.save()
    assert document.organization_id == str(organization.pk)
    assert document.organization == organization


def test_a_row_can_be_updated_with_a_key_given_as_text(organization, other_organization) -> None:
    documents = [Document.objects.create(organization=organization, body=str(number)) for number in range(2)]
    for document in documents:
        document.organization_id = str(other_organization.pk)
    Document.objects.bulk_update(documents, ["organization"])
    assert [document.body for document in Document.objects.order_by("pk")] == ["0", "1"]
    documents[0].organization_id = str(organization.pk)
    documents[0].save(update_fields=["organization_id"])
    assert [document.body for document in Document.objects.order_by("pk")] == ["0", "1"]
    assert [document.organization_id for document in Document.objects.order_by("pk")] == [
        organization.pk,
        other_organization.pk,
    ]


def test_a_primary_key_may_be_given_as_text(organization) -> None:
    patient = Patient.objects.create(organization=organization, ssn="old", history=None)
    row = Patient(pk=str(patient.pk), organization_id=str(organization.pk), ssn="new")
    row.save(update_fields=["ssn"])
    assert Patient.objects.get().ssn == "new"
    row.ssn = "newer"
    Patient.objects.bulk_update([row], ["ssn"])
    assert Patient.objects.get().ssn == "newer"
    row.organization_id = "999"
    with pytest.raises(KeyContextError, match="differs from that of the stored row"):
        Patient.objects.bulk_update([row], ["ssn"])


def test_uuids_may_be_given_as_text(db) -> None:
    tenant, pk = uuid.uuid4(), uuid.uuid4()
    Token.objects.create(id=str(pk), tenant=str(tenant), secret="secret")
    row = Token.objects.get()
    assert row.secret == "secret"
    again = Token.objects.get()
    again.id, again.tenant, again.secret = str(pk).upper(), tenant.hex, "new"
    again.save(update_fields=["secret"])
    assert Token.objects.get().secret == "new"


def test_a_key_behind_two_relations_may_be_given_as_text(organization) -> None:
    thread = Thread.objects.create(organization_id=str(organization.pk))
    Reply.objects.bulk_create([Reply(thread_id=str(thread.pk), text="a"), Reply(thread=thread, text="b")])
    assert [reply.text for reply in Reply.objects.order_by("pk")] == ["a", "b"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_tenant_that_is_not_there_poisons_nothing(db, number) -> None:
    documents = [Document(organization_id=987, body="text") for _ in range(number)]
    with pytest.raises(KeyContextError, match="'organization' is not set"):
        Document.objects.bulk_create(documents)
    for document in documents:
        with pytest.raises(Organization.DoesNotExist):
            document.organization  # noqa: B018


def test_a_key_that_is_none_says_what_django_says(db) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        Document.objects.create(organization_id="abc", body="text")


def test_a_vault_may_give_two_keys_one_id(organization, other_organization, monkeypatch) -> None:
    from dataclasses import replace

    vault = vaults["default"]
    create = vault.create_data_key
    monkeypatch.setattr(vault, "create_data_key", lambda context: replace(create(context), id="always-the-same"))
    monkeypatch.setattr(vault, "max_rows_per_key", 1)
    owners = [organization, organization, other_organization]
    Patient.objects.bulk_create([Patient(organization=each, ssn=str(n), history=[n]) for n, each in enumerate(owners)])
    assert [(row.ssn, row.history) for row in Patient.objects.order_by("pk")] == [("0", [0]), ("1", [1]), ("2", [2])]
    rows = list(Patient.objects.order_by("pk"))
    for row in rows:
        row.ssn += "!"
    Patient.objects.bulk_update(rows, ["ssn"])
    assert [row.ssn for row in Patient.objects.order_by("pk")] == ["0!", "1!", "2!"]
    rows[0].organization = other_organization
    rows[0].save()
    assert Patient.objects.order_by("pk")[0].ssn == "0!"


class SlugOfName(models.CharField):
    """As slug fields of packages do: it takes its value from another column when the row is saved."""

    def pre_save(self, model_instance, add):
        value = model_instance.name.lower()
        setattr(model_instance, self.attname, value)
        return value


class Restless(models.IntegerField):
    def pre_save(self, model_instance, add):
        value = (getattr(model_instance, self.attname) or 0) + 1
        setattr(model_instance, self.attname, value)
        return value


@pytest.fixture
def late(transactional_db):
    """A model whose context is chosen when the row is saved."""
    with isolate_apps("tests.testapp"):

        class Late(models.Model):
            secret = EncryptedTextField(key_context=["slug"])
            name = models.CharField(max_length=20)
            slug = SlugOfName(max_length=20, default="")

            class Meta:
                app_label = "testapp"

        class Shifting(models.Model):
            number = Restless(default=0)
            secret = EncryptedTextField(key_context=["number"])

            class Meta:
                app_label = "testapp"

        with connection.schema_editor() as editor:
            editor.create_model(Late)
            editor.create_model(Shifting)
        yield Late, Shifting
        with connection.schema_editor() as editor:
            editor.delete_model(Late)
            editor.delete_model(Shifting)


def test_a_context_that_is_chosen_in_pre_save_is_the_one_that_is_encrypted_for(late) -> None:
    model = late[0]
    model.objects.create(name="Ada", secret="a")
    model.objects.bulk_create([model(name="Ben", secret="b")])
    assert list(model.objects.order_by("pk").values_list("slug", "secret")) == [("ada", "a"), ("ben", "b")]
    row = model.objects.get(slug="ada")
    row.name, row.secret = "Eve", "e"
    row.save()
    row.name = "Fay"
    row.save(update_fields=["name", "slug"])
    row.secret = "f"
    row.save(update_fields=["secret"])
    row = model.objects.get(slug="fay")
    assert row.secret == "f"


def test_a_context_that_changes_with_every_pre_save_is_refused(late) -> None:
    model = late[1]
    with pytest.raises(KeyContextError, match="number has another value each time"):
        model.objects.create(secret="s")
    assert not model.objects.exists()
