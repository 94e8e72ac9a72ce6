"""What the repository says about itself is so."""

import ast
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def classified(prefix: str) -> set[str]:
    found = (re.fullmatch(rf"{re.escape(prefix)} :: (\d+\.\d+)", line) for line in PROJECT["classifiers"])
    return {match[1] for match in found if match}


def quoted(text: str) -> set[str]:
    """The versions that ``text`` lists, such as 3.11, 3.12 and 3.13."""
    return set(re.findall(r"\d+\.\d+", text))


def test_changelog_describes_the_version_that_ships() -> None:
    assert re.search(rf"^## (Unreleased: )?{re.escape(PROJECT['version'])}\b", read("CHANGELOG.md"), re.MULTILINE)


def test_readme_names_the_versions_that_the_metadata_names() -> None:
    line = re.search(r"^Python (?P<python>.+) and Django (?P<django>.+) on SQLite", read("README.md"), re.MULTILINE)
    assert quoted(line["python"]) == classified("Programming Language :: Python")
    assert quoted(line["django"]) == classified("Framework :: Django")


def test_tox_runs_every_version_that_the_metadata_names() -> None:
    tox = read("tox.ini")
    envs = re.search(r"^env_list =\n((?:    .+\n)+)", tox, re.MULTILINE)[1]
    assert {f"3.{minor}" for minor in re.findall(r"py3(\d+)-", envs)} == classified("Programming Language :: Python")
    for version in classified("Framework :: Django"):
        series, minor = version.split(".")
        assert f"django{series}{minor}: django>={version},<{series}.{int(minor) + 1}" in tox


def test_tox_chooses_and_leaves_out_files_that_exist() -> None:
    """A file that was renamed would be left out no more, and nothing would say so."""
    for name in re.findall(r"\btests/[\w/.]+", read("tox.ini")):
        assert (ROOT / name).exists(), name


def test_tests_say_that_they_return_nothing() -> None:
    """A type checker looks into no function without an annotation."""
    for path in ROOT.glob("tests/**/test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                assert node.returns is not None, f"{path.relative_to(ROOT)}: {node.name}"


def test_contributing_lists_the_environments_of_tox() -> None:
    envs = set(re.findall(r"^\[testenv:(\w+)\]", read("tox.ini"), re.MULTILINE)) | {"coverage"}
    assert set(re.findall(r"tox run -[em] (\w+)", read("CONTRIBUTING.md"))) == envs


def test_the_workflow_runs_the_cells_of_tox() -> None:
    tox, workflow = read("tox.ini"), read(".github/workflows/ci.yml")
    cells = set()
    for python, djangos in re.findall(r"^    (py3\d+)-django(\d+|\{[\d, ]+\})-\{sqlite", tox, re.MULTILINE):
        cells |= {f"{python}-django{django}" for django in re.findall(r"\d+", djangos)}
    found = re.findall(r'python: "3\.(\d+)", cell: (py3(\d+)-django\d+),', workflow)
    assert {cell for _, cell, _ in found} == cells
    assert all(installed == named for installed, _, named in found)


@pytest.mark.parametrize("env", ["demo", "tests"])
def test_readme_has_one_command_that_does_all_set_up(env) -> None:
    command = f"python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox run -e {env}"
    assert read("README.md").splitlines().count(command) == 1


@pytest.mark.skipif("TOX_ENV_NAME" not in os.environ, reason="says something about the environments of tox only")
def test_environment_tests_the_database_in_its_name() -> None:
    vendor = {"postgres": "postgresql", "mariadb": "mysql"}
    named = [vendor[factor] for factor in os.environ["TOX_ENV_NAME"].split("-") if factor in vendor]
    assert connection.vendor == (named[0] if named else "sqlite")


def test_links_between_the_documents_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    for page in pages:
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


# The only hosts that files name: in examples and as sources.
HOSTS = {
    "api.workos.com",
    "api.workos-test.com",
    "c2sp.org",
    "example.org",
    "github.com",
    "keepachangelog.com",
    "openbao.org",
    "semver.org",
    "vault.example.com",
    "www.postgresql.org",
    "www.w3.org",  # The namespaces of SVG.
}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git knows the files; a source distribution is made of them")
def test_no_file_names_a_package_index() -> None:
    """Whoever installs this decides where packages come from: no other host is named, and no option names any."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    hosts = re.compile(r"\b(?:[a-z0-9-]+\.)+(?:com|dev|io|net|org)\b")
    options = re.compile(r"index[-_]url|find[-_]links|registry *=")
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file():
            text = path.read_bytes().decode("utf-8", "replace").lower()
            assert set(hosts.findall(text)) <= HOSTS, f"{name}: {sorted(set(hosts.findall(text)) - HOSTS)}"
            assert path == Path(__file__) or not options.search(text), name
