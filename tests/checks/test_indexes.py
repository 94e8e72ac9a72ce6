"""Indexes: their keys have a table, their labels differ, and rows have hashes."""

from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, models

from tests.testapp.models import Contact, Organization
from vault_fields.checks.indexes import check_hashes, check_indexes
from vault_fields.fields import BlindIndex, EncryptedTextField, IndexField
from vault_fields.normalize import casefold, digits

MODEL = """migrations.CreateModel("Patient", [
    ("id", models.BigAutoField(primary_key=True)),
    ("ssn", EncryptedTextField(key_context=["organization_id"]{})),
    ("ssn_keys", CompanionField()),
    ("ssn_index", IndexField({})),
])"""


def patient(lab: Any, index: Any = True, **options: Any) -> Any:
    return lab.patient(ssn=EncryptedTextField(key_context=["organization_id"], index=index, **options))


def checked(lab: Any) -> list[Any]:
    return check_indexes(lab.apps.get_app_configs())


def depending(project: Any, name: str, operations: str, *dependencies: tuple[str, str]) -> None:
    project.migration(name, operations)
    path = project.path / f"{name}.py"
    path.write_text(path.read_text().replace("dependencies = []", f"dependencies = {[*dependencies]}"))


KEYS = ("vault_fields", "0001_index_keys")


def test_a_project_without_an_index_reads_no_migration(lab, monkeypatch) -> None:
    monkeypatch.setattr("vault_fields.checks.indexes.MigrationLoader", None)
    lab.patient()
    assert checked(lab) == []


def test_e034_index_before_the_table_of_index_keys(lab, project) -> None:
    patient(lab)
    depending(project, "0001", MODEL.format("", ""))
    (message,) = checked(lab)
    assert message.id == "vault_fields.E034"
    assert message.obj == "testapp.0001"
    assert message.hint == "Write ('vault_fields', '0001_index_keys') into its dependencies."
    assert check_indexes([apps.get_app_config("contenttypes"), *lab.apps.get_app_configs()]) == [message]


@pytest.mark.parametrize(
    "operations",
    [
        'migrations.AddField("Patient", "end_index", IndexField("ssn", index_name="end"))',
        'migrations.SeparateDatabaseAndState([migrations.AddField("Patient", "end_index", IndexField("ssn"))])',
    ],
)
def test_e034_is_about_what_a_migration_depends_on_by_others_too(lab, project, operations: str) -> None:
    patient(lab)
    depending(project, "0001", MODEL.format("", ""), KEYS)
    depending(project, "0002", operations, ("testapp", "0001"))
    assert checked(lab) == []


def test_e034_other_apps_are_not_asked_about(lab, project) -> None:
    patient(lab)
    depending(project, "0001", MODEL.format("", ""))
    assert check_indexes([apps.get_app_config("contenttypes")]) == []


def test_migrations_that_cannot_be_read_are_reported_by_another_check(lab, project) -> None:
    patient(lab)
    depending(project, "0001", MODEL.format("", ""), ("testapp", "0000"))
    assert checked(lab) == []


class Nowhere:
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return app_label != "vault_fields" if db == "default" else False


def test_e035_routers_keep_the_table_out(lab, settings) -> None:
    patient(lab)
    settings.DATABASE_ROUTERS = [Nowhere()]
    (message,) = checked(lab)
    assert message.id == "vault_fields.E035"
    assert "'default'" in message.msg


def test_e035_is_about_databases_that_have_the_rows(lab, settings) -> None:
    patient(lab)
    lab.model("Payer", (models.Model,), number=EncryptedTextField(key_context=["id"], index=True))

    class OnlyPatients:
        def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
            return db == "default" and model_name == "patient"

    settings.DATABASE_ROUTERS = [OnlyPatients()]
    assert [message.obj.model.__name__ for message in checked(lab)] == ["Patient"]


def test_e034_migrations_of_other_apps_are_not_asked_about(lab, project, monkeypatch) -> None:
    patient(lab)
    migration = SimpleNamespace(app_label="elsewhere", name="0001")
    monkeypatch.setattr("vault_fields.checks.indexes.without_index_keys", lambda loader: [migration])
    assert checked(lab) == []


def test_e035_the_application_is_missing(lab, settings) -> None:
    field = patient(lab)._meta.get_field("ssn")
    assert field.check() == []
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != "vault_fields"]
    (message,) = field.check()
    assert (message.id, message.obj) == ("vault_fields.E035", field)
    assert (
        lab.model("Plain", (models.Model,), text=EncryptedTextField(key_context=["id"]))._meta.get_field("text").check()
        == []
    )


@pytest.mark.parametrize(
    ("index", "what"),
    [
        (BlindIndex(normalize=casefold), "normalize"),
        (BlindIndex(scope="global"), "scope"),
        (BlindIndex(bits=16), "bits"),
        (BlindIndex(label="x"), "label"),
        (BlindIndex(normalize=digits, label="x"), "normalize and label"),
    ],
)
def test_w029_index_that_the_migrations_do_not_know(lab, project, index: BlindIndex, what: str) -> None:
    depending(project, "0001", MODEL.format("", ""), KEYS)
    patient(lab, index)
    (message,) = checked(lab)
    assert message.id == "vault_fields.W029"
    assert f"has another {what} than the migrations know" in message.msg


def test_w029_a_label_that_is_the_fields_own_changes_nothing(lab, project) -> None:
    depending(project, "0001", MODEL.format("", ""), KEYS)
    patient(lab, BlindIndex(label="testapp.Patient.ssn"))
    assert checked(lab) == []


@pytest.mark.parametrize("labels", [[], ["testapp.Old.b", "testapp.Old.a"]])
def test_w029_first_of_the_former_labels(lab, project, labels: list[str]) -> None:
    depending(project, "0001", MODEL.format(", former_labels=['testapp.Old.a', 'testapp.Old.b']", ""), KEYS)
    patient(lab, former_labels=labels)
    (message,) = checked(lab)
    assert "has another label than the migrations know" in message.msg


def test_w029_former_labels_that_come_after_a_rename(lab, project) -> None:
    depending(project, "0001", MODEL.format("", "").replace("ssn", "number"), KEYS)
    renames = [f'migrations.RenameField("Patient", "number{end}", "ssn{end}")' for end in ("", "_keys", "_index")]
    depending(project, "0002", ", ".join(renames), ("testapp", "0001"))
    patient(lab, former_labels=["testapp.Patient.number"])
    assert checked(lab) == []


def test_w029_new_models_and_columns_are_passed_over(lab, project) -> None:
    patient(lab)
    depending(project, "0001", 'migrations.CreateModel("Patient", [("id", models.BigAutoField(primary_key=True))])')
    assert checked(lab) == []


def test_w030_two_indexes_with_one_label(lab) -> None:
    patient(lab)
    field = EncryptedTextField(key_context=["id"], index=BlindIndex(label="testapp.Patient.ssn"))
    payer = lab.model("Payer", (models.Model,), number=field)
    (message,) = checked(lab)
    assert (message.id, message.obj) == ("vault_fields.W030", payer._meta.get_field("number"))
    assert "as testapp.Patient.ssn_index has" in message.msg


def test_w030_proxies_and_columns_without_a_field_are_passed_over(lab) -> None:
    base = patient(lab)
    lab.model("Same", (base,), {"proxy": True})
    lab.model("Loose", (models.Model,), ssn_index=IndexField("gone", label="testapp.Patient.ssn"))
    assert checked(lab) == []


@pytest.mark.django_db
def test_w028_rows_without_a_hash(organization: Organization, django_assert_num_queries) -> None:
    configs = [apps.get_app_config("testapp")]
    Contact.objects.create(organization=organization)
    contact = Contact.objects.create(organization=organization, ssn="1", email="A@example.org")
    assert check_hashes(configs, ["default"]) == []
    with connection.cursor() as cursor:
        cursor.execute("UPDATE testapp_contact SET ssn_index = NULL")
    (message,) = check_hashes(configs, ["default"])
    assert (message.id, message.obj) == ("vault_fields.W028", Contact._meta.get_field("ssn"))
    assert message.hint == (
        "Type `python manage.py vault_index testapp.Contact ssn --database default`. Rows whose keys were destroyed "
        "stay without."
    )
    call_command("vault_index", "testapp.Contact", "ssn", database="default", stdout=StringIO())
    assert check_hashes(configs, ["default"]) == []
    assert Contact.objects.get(organization=organization, ssn="1") == contact
    with django_assert_num_queries(0):
        assert check_hashes(configs) == []


@pytest.mark.django_db
def test_w028_says_that_a_normalization_may_leave_values_out(lab) -> None:
    contact = Contact._meta.get_field("ssn_index")
    with pytest.MonkeyPatch.context() as patch, connection.cursor() as cursor:
        organization = Organization.objects.create(workos_id="org")
        Contact.objects.create(organization=organization, ssn="1")
        cursor.execute("UPDATE testapp_contact SET ssn_index = NULL")
        patch.setattr(contact, "normalize", str.strip)
        (message,) = check_hashes([apps.get_app_config("testapp")], ["default"])
    assert "Values that its normalization leaves out have none" in message.msg


@pytest.mark.django_db
def test_w028_tables_that_no_migration_has_made_are_passed_over(lab, settings) -> None:
    patient(lab)
    assert check_hashes(lab.apps.get_app_configs(), ["default"]) == []
    settings.DATABASE_ROUTERS = [type("No", (), {"allow_migrate": lambda *args, **hints: False})()]
    assert check_hashes([apps.get_app_config("testapp")], ["default"]) == []
