"""The page of promises quotes other pages as they are, and names tests that there are."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROMISES = (ROOT / "docs" / "promises.md").read_text("utf-8")

# The beginning of the line under a table that names the sections without a row in it.
SILENT = "Nothing that could break is said under: "


class Row(NamedTuple):
    promise: str
    tests: list[str]


def one_line(text: str) -> str:
    return " ".join(text.split())


def sections(text: str, level: str) -> dict[str, str]:
    """What stands under each heading of a level; what comes before the first of them, under an empty name."""
    parts = re.split(rf"^{level} (.+)$", text, flags=re.MULTILINE)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


TABLES = {page: text for page, text in sections(PROMISES, "##").items() if page}


def rows(table: str) -> list[Row]:
    cells = [re.fullmatch(r"\| (.+) \| (.+) \|", line) for line in table.splitlines() if line.startswith("| ")]
    return [Row(cell[1], re.findall(r"`(.+?)`", cell[2])) for cell in cells[1:] if cell]


@cache
def named_tests(path: Path) -> frozenset[str]:
    """The names of the tests of a file, in a class with the name of the class before."""
    tree = ast.parse(path.read_text("utf-8"))
    scopes = [("", tree), *((f"{node.name}::", node) for node in tree.body if isinstance(node, ast.ClassDef))]
    return frozenset(
        f"{scope}{node.name}"
        for scope, parent in scopes
        for node in parent.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


@pytest.mark.parametrize("page", TABLES)
def test_each_promise_stands_once_in_its_page_and_in_the_order_of_the_page(page) -> None:
    text = one_line((ROOT / page).read_text("utf-8"))
    promises = [row.promise for row in rows(TABLES[page])]
    assert promises
    assert {promise: text.count(promise) for promise in promises} == dict.fromkeys(promises, 1)
    assert promises == sorted(promises, key=text.index)


@pytest.mark.parametrize("page", TABLES)
def test_each_promise_has_tests_and_they_exist(page) -> None:
    for row in rows(TABLES[page]):
        assert row.tests, row.promise
        for test in row.tests:
            path, _, name = test.partition("::")
            assert name in named_tests(ROOT / path), test


@pytest.mark.parametrize("page", TABLES)
def test_each_section_promises_something_or_is_named_as_one_that_does_not(page) -> None:
    found = sections((ROOT / page).read_text("utf-8"), "##")
    promises = [row.promise for row in rows(TABLES[page])]
    without = [name for name, text in found.items() if not any(promise in one_line(text) for promise in promises)]
    _, _, named = one_line(TABLES[page]).partition(SILENT)
    assert [name or "the beginning" for name in without] == (named.rstrip(".").split("; ") if named else [])
