"""Orderings, constraints, indexes and generated columns."""

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, models
from django.db.models import CheckConstraint, F, Index, Q, UniqueConstraint, Value
from django.db.models.functions import Length, Lower

from vault_fields.fields import BlindIndex, EncryptedJSONField, EncryptedTextField, EncryptedUniqueConstraint

IS_NULL = [Q(ssn__isnull=True), Q(ssn=None), ~Q(ssn__isnull=False) | Q(organization_id=1)]
COMPARES = [
    Q(ssn="078-05-1120"),
    Q(ssn__gt="0"),
    ~Q(organization_id=1) & Q(Q(ssn__in=["1"])),
    Q(organization_id=F("ssn")),
]


def test_what_names_other_fields_is_passed_over(lab) -> None:
    lab.patient(
        meta={
            "ordering": ["organization__workos_id", "-pk", "?", F("organization_id").desc()],
            "get_latest_by": "pk",
            "unique_together": [("organization", "ward")],
            "constraints": [
                UniqueConstraint(Lower("ward"), name="ward"),
                CheckConstraint(condition=Q(ward="ssn"), name="is"),
            ],
            "indexes": [Index(fields=["-ward"], name="ward_index"), Index("organization", Lower("ward"), name="both")],
        },
        ward=models.CharField(max_length=9),
    )
    assert lab.ids() == []


@pytest.mark.parametrize("order", ["ssn", "-ssn", F("ssn").desc(), F("ssn"), Lower("ssn")])
def test_e012_ordering(lab, order) -> None:
    lab.patient(meta={"ordering": ["organization", order]})
    message = lab.only()
    assert message.id == "vault_fields.E012"
    assert message.msg.startswith("Meta.ordering names the encrypted field testapp.Patient.ssn")


def test_e012_ordering_of_another_model(lab) -> None:
    lab.patient()
    lab.model("Visit", meta={"ordering": ["-patient__ssn"]}, patient=models.ForeignKey("Patient", models.CASCADE))
    lab.model("Bed", meta={"ordering": ["patient__pk"]}, patient=models.ForeignKey("Patient", models.CASCADE))
    message = lab.only()
    assert (message.id, message.obj.__name__) == ("vault_fields.E012", "Visit")


def test_e012_ordering_by_what_is_within_a_value(lab) -> None:
    """Which was legal while the field was a ``JSONField``."""
    patient = lab.patient(meta={"ordering": ["notes__pain"]}, notes=EncryptedJSONField(key_context=["organization_id"]))
    assert patient.check() == []
    assert lab.only().id == "vault_fields.E012"


@pytest.mark.parametrize("latest", ["ssn", ["organization", "-ssn"]])
def test_e012_latest(lab, latest) -> None:
    lab.patient(meta={"get_latest_by": latest})
    assert lab.only().msg.startswith("Meta.get_latest_by names")


def test_options_of_a_wrong_kind_are_left_to_django(lab) -> None:
    patient = lab.patient(meta={"ordering": 7, "get_latest_by": 7, "unique_together": [("organization", "no_such")]})
    assert lab.ids() == []
    assert [message.id for message in patient.check()] == ["models.E012", "models.E014"]


@pytest.mark.parametrize(
    "meta",
    [
        {"unique_together": [("organization", "ssn")]},
        {"unique_together": ["organization", "ssn"]},
        {"constraints": [UniqueConstraint(fields=["organization", "ssn"], name="unique")]},
        {"constraints": [UniqueConstraint(Lower("ssn"), "organization", name="unique")]},
        {"constraints": [UniqueConstraint(fields=["organization"], include=["ssn"], name="unique")]},
        *(
            {"constraints": [UniqueConstraint(fields=["organization"], condition=condition, name="unique")]}
            for condition in COMPARES
        ),
        *({"constraints": [CheckConstraint(condition=condition, name="check")]} for condition in COMPARES),
    ],
)
def test_e013_constraint(lab, meta) -> None:
    lab.patient(meta=meta)
    message = lab.only()
    assert message.id == "vault_fields.E013"
    assert "078-05-1120" not in str(message)


def test_e013_names_the_constraint_over_hashes(lab) -> None:
    constraint = UniqueConstraint(fields=["organization", "ssn"], name="unique")
    lab.patient(meta={"constraints": [constraint]})
    named = "Write EncryptedUniqueConstraint(fields=['organization', 'ssn'], name=…) in its place"
    assert lab.only().hint == f"{named}, with index=True on 'ssn'."


def test_e013_names_the_constraint_over_hashes_for_unique_together(lab) -> None:
    ssn = EncryptedTextField(key_context=["organization_id"], index=True)
    lab.patient(meta={"unique_together": [("organization", "ssn")]}, ssn=ssn)
    assert lab.only().hint == "Write EncryptedUniqueConstraint(fields=['organization', 'ssn'], name=…) in its place."


def test_e013_parts_of_a_constraint_over_hashes(lab) -> None:
    constraints = [
        EncryptedUniqueConstraint(fields=["organization"], include=["ssn"], name="including"),
        EncryptedUniqueConstraint(fields=["organization"], condition=Q(ssn="078-05-1120"), name="comparing"),
    ]
    lab.patient(meta={"constraints": constraints}, ssn=EncryptedTextField(key_context=["organization_id"], index=True))
    assert lab.ids() == ["E013", "E013"]


def test_e033_constraint_without_an_index(lab) -> None:
    lab.patient(meta={"constraints": [EncryptedUniqueConstraint(fields=["organization", "ssn"], name="unique")]})
    message = lab.only()
    assert message.id == "vault_fields.E033"
    assert message.hint == "Write index=True on 'ssn'."


def test_e033_constraint_over_truncated_hashes(lab) -> None:
    constraints = [EncryptedUniqueConstraint(fields=["organization", "ssn"], name="unique")]
    ssn = EncryptedTextField(key_context=["organization_id"], index=BlindIndex(bits=16))
    lab.patient(meta={"constraints": constraints}, ssn=ssn)
    message = lab.only()
    assert message.id == "vault_fields.E033"
    assert message.hint.startswith("Leave bits=16 out")


def test_e013_names_unique_true(lab) -> None:
    lab.patient(meta={"constraints": [UniqueConstraint(fields=["ssn"], name="unique")]})
    assert lab.only().hint == "Write unique=True on 'ssn' in its place."


def test_e033_constraint_over_json(lab) -> None:
    constraints = [EncryptedUniqueConstraint(fields=["organization", "ssn"], name="unique")]
    lab.patient(meta={"constraints": constraints}, ssn=EncryptedJSONField(key_context=["organization_id"]))
    message = lab.only()
    assert message.id == "vault_fields.E033"
    assert message.hint.startswith("Take 'ssn' out of it")


def test_a_constraint_over_hashes_is_passed_over(lab) -> None:
    condition = Q(ssn__isnull=False)
    constraints = [EncryptedUniqueConstraint(fields=["organization", "ssn"], condition=condition, name="unique")]
    lab.patient(meta={"constraints": constraints}, ssn=EncryptedTextField(key_context=["organization_id"], index=True))
    assert lab.ids() == []


@pytest.mark.parametrize("part", [("ssn", "="), (Lower("ssn"), "=")])
def test_e013_exclusion_constraint(lab, part) -> None:
    postgres = pytest.importorskip("django.contrib.postgres.constraints", exc_type=ImportError)
    lab.patient(
        meta={"constraints": [postgres.ExclusionConstraint(name="x", expressions=[("organization", "="), part])]}
    )
    assert lab.ids() == ["E013"]


@pytest.mark.parametrize("condition", IS_NULL)
def test_a_constraint_may_ask_for_null(lab, condition) -> None:
    lab.patient(
        meta={
            "constraints": [
                CheckConstraint(condition=condition, name="check"),
                UniqueConstraint(fields=["organization"], condition=condition, name="unique"),
            ],
            "indexes": [Index(fields=["organization"], condition=condition, name="index")],
        }
    )
    assert lab.ids() == []


@pytest.mark.django_db(transaction=True)
def test_a_constraint_that_asks_for_null_works(lab) -> None:
    """What the hint of E013 proposes, in the database and in forms."""
    patient = lab.patient(
        meta={
            "db_table": "constrained_patient",
            "constraints": [CheckConstraint(condition=Q(ssn__isnull=False) | Q(ward="none"), name="has_ssn")],
        },
        organization_id=models.IntegerField(),
        organization=None,
        ward=models.CharField(max_length=9, default="", blank=True),
        ssn=EncryptedTextField(key_context=["organization_id"], null=True, blank=True),
    )
    with connection.schema_editor() as editor:
        editor.create_model(patient)
    try:
        patient.objects.create(organization_id=1, ssn="078-05-1120")
        patient.objects.create(organization_id=1, ward="none")
        with pytest.raises(IntegrityError):
            patient.objects.create(organization_id=1)
        patient(organization_id=1, ssn="078-05-1120").full_clean()
        with pytest.raises(ValidationError, match="has_ssn"):
            patient(organization_id=1, ward="full").full_clean()
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(patient)


@pytest.mark.parametrize(
    "index",
    [
        Index(fields=["organization", "-ssn"], name="index"),
        Index(Lower("ssn"), name="index"),
        Index(fields=["organization"], include=["ssn"], name="index"),
        *(Index(fields=["organization"], condition=condition, name="index") for condition in COMPARES),
    ],
)
def test_e014_index(lab, index) -> None:
    lab.patient(meta={"indexes": [index]})
    assert lab.only().id == "vault_fields.E014"


@pytest.mark.parametrize("expression", [F("ssn"), Length("ssn"), models.Case(models.When(ssn="1", then=Value(1)))])
def test_e015_generated_column(lab, expression) -> None:
    lab.patient(
        digits=models.GeneratedField(expression=expression, output_field=models.IntegerField(), db_persist=True)
    )
    message = lab.only()
    assert message.id == "vault_fields.E015"
    assert "self.ssn" in message.hint
