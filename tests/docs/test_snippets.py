"""
Every snippet of the README and of ``docs/`` runs, in the order of its page, in a fresh project of that page's own.

What a fenced block is for stands in its first line:

``python``, first line ``# path/to/file.py``
    the contents of that file of the project; for ``project/settings.py``, what is added to the settings
``python``
    statements, in a shell that has all models
``pycon``
    the same with ``>>>`` and the output that is expected
``console``
    commands to run, each after ``$``, all of them ``python manage.py …``

Blocks in an HTML comment run too, so that a page can set up what it need not show. ``text``, ``sh`` and other languages
are only for reading. The project has an app ``clinic``, an app ``tenants`` with a model ``Organization``, and SQLite.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]

BLOCK = re.compile(r"^```(python|pycon|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w/]+\.py)\n")

SETTINGS = """
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "only-for-the-snippets"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "vault_fields",
    "tenants",
    "clinic",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
ROOT_URLCONF = "project.urls"
STATIC_URL = "static/"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
VAULTS = {"default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}}
"""

TENANTS = """
from django.db import models


class Organization(models.Model):
    workos_id = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=200)
"""

URLS = """
from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
"""

SHELL = """
import doctest
import sys

import django

django.setup()

from django.apps import apps

names = {model.__name__: model for model in apps.get_models()}
failed = 0
for number, (language, source) in enumerate(BLOCKS, start=1):
    if language == "python":
        exec(compile(source, f"<snippet {number}>", "exec"), names)
    else:
        test = doctest.DocTestParser().get_doctest(source, names, f"snippet {number}", None, 0)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        failed += runner.run(test, clear_globs=False).failed
        names |= test.globs
sys.exit(1 if failed else 0)
"""


class Project:
    """A Django project in a directory, as a reader of the page would have it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("project/__init__.py", "")
        self.write("project/settings.py", SETTINGS)
        self.write("project/urls.py", URLS)
        self.write("clinic/__init__.py", "")
        self.write("clinic/migrations/__init__.py", "")
        self.write("tenants/__init__.py", "")
        self.write("tenants/migrations/__init__.py", "")
        self.write("tenants/models.py", TENANTS)
        (path / "manage.py").write_text((ROOT / "manage.py").read_text("utf-8").replace("testproject.", "project."))
        self.run("manage.py", "makemigrations", "tenants")

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "project/settings.py" and path.exists():
            text = path.read_text("utf-8") + text
        path.write_text(text, encoding="utf-8")

    def run(self, *arguments: str) -> None:
        # A module that was just rewritten must not be taken from a compiled copy of the same second and size.
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(self.path), str(ROOT)]),
            "PYTHONUTF8": "1",
        }
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{shlex.join(arguments[:4])}\n{done.stdout}\n{done.stderr}"

    def shell(self, blocks: list[tuple[str, str]]) -> None:
        script = self.path / "snippets.py"
        script.write_text(f"BLOCKS = {blocks!r}\n{SHELL}", encoding="utf-8")
        self.run(script.name)


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_snippets_run(page, tmp_path):
    blocks = BLOCK.findall(page.read_text("utf-8"))
    if not blocks:
        return
    project = Project(tmp_path)
    pending: list[tuple[str, str]] = []
    for language, source in blocks:
        file = FILE.match(source)
        if language == "pycon" or (language == "python" and not file):
            pending.append((language, source))
            continue
        # Statements that follow each other share one shell; a new file or a command ends it.
        if pending:
            project.shell(pending)
            pending = []
        if file:
            project.write(file[1], source[file.end() :])
            continue
        for line in source.splitlines():
            if line.startswith("$ "):
                command = shlex.split(line[2:], comments=True)
                assert command[:2] == ["python", "manage.py"], f"{page.name}: {line} is not a command of manage.py"
                project.run(*command[1:])
    if pending:
        project.shell(pending)


def test_every_python_block_is_found():
    """A block that the expression above does not see would be a snippet that nobody runs."""
    for page in PAGES:
        text = page.read_text("utf-8")
        assert len(re.findall(r"```\s*(?:python|pycon|console)\b", text)) == len(BLOCK.findall(text)), page
