"""Tables that other people wrote, as they come."""

import pytest

from testproject.demo.csv_table import TableError, read_table


@pytest.fixture
def table(tmp_path):
    """A function that reads a table with these bytes."""

    def read(raw, *, tenant="org", secrets=("name",), **options):
        path = tmp_path / "people.csv"
        path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
        return read_table(path, tenant=tenant, secrets=secrets, **options)

    return read


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_the_one_under_which_the_columns_are_there(table, delimiter) -> None:
    text = f'org{delimiter}"a, b; c|d"{delimiter}name\nx{delimiter}1{delimiter}"Ann; Ann, | \tLee"\n'
    assert table(text).rows == [("x", "Ann; Ann, | \tLee")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encoding_is_utf8_or_what_the_mark_says(table, encoding) -> None:
    assert table("org,name\nα,王小红 🩺\n".encode(encoding)).rows == [("α", "王小红 🩺")]


def test_other_encodings_are_named_by_the_user(table) -> None:
    raw = "org,name\nx,Zoë\n".encode("cp1252")
    with pytest.raises(TableError, match=r"line 2: this is not utf-8.*--encoding"):
        table(raw)
    assert table(raw, encoding="cp1252").rows == [("x", "Zoë")]
    with pytest.raises(TableError, match="knows no encoding 'klingon'"):
        table(raw, encoding="klingon")


def test_cells_keep_quotes_line_ends_and_blanks(table) -> None:
    assert table('org,name\r\nx,"a ""b""\r\nc "\r\ny,\r\n').rows == [("x", 'a "b"\r\nc '), ("y", "")]


def test_secrets_come_in_the_order_they_were_asked_for(table) -> None:
    assert table("a,org,b\n1,x,2\n", secrets=["b", "a"]).rows == [("x", "2", "1")]


def test_missing_column_lists_those_that_are_there(table) -> None:
    with pytest.raises(TableError, match=r"no column 'Name'. It has: 'org', 'name'"):
        table("org,name\n", secrets=["Name"])


def test_column_that_occurs_twice_is_refused_where_it_matters(table) -> None:
    with pytest.raises(TableError, match="several columns named 'name'"):
        table("org,name,name\nx,1,2\n")
    assert table("org,name,other,other\nx,1,2,3\n").rows == [("x", "1")]


@pytest.mark.parametrize("secrets", [["org"], ["name", "name"]])
def test_column_that_is_asked_for_twice_is_refused(table, secrets) -> None:
    with pytest.raises(TableError, match="is named twice"):
        table("org,name\nx,1\n", secrets=secrets)


def test_rows_that_cannot_be_used_are_counted_with_their_first_line(table) -> None:
    read = table(f"org,name\nx,1\n\nx\nx,1,2\n ,3\n{'o' * 501},4\n{'o' * 500},5\n")
    assert [row[1] for row in read.rows] == ["1", "5"]
    assert read.left_out == {
        "too many or too few cells": 2,
        "no tenant": 1,
        "a tenant of over 500 characters": 1,
    }
    assert list(read.first_line.values()) == [4, 6, 7]


@pytest.mark.parametrize("raw", ["", "\n \n"])
def test_empty_file_is_refused(table, raw) -> None:
    with pytest.raises(TableError, match="is empty"):
        table(raw)


def test_table_without_usable_rows_says_why(table) -> None:
    with pytest.raises(TableError, match="no row that can be used: no tenant in 1"):
        table("org,name\n,1\n")


def test_unclosed_quotation_is_an_error_with_its_line(table) -> None:
    with pytest.raises(TableError, match=r"line 3: .*quotation mark"):
        table('org,name\nx,1\ny,"2\n')


def test_cell_of_any_length_is_read(table) -> None:
    assert table(f"org,name\nx,{'a' * 300_000}\n").rows == [("x", "a" * 300_000)]


def test_file_that_is_not_there_is_an_error(tmp_path) -> None:
    with pytest.raises(TableError, match="cannot be read"):
        read_table(tmp_path / "nothing.csv", tenant="org", secrets=["name"])
