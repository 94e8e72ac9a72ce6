"""
Makes the known-answer vectors beside this file: ``python -m tests.vectors.generate``.

Written from ``docs/format.md`` with AES-GCM and the standard library; nothing of ``vault_fields`` is used, so that the
vectors cannot inherit its mistakes. Nonces come from the names of the files, so that every run makes the same files.
"""

import json
from collections import ChainMap
from pathlib import Path

from tests.vectors import companions, pairs, readable, values

HERE = Path(__file__).parent

PARTS = [readable.SCENARIOS, values.SCENARIOS, companions.SCENARIOS, pairs.SCENARIOS]
SCENARIOS = ChainMap(*PARTS)
assert len(SCENARIOS) == sum(map(len, PARTS)), "Two scenarios have one name."


def files() -> dict[str, str]:
    """The text of every vector, by the name of its file."""
    return {f"{name}.json": json.dumps(scenario.vector(name), indent=2) + "\n" for name, scenario in SCENARIOS.items()}


def main() -> None:
    wanted = files()
    for path in HERE.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (HERE / name).write_text(text, "ascii")


if __name__ == "__main__":
    main()
