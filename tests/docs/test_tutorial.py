"""
Both parts of the tutorial are done as they are written, in a directory of their own, and show what they say.

Its blocks have languages that ``test_snippets`` leaves alone, because they start from nothing rather than from a
project:

``py``
    a file, whose path is its first line; what stands there for ``mysite/settings.py`` is added to the settings
``shell-session``
    commands to run, each after ``$`` and with the output that is expected, in which ``...`` stands for anything;
    after ``$ python manage.py shell``, what is typed there, as a doctest
"""

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# The second part goes on where the first one ends.
PAGES = [ROOT / "docs" / "tutorial.md", ROOT / "docs" / "tutorial-2.md"]

BLOCK = re.compile(r"^```(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# ``manage.py shell -c`` gives this the names that its prompt has.
SHELL = """
import doctest, sys
test = doctest.DocTestParser().get_doctest({source!r}, globals(), "tutorial", None, 0)
sys.exit(1 if doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed else 0)
"""


def run(command: list[str], directory: Path, *, fails: bool = False) -> str:
    programs = {"python": [sys.executable], "django-admin": [sys.executable, "-m", "django"]}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "VAULT_"))}
    environment |= {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",  # What goes to stdout and stderr comes in its order.
        "PYTHONUTF8": "1",
    }
    done = subprocess.run(
        [*programs[command[0]], *command[1:]],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) is fails, f"{shlex.join(command[:4])}\n{done.stdout}"
    return done.stdout


def type_in(session: str, directory: Path) -> None:
    """Run the commands of a block and compare what they print."""
    if session.startswith("$ python manage.py shell\n"):
        run(["python", "manage.py", "shell", "-c", SHELL.format(source=session.partition("\n")[2])], directory)
        return
    for step in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, expected = step.partition("\n")
        printed = run(shlex.split(command), directory, fails="Error: " in expected)
        if expected.strip():
            assert doctest.OutputChecker().check_output(expected, printed, FLAGS), f"$ {command}\n{printed}"


def write(source: str, directory: Path) -> None:
    name, text = re.fullmatch(r"# (\S+\.py)\n(.*)", source, re.DOTALL).groups()
    path = directory / name
    assert path.parent.is_dir(), f"{name} is in a directory that no command has made"
    path.write_text((path.read_text("utf-8") if path.name == "settings.py" else "") + text, encoding="utf-8")


def test_the_tutorial_can_be_followed_to_its_end(tmp_path) -> None:
    steps = [(language, source) for page in PAGES for language, source in BLOCK.findall(page.read_text("utf-8"))]
    assert {language for language, _ in steps} == {"py", "sh", "shell-session"}
    for language, source in steps:
        if language == "py":
            write(source, tmp_path)
        elif language == "shell-session":
            type_in(source, tmp_path)
