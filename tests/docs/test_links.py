"""Every link of the documentation inside the repository leads to a file, and to a heading of it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
DOCS = ROOT / "docs"

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """The page without code."""
    text = re.sub(r"^(\s*)```.*?^\1```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`([^`\n]*)`", lambda code: re.sub(r"[\[\]()#]", "", code[1]), text)


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_lead_somewhere(page) -> None:
    for text, link in LINK.findall(prose(page)):
        assert text, f"a link to {link} that code hosts show as nothing"
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert ROOT in (target, *target.parents), f"{link} leads out of the repository"
        if fragment:
            assert fragment in anchors(target), link


def test_the_sidebar_has_the_order_of_the_index() -> None:
    listed = re.findall(r"^([\w/-]+)$", (DOCS / "index.md").read_text("utf-8"), re.MULTILINE)
    linked = [link.removesuffix(".md") for _, link in LINK.findall(prose(DOCS / "README.md"))]
    assert listed == ["README", *dict.fromkeys(linked)]


def test_the_index_leads_to_every_page() -> None:
    linked = {(DOCS / link.partition("#")[0]).resolve() for _, link in LINK.findall(prose(DOCS / "README.md"))}
    pages = {page for page in DOCS.glob("*.md") if page.name not in ("README.md", "index.md")}
    pages |= set(DOCS.glob("*/README.md"))
    assert pages <= linked
