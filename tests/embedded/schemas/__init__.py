"""A keystore of each schema version that there was, as text. See ``make`` for where they come from."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["VERSIONS", "load_keystore"]

_DIRECTORY = Path(__file__).parent

VERSIONS = sorted(int(file.stem) for file in _DIRECTORY.glob("*.sql"))


def load_keystore(version: int, path: Path) -> dict[str, tuple[str, str]]:
    """Make the keystore of that schema version at ``path``; return encrypted keys of its, with what is in them."""
    script = (_DIRECTORY / f"{version}.sql").read_text("utf-8")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(script)
        connection.execute("PRAGMA journal_mode = WAL")
    path.chmod(0o600)
    found = re.findall(r"^-- key\|(.*)\|(.*)\|(.*)$", script, re.MULTILINE)
    return {name: (encrypted_keys, plaintext) for name, encrypted_keys, plaintext in found}
