"""The glossary has the words that are used, and nobody uses the others."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
GLOSSARY = ROOT / "docs" / "glossary.md"
# Records, the history and a page that compares may speak of what others do, in the words of others.
SPEAKING_OF_OTHERS = {*ROOT.glob("docs/decisions/*.md"), ROOT / "docs" / "leakage.md"}
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted(ROOT.glob("docs/**/*.md")) if page != GLOSSARY and page not in SPEAKING_OF_OTHERS),
]
MODULES = sorted(ROOT.glob("vault_fields/**/*.py"))

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in GLOSSARY.read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| term ")
]
TERMS = [term for row in ROWS for term in row[0].split(", ")]
OTHERS = [word for row in ROWS for word in row[2].split(", ") if word]


def docstrings(module: Path) -> str:
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(module.read_text("utf-8"))
    return "\n".join(ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, nodes))


def word(text: str) -> re.Pattern[str]:
    """The word or its plural; an abbreviation as it is written, everything else in any case."""
    return re.compile(rf"\b{re.escape(text)}s?\b", re.NOFLAG if text.isupper() else re.IGNORECASE)


def prose(page: Path) -> str:
    """The page without code, where a word may be a name that others have given."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def test_every_term_has_one_row_and_a_meaning() -> None:
    assert len(TERMS) == len(set(TERMS))
    assert [row[0] for row in ROWS] == sorted((row[0] for row in ROWS), key=str.casefold)
    assert all(len(row) == 3 and row[1].endswith(".") for row in ROWS)


@pytest.mark.parametrize("term", TERMS)
def test_every_term_is_used(term) -> None:
    # Verbs are found in their other forms too.
    stem = re.compile(rf"\b{re.escape(term)}", re.IGNORECASE)
    texts = [*map(prose, PAGES), *map(docstrings, MODULES)]
    assert any(map(stem.search, texts)), "nobody needs it"


@pytest.mark.parametrize("other", OTHERS)
def test_nobody_uses_another_word_for_it(other) -> None:
    pattern = word(other)
    found = [page for page in PAGES if pattern.search(prose(page))]
    found += [module for module in MODULES if pattern.search(docstrings(module))]
    assert [str(path.relative_to(ROOT)) for path in found] == []
