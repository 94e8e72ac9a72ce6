"""What a row is called."""

import functools

import pytest


def test_w004_str_that_shows_the_value(lab):
    base = lab.patient(__str__=lambda self: f"Patient {self.ssn}")
    lab.model("Inpatient", (base,))
    lab.model("Walkin", (base,), meta={"proxy": True})
    message = lab.only()
    assert message.id == "vault_fields.W004"
    assert message.obj is base


def test_w004_str_of_a_subclass_and_of_a_wrapped_function(lab):
    base = lab.patient(__str__=lambda self: f"Patient {self.pk}")

    @functools.wraps(function := lambda self: str(self.ssn))
    def wrapped(self):
        return function(self)

    lab.model("Inpatient", (base,), __str__=wrapped)
    assert lab.only().id == "vault_fields.W004"


@pytest.mark.parametrize("method", [lambda self: f"ssn of {self.organization_id}", functools.partialmethod(str, "?")])
def test_str_that_shows_something_else(lab, method):
    lab.patient(__str__=method)
    assert lab.ids() == []
