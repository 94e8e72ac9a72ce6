"""Docstrings begin with the thing or the action that they describe."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(ROOT.glob("vault_fields/**/*.py"))

# A sentence that begins so circles the thing and never names it.
CIRCLING = {
    *("As", "How", "That", "What", "Whatever", "When", "Where", "Wherever"),
    *("Which", "Who", "Whoever", "Whose", "Why"),
}


def circling(module: Path) -> Iterator[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, kinds) and (docstring := ast.get_docstring(node)) and docstring.split()[0] in CIRCLING:
            yield f"{getattr(node, 'name', 'the module')}: {docstring.splitlines()[0]}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_docstrings_name_the_thing_or_the_action_first(module: Path) -> None:
    assert list(circling(module)) == []


@pytest.mark.parametrize("word", sorted(CIRCLING))
def test_a_docstring_that_circles_its_thing_is_found(word: str, tmp_path: Path) -> None:
    module = tmp_path / "circling.py"
    module.write_text(f'class Key:\n    """{word} opens the door."""\n', "utf-8")
    assert list(circling(module)) == [f"Key: {word} opens the door."]
