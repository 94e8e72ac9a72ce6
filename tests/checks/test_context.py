"""key_context and bind_to."""

import functools
import uuid

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import Value

from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField, context_from


@context_from("organization_id")
def declared(row):
    return {"organization_id": str(row.organization_id)}


def undeclared(row):
    return {"organization_id": str(row.organization_id)}


@context_from("organisation")
def misspelled(row):
    return {"organization_id": str(row.organization_id)}


def encrypted(key_context, **options):
    return EncryptedTextField(key_context=key_context, **options)


@pytest.mark.parametrize(
    "key_context",
    [
        ["organization_id"],
        ["organization"],
        {"organization_id": "organization__workos_id", "purpose": Value("care")},
        {"organization_id": "organization__id"},
        declared,
    ],
)
def test_a_right_context_is_passed_over(lab, key_context) -> None:
    lab.patient(ssn=encrypted(key_context))
    assert lab.ids() == []


def test_e001_attribute_that_is_no_column(lab) -> None:
    lab.patient(ssn=encrypted(["organisation_id"]))
    message = lab.only()
    assert message.id == "vault_fields.E001"
    assert message.msg == "key_context names 'organisation_id': testapp.Patient has no column 'organisation_id'."
    assert message.hint == "Write 'organization_id' instead."
    assert str(message).startswith("testapp.Patient.ssn: (vault_fields.E001)")


def test_e001_hint_lists_the_columns_that_would_do(lab) -> None:
    lab.patient(ssn=encrypted(["tenant"]), born=models.DateField(), ward=models.CharField(max_length=9))
    assert lab.only().hint == "Name one of the row's own columns: ward, organization_id."


NOTHING = "testapp.{} has no column that can name a tenant. Add one, as in organization = models.ForeignKey("


@pytest.mark.parametrize("name", ["tenant", "id__name"])
def test_e001_hint_where_no_column_would_do(lab, name) -> None:
    lab.model("Patient", ssn=encrypted([name]), born=models.DateField())
    assert lab.only().hint.startswith(NOTHING.format("Patient"))


def test_e001_hint_where_no_column_would_do_at_the_end_of_a_path(lab) -> None:
    lab.model("Day", day=models.DateField(primary_key=True))
    lab.patient(ssn=encrypted({"day": "day__typo"}), day=models.ForeignKey("Day", models.PROTECT))
    assert lab.only().hint.startswith(NOTHING.format("Day"))


def test_e007_hint_where_no_column_would_do(lab) -> None:
    lab.model("Patient", ssn=encrypted(["born"]), born=models.DateField())
    message = lab.only()
    assert message.id == "vault_fields.E007"
    assert message.hint.startswith(NOTHING.format("Patient"))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("organization__typo", "testapp.Organization has no column 'typo'."),
        ("organisation__workos_id", "Patient has no field named 'organisation'"),
        ("organization_id__workos_id", "'organization_id' of testapp.Patient is not a relation to one row."),
        ("doctors__name", "'doctors' of testapp.Patient is not a relation to one row."),
        ("visit__id", "'visit' of testapp.Patient is not a relation to one row."),
        ("card__id", "'card' of testapp.Patient is not a relation to one row."),
        ("doctors", "testapp.Patient has no column 'doctors'."),
    ],
)
def test_e001_path_that_leads_nowhere(lab, path, reason) -> None:
    lab.model("Doctor", name=models.CharField(max_length=9))
    lab.patient(ssn=encrypted({"organization_id": path}), doctors=models.ManyToManyField("Doctor"))
    lab.model("Visit", patient=models.ForeignKey("Patient", models.CASCADE))
    lab.model("Card", patient=models.OneToOneField("Patient", models.CASCADE))
    message = lab.only()
    assert message.id == "vault_fields.E001"
    assert reason in message.msg


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("organization__workosid", "Write 'organization__workos_id' instead."),
        ("organisation__workos_id", "Write 'organization__workos_id' instead."),
        ("organization__ward_set__name", "Name a column of testapp.Organization: organization__id, organization__wo"),
        ("ssn__workos_id", "Name one of the row's own columns: name, organization_id."),
        ("organization__wards__workos_id", "Name a column of testapp.Organization: organization__id, organization__w"),
    ],
)
def test_e001_hint_is_a_path_that_leads_somewhere(lab, path, hint) -> None:
    lab.model("Ward", organization=models.ForeignKey("Organization", models.CASCADE), name=models.TextField())
    lab.patient(name=models.TextField(), ssn=encrypted({"tenant": path}))
    message = lab.only()
    assert message.id == "vault_fields.E001"
    assert message.hint.startswith(hint)


def test_e009_hint_is_a_column_of_the_row(lab) -> None:
    lab.patient(ssn=encrypted(["organization_id"], bind_to=["organization__id"]))
    assert lab.only().hint == "Write 'organization_id' instead."


def test_e001_function_that_declares_what_is_no_column(lab) -> None:
    lab.patient(ssn=encrypted(misspelled))
    message = lab.only()
    assert message.id == "vault_fields.E001"
    assert message.msg.startswith("context_from names 'organisation'")


def test_e001_function_that_declares_a_path(lab) -> None:
    function = context_from("organization__workos_id")(declared.__class__(declared.__code__, globals(), "declared"))
    lab.patient(ssn=encrypted(function))
    assert "E001" in lab.ids()


def test_path_may_go_on_through_a_relation_to_one_row_that_is_elsewhere(lab) -> None:
    lab.model("Card", organization=models.OneToOneField("Organization", models.CASCADE), number=models.IntegerField())
    lab.patient(ssn=encrypted({"organization_id": "organization__card__number"}))
    assert lab.ids() == ["W001"]  # An organization may have no card.


def test_relation_that_leads_nowhere_is_left_to_django(lab) -> None:
    lab.patient(
        missing=models.ForeignKey("NoSuchModel", models.CASCADE),
        ssn=encrypted({"a": "missing__id", "b": "missing"}),
        notes=encrypted(["missing_id"]),
    )
    assert lab.ids() == []


def test_path_through_a_generic_relation_is_left_alone(lab) -> None:
    lab.model(
        "Owner",
        content_type=models.ForeignKey(ContentType, models.CASCADE),
        object_id=models.PositiveIntegerField(),
        of=GenericForeignKey(),
    )
    lab.patient(owner=models.ForeignKey("Owner", models.CASCADE), ssn=encrypted({"tenant": "owner__of__workos_id"}))
    assert lab.ids() == []


def test_e002_function_that_declares_no_columns(lab) -> None:
    lab.patient(ssn=encrypted(undeclared))
    message = lab.only()
    assert message.id == "vault_fields.E002"
    assert "def undeclared(" in message.hint


@context_from("organization_id")
class Callable:
    def __call__(self, row):
        return {"organization_id": str(row.organization_id)}


@pytest.mark.parametrize(
    "function",
    [
        context_from("organization_id")(lambda row: {"organization_id": str(row.organization_id)}),
        Callable(),
    ],
)
def test_e003_function_that_migrations_cannot_import(lab, function) -> None:
    lab.patient(ssn=encrypted(function))
    message = lab.only()
    assert message.id == "vault_fields.E003"
    assert "@context_from" in message.hint


def test_e003_function_inside_another(lab) -> None:
    @context_from("organization_id")
    @functools.wraps(declared, assigned=())
    def nested(row):
        return declared(row)

    lab.patient(ssn=encrypted(nested))
    assert lab.ids() == ["E003"]


def test_e004_too_many_items(lab) -> None:
    columns = {f"c{number}": models.IntegerField() for number in range(11)}
    lab.patient(**columns, ssn=encrypted(list(columns)), notes=encrypted(list(columns)[:10]))
    message = lab.only()
    assert message.id == "vault_fields.E004"
    assert message.msg == "key_context has 11 items; a key context has 1 to 10."
    assert message.obj.name == "ssn"


def test_e004_no_items(lab) -> None:
    lab.patient(ssn=encrypted([]))
    assert lab.ids() == ["E004"]


@pytest.mark.parametrize(("name", "ids"), [("é" * 120, []), ("é" * 121, ["E005"]), ("", ["E005"])])
def test_e005_name_of_a_wrong_length(lab, name, ids) -> None:
    lab.patient(ssn=encrypted({name: "organization_id"}), notes=encrypted({name: Value("x"), "o": "organization_id"}))
    assert lab.ids() == ids * 2


@pytest.mark.parametrize(("constant", "ids"), [("é" * 500, []), ("é" * 501, ["E006"]), ("", ["E006"]), (7, [])])
def test_e006_constant_of_a_wrong_length(lab, constant, ids) -> None:
    lab.patient(ssn=encrypted({"organization_id": "organization_id", "purpose": Value(constant)}))
    assert lab.ids() == ids


@pytest.mark.parametrize(
    "column",
    [
        models.BinaryField(),
        models.BooleanField(),
        models.DateField(),
        models.DateTimeField(),
        models.DecimalField(max_digits=5, decimal_places=2),
        models.DurationField(),
        models.FileField(),
        models.FloatField(),
        models.GenericIPAddressField(),
        models.JSONField(),
        models.TimeField(),
        EncryptedTextField(key_context=["organization_id"]),
        EncryptedJSONField(key_context=["organization_id"]),
    ],
    ids=lambda column: type(column).__name__,
)
@pytest.mark.parametrize("option", ["key_context", "bind_to"])
def test_e007_column_that_cannot_name_a_tenant(lab, column, option) -> None:
    options = {"key_context": ["organization_id"], option: ["column"]}
    column.editable = False  # Otherwise W008 would come too.
    lab.patient(column=column, ssn=EncryptedTextField(**options))
    message = lab.only()
    assert message.id == "vault_fields.E007"
    assert message.msg.startswith(f"{option} leads to 'column', a {type(column).__name__}")
    assert message.hint.endswith("tenant: organization_id.")


def test_e007_is_found_at_the_end_of_a_path_and_behind_a_foreign_key(lab) -> None:
    lab.model("Ward", id=models.FloatField(primary_key=True), opened=models.DateField())
    lab.patient(
        ward=models.ForeignKey("Ward", models.CASCADE),
        ssn=encrypted({"ward": "ward__opened"}),
        notes=encrypted(["ward_id"]),
    )
    assert lab.ids() == ["E007", "E007"]


def test_e007_companion(lab) -> None:
    lab.patient(ssn_keys=CompanionField(), ssn=encrypted({"keys": "ssn_keys"}))
    assert lab.ids() == ["E007", "W001"]


@pytest.mark.parametrize(
    "column",
    [
        models.BigAutoField(primary_key=True, db_default=Value(7)),
        models.UUIDField(primary_key=True, db_default=Value("00000000-0000-0000-0000-000000000000")),
    ],
)
@pytest.mark.parametrize("option", ["key_context", "bind_to"])
def test_e008_column_that_only_the_database_knows(lab, column, option) -> None:
    options = {"key_context": ["organization_id"], option: ["id"]}
    lab.patient(id=column, ssn=EncryptedTextField(**options))
    message = lab.only()
    assert message.id == "vault_fields.E008"
    assert "Give 'id' its value in Python, as in models.UUIDField(default=uuid.uuid4)" in message.hint
    assert "uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)" in message.hint


def test_e008_generated_column_and_key_of_a_parent(lab) -> None:
    generated = models.GeneratedField(
        expression=models.F("organization_id"), output_field=models.IntegerField(), db_persist=True
    )
    base = lab.patient(number=generated, ssn=encrypted(["number"]))
    lab.model("Inpatient", (base,), notes=encrypted(["patient_ptr_id"]))
    assert lab.ids() == ["E008", "E008"]


@pytest.mark.parametrize("option", ["key_context", "bind_to"])
@pytest.mark.parametrize("column", [models.BigAutoField, models.SmallAutoField])
def test_key_that_the_database_counts_up_is_known_when_the_row_was_inserted(lab, option, column) -> None:
    lab.patient(
        id=column(primary_key=True), ssn=EncryptedTextField(**{"key_context": ["organization_id"], option: ["id"]})
    )
    assert lab.ids() == []


def test_e008_inherited_key_that_the_database_counts_up(lab) -> None:
    base = lab.patient()
    lab.model("Inpatient", (base,), notes=encrypted(["id"]), cause=encrypted(["organization_id"], bind_to=["id"]))
    assert lab.ids() == ["E008", "E008"]


def test_a_key_with_a_default_in_python_is_known(lab) -> None:
    key = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=Value("0"))
    lab.patient(id=key, ssn=encrypted({"organization_id": "organization__id"}, bind_to=["id"]))
    assert lab.ids() == []


@pytest.mark.parametrize("name", ["row_id", "organization__id"])
def test_e009_bound_to_what_is_no_column(lab, name) -> None:
    lab.patient(ssn=encrypted(["organization_id"], bind_to=[name]))
    message = lab.only()
    assert message.id == "vault_fields.E009"
    assert message.msg.startswith(f"bind_to names {name!r}")


@pytest.mark.parametrize("name", ["ward", "ward_id"])
def test_w008_bound_to_what_can_be_edited(lab, name) -> None:
    lab.model("Ward")
    lab.patient(ward=models.ForeignKey("Ward", models.CASCADE), ssn=encrypted(["organization_id"], bind_to=[name]))
    message = lab.only()
    assert message.id == "vault_fields.W008"
    assert "editable=False on 'ward'" in message.hint


@pytest.mark.parametrize(
    "on_delete",
    [getattr(models, name) for name in ("DB_SET_DEFAULT", "DB_SET_NULL") if hasattr(models, name)],
    ids=lambda on_delete: on_delete.__name__,
)
def test_w009_deleting_the_tenant_would_move_its_rows(lab, on_delete) -> None:
    lab.model("Ward")
    ward = models.ForeignKey("Ward", on_delete, default=1, null=on_delete.__name__ == "DB_SET_NULL")
    lab.patient(ward=ward, ssn=encrypted({"ward": "ward_id"}), pin=encrypted({"ward": "ward__id"}))
    found = [message for message in lab.check() if message.id == "vault_fields.W009"]
    assert [message.obj.name for message in found] == ["ssn", "pin"]
    assert "starts from 'ward'" in found[0].msg
    assert "models.PROTECT" in found[0].hint


@pytest.mark.parametrize(
    "on_delete", [models.CASCADE, models.PROTECT, models.RESTRICT, models.DO_NOTHING, models.SET_DEFAULT, models.SET(7)]
)
def test_deleting_that_leaves_no_value_with_another_tenant_is_passed_over(lab, on_delete) -> None:
    lab.model("Ward")
    lab.patient(ward=models.ForeignKey("Ward", on_delete, default=1), ssn=encrypted({"ward": "ward_id"}))
    assert lab.ids() == []


def test_bound_to_a_part_of_the_key_is_passed_over(lab) -> None:
    lab.patient(
        pk=models.CompositePrimaryKey("organization_id", "number"),
        number=models.IntegerField(),
        ssn=encrypted(["organization_id"], bind_to=["number"]),
    )
    assert lab.ids() == []


def test_bound_to_what_lasts_is_passed_over(lab) -> None:
    lab.patient(
        public_id=models.UUIDField(default=uuid.uuid4, editable=False),
        ssn=encrypted(["organization_id"], bind_to=["public_id"]),
    )
    assert lab.ids() == []


@pytest.mark.parametrize("path", ["organization_id", "organization__workos_id"])
def test_w001_context_that_may_be_null(lab, path) -> None:
    lab.patient(
        organization=models.ForeignKey("Organization", models.PROTECT, null=True),
        ssn=encrypted({"organization_id": path}),
    )
    message = lab.only()
    assert message.id == "vault_fields.W001"
    assert message.hint.startswith("Write null=False on 'organization'")


def test_w001_is_found_further_along_the_path(lab) -> None:
    lab.patient(
        organization=models.ForeignKey("Organization", models.PROTECT, null=True),
        ssn=encrypted({"x": "ward"}),
        ward=models.IntegerField(),
    )
    lab.model(
        "Note",
        patient=models.ForeignKey("Patient", models.CASCADE),
        text=encrypted({"organization_id": "patient__organization__workos_id"}),
    )
    message = lab.only()
    assert message.id == "vault_fields.W001"
    assert "'organization'" in message.msg


def test_a_function_may_read_a_column_that_may_be_null(lab) -> None:
    lab.patient(organization=models.ForeignKey("Organization", models.PROTECT, null=True), ssn=encrypted(declared))
    assert lab.ids() == []
