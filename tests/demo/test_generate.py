"""The made-up rows are the same every time, and as awkward as real ones."""

from testproject.clinic.generate import generate
from testproject.demo.search import strings


def test_same_arguments_give_the_same_rows() -> None:
    assert generate(patients=50) == generate(patients=50)
    assert generate(patients=50) != generate(patients=50, seed=1)


def test_thousands_of_rows_in_several_scripts_with_nulls_empty_and_long_texts() -> None:
    rows = generate()
    assert sum(map(len, vars(rows).values())) > 5_000
    names = "".join(row["name"] for row in rows.patient)
    assert any("a" <= character <= "z" for character in names)
    assert any("\u0600" <= character <= "\u06ff" for character in names)
    assert any("\u4e00" <= character <= "\u9fff" for character in names)
    assert {None, ""} < {row["ssn"] for row in rows.patient}
    assert {None, ""} < {row["letter"] for row in rows.referral}
    assert max(len(row["text"]) for row in rows.note) > 10_000
    assert any("👩🏽‍⚕️" in row["text"] for row in rows.note)


def test_json_values_are_of_every_type_and_nested() -> None:
    contents = [row["content"] for row in generate().document]
    assert {type(content) for content in contents} == {type(None), bool, dict, int, list, str}
    assert any("deeper" in str(content) for content in contents)
    assert any(list(strings(content)) for content in contents if isinstance(content, dict))
