"""A laboratory: models and admin classes that no other test sees, and what the system checks say about them."""

import itertools
import sys
from textwrap import indent

import pytest
from django.core.checks import run_checks
from django.db import models
from django.test.utils import isolate_apps

from vault_fields import patches
from vault_fields.checks.models import check_models
from vault_fields.fields import EncryptedTextField

HEADER = """\
from django.db import migrations, models
from vault_fields import fields
from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField, IndexField
from vault_fields.fields.types.numbers import EncryptedIntegerField
from vault_fields.normalize import digits
from vault_fields.operations import DecryptField, EncryptField, JSONToText, MoveToCompanion, RekeyField, TextToJSON

class Migration(migrations.Migration):
"""


def compare_anew() -> None:
    """Let the installed Django be compared with the tables once more, as in a new process."""
    patches.differences.cache_clear()
    patches._unknown_methods.cache_clear()


class Laboratory:
    def __init__(self, apps):
        self.apps = apps
        self.organization = self.model("Organization", workos_id=models.CharField(max_length=100))

    def model(self, name="Patient", bases=(models.Model,), /, meta=(), **attributes):
        meta = type("Meta", (), dict(meta))
        return type(name, bases, {"__module__": "tests.testapp.models", "Meta": meta, **attributes})

    def patient(self, *, meta=(), **attributes):
        """A model with the encrypted field ``ssn``, as it should be unless ``attributes`` say otherwise."""
        attributes.setdefault("organization", models.ForeignKey("Organization", on_delete=models.PROTECT))
        attributes.setdefault("ssn", EncryptedTextField(key_context=["organization_id"]))
        return self.model(meta=meta, **attributes)

    def check(self):
        """What the checks of models say, in order."""
        return check_models(self.apps.get_app_configs())

    def ids(self):
        return [message.id.removeprefix("vault_fields.") for message in self.check()]

    def only(self):
        """The one message that there is."""
        (message,) = self.check()
        assert message.hint
        return message


@pytest.fixture
def lab():
    with isolate_apps("tests.testapp") as apps:
        yield Laboratory(apps)


@pytest.fixture
def own_ids():
    """Run the checks of a whole project; return the ids of this package's messages."""

    def run(**options):
        found = run_checks(tags=["vault_fields"], **options)
        return [message.id.removeprefix("vault_fields.") for message in found]

    return run


class Project:
    """The migrations of an app, in a package that no other test imports."""

    counter = itertools.count()

    def __init__(self, path, settings):
        self.package = f"migrations_of_a_project_{next(self.counter)}"
        self.path = path / self.package
        self.path.mkdir()
        (self.path / "__init__.py").touch()
        settings.MIGRATION_MODULES = {"testapp": self.package}

    def migration(self, name, operations="", *, after=(), replaces=()) -> None:
        attributes = f"dependencies = {[('testapp', each) for each in after]}\n"
        attributes += f"replaces = {[('testapp', each) for each in replaces]}\n"
        attributes += f"operations = [{operations.strip()}]\n"
        (self.path / f"{name}.py").write_text(HEADER + indent(attributes, "    "))


@pytest.fixture
def project(tmp_path, settings, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    project = Project(tmp_path, settings)
    yield project
    for name in [name for name in sys.modules if name.partition(".")[0] == project.package]:
        del sys.modules[name]
