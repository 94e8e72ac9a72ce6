"""The search for plaintext finds what is there, wherever and however it stands."""

import json

import pytest
from django.db import connection

from testproject.demo.search import PlaintextSearch, schema, strings


def test_values_are_found_in_the_middle_and_at_the_ends() -> None:
    values = [f"secret value {number}" for number in range(40)]
    search = PlaintextSearch(values)
    blob = "…".join(values).encode()
    assert search.found_in([blob]) == set(values)
    assert search.found_in([b"", blob[:-1]]) == set(values[:-1])


@pytest.mark.parametrize("value", ["王小红 and more", "tab\tand\nline", 'quote " and \\ slash', "👩🏽‍⚕️ doctor"])
def test_value_is_found_as_text_and_as_json_escapes_it(value) -> None:
    search = PlaintextSearch([value])
    assert search.found_in([f"x{value}x".encode()]) == {value}
    assert search.found_in([json.dumps({"name": value}).encode()]) == {value}
    assert search.found_in([json.dumps({"name": value}, ensure_ascii=False).encode()]) == {value}


def test_shorter_values_are_counted_and_not_searched_for() -> None:
    search = PlaintextSearch(["M", "1234567", "12345678", "王小红"])
    assert (search.values, search.short) == ({"12345678", "王小红"}, 2)


def test_value_that_also_stands_in_a_readable_column_is_counted_and_not_searched_for() -> None:
    search = PlaintextSearch(["Singapore", "Ulan Bator"], readable=b"Republic of Singapore")
    assert (search.values, search.readable) == ({"Ulan Bator"}, 1)


def test_strings_are_found_at_any_depth_of_json() -> None:
    assert list(strings([{"a": "1", "b": [None, True, 2, ["3"]]}, "4"])) == ["1", "3", "4"]


def test_names_in_the_schema_stay_readable(db) -> None:
    known = schema(connection)
    search = PlaintextSearch(["testapp_patient", "CREATE TABLE", "organization_id", "something else"], readable=known)
    assert "something else" in search.values
    assert not {"testapp_patient", "organization_id"} & search.values
