"""Ids in the code, pages in the documentation and tests agree, and the examples of the pages do what they say."""

import base64
import functools
import re
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.contrib import admin
from django.contrib.admin.sites import AdminSite, all_sites
from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Length

from tests.checks import standins
from tests.checks.conftest import HEADER, compare_anew
from tests.checks.standins import (
    Auditlog,
    DirtyFieldsMixin,
    FieldTracker,
    Filters,
    LifecycleModelMixin,
    Resources,
    RestFramework,
    hook,
)
from vault_fields.admin import EncryptedFieldsMixin, NullFieldListFilter
from vault_fields.checks.admin import check_admin
from vault_fields.checks.changes import check_changes
from vault_fields.checks.decryption import check_losses
from vault_fields.checks.deployment import check_deployment
from vault_fields.checks.indexes import check_indexes
from vault_fields.checks.migrations import check_former_labels
from vault_fields.checks.models import check_models
from vault_fields.checks.packages import check_packages
from vault_fields.checks.patches import check_installed
from vault_fields.checks.vaults import check_vaults
from vault_fields.embedded.managed.rootkey import ENVIRONMENT_VARIABLE, generate_root_key
from vault_fields.fields import (
    BlindIndex,
    CompanionField,
    EncryptedIntegerField,
    EncryptedJSONField,
    EncryptedTextField,
    EncryptedUniqueConstraint,
    context_from,
)
from vault_fields.normalize import digits
from vault_fields.vaults import vaults

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = {path.stem: path.read_text("utf-8") for path in ROOT.glob("docs/checks/[EW]*.md")}
CHECKS = [
    check_models,
    check_former_labels,
    check_losses,
    check_indexes,
    check_changes,
    check_vaults,
    check_admin,
    check_deployment,
    check_packages,
    check_installed,
]
BLOCK = re.compile(r"^```py\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NAMES = {
    "BlindIndex": BlindIndex,
    "AFTER_SAVE": "after_save",
    "CompanionField": CompanionField,
    "DirtyFieldsMixin": DirtyFieldsMixin,
    "EncryptedFieldsMixin": EncryptedFieldsMixin,
    "EncryptedIntegerField": EncryptedIntegerField,
    "EncryptedJSONField": EncryptedJSONField,
    "EncryptedTextField": EncryptedTextField,
    "EncryptedUniqueConstraint": EncryptedUniqueConstraint,
    "FieldTracker": FieldTracker,
    "Length": Length,
    "LifecycleModelMixin": LifecycleModelMixin,
    "NullFieldListFilter": NullFieldListFilter,
    "Q": Q,
    "Value": Value,
    "context_from": context_from,
    "b64encode": base64.b64encode,
    "functools": functools,
    "digits": digits,
    "env": lambda name: generate_root_key(),
    "hook": hook,
    "models": models,
    "uuid": uuid,
}


def found_in(pattern, directory, expression):
    texts = (path.read_text("utf-8") for path in (ROOT / directory).glob(pattern))
    return {match for text in texts for match in re.findall(expression, text)}


def test_ids_pages_and_tests_agree() -> None:
    ids = found_in("*.py", "vault_fields/checks", r'"vault_fields\.([EW]\d{3})"')
    assert ids == PAGES.keys()
    assert {name.upper() for name in found_in("test_*.py", "tests/checks", r"def test_([ew]\d{3})_")} == ids


def test_numbers_have_no_gaps() -> None:
    for kind in "EW":
        numbers = sorted(int(name[1:]) for name in PAGES if name[0] == kind)
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_index_lists_every_page_with_its_title() -> None:
    index = (ROOT / "docs/checks/README.md").read_text("utf-8")
    titles = dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (.+) \|$", index, re.MULTILINE))
    assert titles == {name: re.match(rf"# {name}: (.+)\n", text)[1] for name, text in PAGES.items()}


class Example:
    """What the blocks of a section set up: each stands for the file that its first line names."""

    def __init__(self, lab, project, settings, tmp_path):
        self.lab, self.project, self.settings = lab, project, settings
        self.site = AdminSite()
        stand_in = SimpleNamespace(
            ModelAdmin=admin.ModelAdmin, register=functools.partial(admin.register, site=self.site)
        )
        self.rest = rest = RestFramework()
        self.names = NAMES | {
            "__name__": "tests.testapp.models",
            "admin": stand_in,
            "BASE_DIR": tmp_path,
            "auditlog": Auditlog(),
            "django_filters": Filters(),
            "resources": Resources(),
            **dict.fromkeys(("filters", "generics", "serializers"), rest),
        }

    def run(self, section):
        blocks = BLOCK.findall(section)
        assert len(blocks) == section.count("```py")
        for path, text in blocks:
            # The app of the pages is the one of the suite here.
            source = re.sub(r"\bclinic\b", "testapp", text)
            if path.startswith("clinic/migrations/"):
                imports = HEADER.partition("class")[0]
                (self.project.path / Path(path).name).write_text(imports + source, "utf-8")
                continue
            known = self.names.keys() - {"VAULTS"}
            exec(compile(source, path, "exec"), self.names)
            if path == "project/settings.py":
                for name in self.names.keys() - known - {"__builtins__"}:
                    setattr(self.settings, name, self.names[name])
        if "$ python manage.py vault_keystore create" in section:
            vaults["default"].service.create_keystore()
        compare_anew()
        configs = self.lab.apps.get_app_configs()
        messages = [message for check in CHECKS for message in check(configs)]
        # Of a list that has nothing in it.
        assert not [each for each in messages if re.search(r"[:,] *[.;](?![./])", f"{each.msg} {each.hint}")]
        return {message.id.removeprefix("vault_fields.") for message in messages}


@pytest.fixture
def example(lab, project, settings, tmp_path, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    (tmp_path / "settings").mkdir()
    example = Example(lab, project, settings, tmp_path / "settings")
    # What an example replaces is put back.
    monkeypatch.setattr(models.QuerySet, "bulk_update", models.QuerySet.bulk_update)
    standins.install(monkeypatch)
    example.rest.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "import_export.resources", example.names["resources"])
    monkeypatch.setitem(sys.modules, "auditlog.registry", SimpleNamespace(auditlog=example.names["auditlog"]))
    monkeypatch.setitem(sys.modules, "django_filters.filterset", example.names["django_filters"])
    yield example
    compare_anew()
    all_sites.discard(example.site)


def section(page, title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGES[page], re.MULTILINE | re.DOTALL)[1]


# The suite itself keeps its keys in memory, except where an example says otherwise.
# So are the directories temporary, and no example that does not say so makes a keystore there.
HERE = {"E024", "W012", "W013"}
# What the example shows is there since Django 6.1.
NEWEST = {"W009": "DB_SET_DEFAULT"}
# What is reported is in the tables, and the examples are commands.
STORED = {"W028"}


@pytest.mark.parametrize("page", sorted(PAGES.keys() - STORED))
def test_the_wrong_example_is_reported(page, example) -> None:
    if not hasattr(models, NEWEST.get(page, "Model")):
        pytest.skip("this Django does not have it")
    assert page in example.run(section(page, "Wrong"))


@pytest.mark.parametrize("page", sorted(PAGES.keys() - STORED))
def test_the_right_example_is_passed_over(page, example) -> None:
    found = example.run(section(page, "Right"))
    assert found <= HERE - {page}
