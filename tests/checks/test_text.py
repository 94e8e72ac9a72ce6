"""What a row is called."""

import functools

import pytest
from django.db import models
from django.utils.functional import cached_property

from vault_fields.fields import EncryptedTextField


def test_w004_str_that_shows_the_value(lab) -> None:
    base = lab.patient(__str__=lambda self: f"Patient {self.ssn}")
    lab.model("Inpatient", (base,))
    lab.model("Walkin", (base,), meta={"proxy": True})
    message = lab.only()
    assert message.id == "vault_fields.W004"
    assert message.obj is base


def test_w004_str_of_a_subclass_and_of_a_wrapped_function(lab) -> None:
    base = lab.patient(__str__=lambda self: f"Patient {self.pk}")

    @functools.wraps(function := lambda self: str(self.ssn))
    def wrapped(self):
        return function(self)

    lab.model("Inpatient", (base,), __str__=wrapped)
    assert lab.only().id == "vault_fields.W004"


@pytest.mark.parametrize("method", [lambda self: f"ssn of {self.organization_id}", functools.partialmethod(str, "?")])
def test_str_that_shows_something_else(lab, method) -> None:
    lab.patient(__str__=method)
    assert lab.ids() == []


def describe(row) -> str:
    return f"Patient {row.ssn}"


def shown(self):
    return describe(self)


@pytest.mark.parametrize(
    "attributes",
    [
        {"label": property(lambda self: self.ssn), "__str__": lambda self: self.label},
        {"label": functools.cached_property(lambda self: self.ssn), "__str__": lambda self: self.label},
        {"label": cached_property(lambda self: self.ssn), "__str__": lambda self: self.label},
        {"label": lambda self: self.ssn, "__str__": lambda self: self.label()},
        {"label": lambda self: self.ssn, "title": lambda self: self.label(), "__str__": lambda self: self.title()},
        {"label": staticmethod(lambda row: row.ssn), "__str__": lambda self: self.label(self)},
        {"label": classmethod(lambda cls, row: row.ssn), "__str__": lambda self: self.label(self)},
        {"__str__": shown},
        {"__str__": lambda self: getattr(self, "ssn")},  # noqa: B009
        {"__str__": lambda self: "{0.ssn} {1}".format(self, 1)},  # noqa: UP030, UP032
        {"__str__": lambda self: " ".join(text for text in [self.ssn])},
        {"__str__": lambda self: " ".join([part.upper() for part in (self.ssn or "").split()])},
    ],
)
def test_w004_str_that_shows_the_value_through_something_else(lab, attributes) -> None:
    model = lab.patient(**attributes)
    message = lab.only()
    assert message.id == "vault_fields.W004"
    assert message.obj is model
    assert "'ssn'" in message.msg


def test_w004_str_of_a_parent_that_is_called(lab) -> None:
    class Named(models.Model):
        class Meta:
            abstract = True

        def __str__(self):
            return self.ssn

    class Titled(Named):
        class Meta:
            abstract = True

        def __str__(self):
            return f"Dr. {super().__str__()}"

    lab.model("Patient", (Titled,), **lab_fields(lab))
    assert lab.only().id == "vault_fields.W004"


def lab_fields(lab):
    return {
        "organization": models.ForeignKey("Organization", on_delete=models.PROTECT),
        "ssn": EncryptedTextField(key_context=["organization_id"]),
    }


def test_w004_repr(lab) -> None:
    lab.patient(__repr__=lambda self: f"<Patient {self.ssn}>")
    message = lab.only()
    assert message.id == "vault_fields.W004"
    assert message.msg.startswith("__repr__ seems to show the encrypted field 'ssn'. Exceptions, debug pages")


@pytest.mark.parametrize("text", [lambda self: self.patient.ssn, lambda self: self.patient.label()])
def test_w004_through_a_relation(lab, text) -> None:
    lab.patient(label=lambda self: self.ssn)
    lab.model("Visit", patient=models.ForeignKey("Patient", models.CASCADE), __str__=text)
    assert "'testapp.Patient.ssn'" in lab.only().msg


@pytest.mark.parametrize(
    "attributes",
    [
        {"__str__": lambda self: f"{self.ssn_hidden} {self.patient.pk}", "ssn_hidden": "…"},
        {"__str__": lambda self: f"{self.ssn} of {self.patient.pk}", "ssn": models.TextField()},
        {"__str__": lambda self: f"{self.pk} {self.other.other.pk}"},
        {"__str__": lambda self: self.__str__()},
        {"__str__": lambda self: f"{self.label}", "label": property(lambda self: str(self.pk))},
        {"__str__": lambda self: f"{self.pk}", "label": property(lambda self: self.patient.ssn)},
    ],
)
def test_name_that_stands_for_something_else_is_passed_over(lab, attributes) -> None:
    lab.patient()
    lab.model("Visit", patient=models.ForeignKey("Patient", models.CASCADE), **attributes)
    assert lab.ids() == []


def test_documentation_is_not_taken_for_names(lab) -> None:
    def named(self):
        """Never the ssn."""
        return getattr(self, "pk") or ""  # noqa: B009

    lab.patient(__str__=named)
    assert lab.ids() == []
