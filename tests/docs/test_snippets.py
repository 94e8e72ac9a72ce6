"""
Every snippet of the README and of ``docs/`` runs, in the order of its page, in a fresh project of that page's own.

What a fenced block is for stands in its first line:

``python``, first line ``# path/to/file.py``
    the contents of that file of the project; for ``project/settings.py``, what is added to the settings. A new file
    means a new process, and the keys of an ``InMemoryVault`` are then gone: a page that goes on reading sets another.
``python``
    statements, in a shell that has all models
``pycon``
    the same with ``>>>`` and the output that is expected
``console``
    commands to run, each after ``$``, all of them ``python manage.py …``

Blocks in an HTML comment run too, so that a page can set up what it need not show. ``text``, ``sh`` and other languages
are only for reading. The project has an app ``clinic``, an app ``tenants`` with a model ``Organization``,
SQLite, and an ``InMemoryVault``.
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

TENANTS_MIGRATION = """
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            name="Organization",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("workos_id", models.CharField(max_length=64, unique=True)),
                ("name", models.CharField(max_length=200)),
            ],
        ),
    ]
"""

# Commands and statements that follow each other share one process, as long as no file is written in between.
STEPS = """
import doctest
import importlib
import sys

import django
from django.apps import apps
from django.core.management import ManagementUtility

django.setup()
names = {model.__name__: model for model in apps.get_models()}
for number, (language, source) in enumerate(steps, start=1):
    if language == "console":
        # A migration that was just written is to be found.
        importlib.invalidate_caches()
        ManagementUtility(source).execute()
    elif language == "python":
        exec(compile(source, f"<snippet {number}>", "exec"), names)
    else:
        test = doctest.DocTestParser().get_doctest(source, names, f"snippet {number}", None, 0)
        if doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False).failed:
            sys.exit(1)
        names |= test.globs
"""

Step = tuple[str, str | list[str]]


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
        self.write("tenants/migrations/0001_initial.py", TENANTS_MIGRATION)
        (path / "manage.py").write_text((ROOT / "manage.py").read_text("utf-8").replace("testproject.", "project."))

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "project/settings.py" and path.exists():
            text = path.read_text("utf-8") + text
        path.write_text(text, encoding="utf-8")

    def run(self, steps: list[Step]) -> None:
        script = self.path / "steps.py"
        script.write_text(f"steps = {steps!r}\n{STEPS}", encoding="utf-8")
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            # A module that was just rewritten must not be taken from a compiled copy of the same second and size.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(self.path), str(ROOT)]),
            "PYTHONUTF8": "1",
        }
        done = subprocess.run(
            [sys.executable, script], cwd=self.path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{steps}\n{done.stdout}\n{done.stderr}"


def commands(block: str) -> list[Step]:
    found: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            python, *arguments = shlex.split(line[2:], comments=True)
            assert (python, arguments[0]) == ("python", "manage.py"), f"{line} is not a command of manage.py"
            found.append(("console", arguments))
    return found


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_snippets_run(page, tmp_path) -> None:
    project = Project(tmp_path)
    steps: list[Step] = []
    for language, source in BLOCK.findall(page.read_text("utf-8")):
        if language == "python" and (file := FILE.match(source)):
            if steps:
                project.run(steps)
                steps = []
            project.write(file[1], source[file.end() :])
        elif language == "console":
            steps += commands(source)
        else:
            steps.append((language, source))
    if steps:
        project.run(steps)


def test_every_python_block_is_found() -> None:
    """A block that the expression above does not see would be a snippet that nobody runs."""
    for page in PAGES:
        text = page.read_text("utf-8")
        assert len(re.findall(r"```\s*(?:python|pycon|console)\b", text)) == len(BLOCK.findall(text)), page
