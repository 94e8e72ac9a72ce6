"""What a query brings in another way than any that selects an encrypted column: never taken for a value."""

import pytest
from django.core.exceptions import FieldError
from django.db import connection
from django.db.models import Func, Max, TextField, Value

from tests.testapp.models import Patient
from vault_fields.exceptions import EnvelopeError
from vault_fields.fields.positions import encrypted_field
from vault_fields.fields.reading import Loader

FIELD = Patient._meta.get_field("ssn")


@pytest.mark.parametrize(
    ("text", "column", "error", "words"),
    [
        ("$vf$1$x", Max("ssn"), FieldError, r"Max\(\) was computed from its ciphertext"),
        ("\x1e!", None, EnvelopeError, "max_allowed_packet"),
        ("$vf$1$x", None, FieldError, "ciphertext without what opens it"),
    ],
)
def test_a_text_that_no_query_of_ours_gives_is_refused(text, column, error, words) -> None:
    if column is None:
        column = FIELD.get_col("testapp_patient")
        column.is_tagged = True
    with pytest.raises(error, match=words):
        Loader(FIELD)(text, column, connection)


def test_an_expression_without_a_type_is_no_encrypted_value() -> None:
    assert encrypted_field(Func()) is None
    assert encrypted_field(Value("x", output_field=TextField())) is None
    assert encrypted_field(FIELD.get_col("testapp_patient")) is FIELD
