"""The page about the layout names what is there, and every room."""

import re
from importlib import import_module
from pathlib import Path

import vault_fields

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/layout.md").read_text("utf-8")


def test_questions_lead_to_what_is_there() -> None:
    found = re.findall(r"^\|.*\| `(vault_fields\.[\w.]+)` \| `(\w+)` \|$", PAGE, re.MULTILINE)
    assert len(found) > 20
    assert [f"{module}.{name}" for module, name in found if not hasattr(import_module(module), name)] == []


def test_every_room_is_on_the_page() -> None:
    package = Path(vault_fields.__file__).parent
    rooms = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    rooms |= {path.stem for path in package.glob("*.py")} - {"__init__", "apps"}
    named = set(re.findall(r"`([a-z]+/?)`", PAGE.partition("## Where")[0]))
    assert rooms - named == set()
