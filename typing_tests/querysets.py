"""What a type checker makes of constructors and querysets. The models are those of an installed app."""

from typing import assert_type

from tests.testapp.models import Document, Patient


def constructors() -> None:
    Patient(name="Ada", ssn="123-45-6789", notes=None, history={"pain": [1]})
    Patient.objects.create(name="Ada", ssn="123-45-6789", notes="", history=None)
    Patient(ssn=7)  # type: ignore[misc]
    Patient.objects.create(ssn=object())  # type: ignore[misc]
    Patient(sns="123-45-6789")  # type: ignore[misc]


def querysets() -> None:
    assert_type(Patient.objects.get().ssn, str | None)
    for patient in Patient.objects.filter(ssn__isnull=True).only("ssn").order_by("pk"):
        assert_type(patient.ssn, str | None)
    assert_type(Patient.objects.values_list("ssn", flat=True).get(), str | None)
    assert_type(Document.objects.get().body, str)
