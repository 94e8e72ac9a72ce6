"""The page on fields has every option, and its steps for a rename are those that work."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_snippets import ROOT, Project
from vault_fields.backends.local import LocalVault
from vault_fields.fields.base import EncryptedField
from vault_fields.keys import KeyContext
from vault_fields.stored import companion

PAGE = (ROOT / "docs" / "fields.md").read_text("utf-8")

MODELS = """
from django.db import models
from vault_fields.fields import EncryptedTextField


class Patient(models.Model):
    organization = models.ForeignKey("tenants.Organization", on_delete=models.PROTECT)
    {name} = EncryptedTextField(key_context=["organization_id"]{options})
"""


def test_every_option_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", PAGE, re.MULTILINE)
    parameters = inspect.signature(EncryptedField.__init__).parameters.values()
    options = {option.name: option.default for option in parameters if option.kind is option.KEYWORD_ONLY}
    assert [name for name, _ in rows] == list(options)
    for name, shown in rows:
        default = options[name]
        assert shown == ("required" if default is inspect.Parameter.empty else f"`{default!r}`".replace("'", '"'))


@pytest.mark.filterwarnings("ignore:No root key is configured:RuntimeWarning")
def test_a_companion_is_about_as_long_as_the_page_says(tmp_path) -> None:
    vault = LocalVault(path=tmp_path / "vault.sqlite3")
    lengths = []
    for context in ({"organization_id": "1234"}, {"organization_id": "1234", "department": "finance"}):
        key = vault.create_data_key(KeyContext(context))
        said = companion.Companion("default", key.id, key.encrypted_keys, KeyContext(context), context)
        lengths.append(len(companion.encode(companion.proven(said, key))))
    assert 340 <= lengths[0] <= 370
    assert 100 <= lengths[1] - lengths[0] <= 200
    assert "A companion has some 350 bytes with one short item, and 100 to 200 for each" in PAGE


def manage(directory: Path, *arguments: str, answers: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=directory,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)]),
        },
        input=answers,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_steps_of_a_rename_are_those_that_work(tmp_path) -> None:
    questions, report = re.findall(r"^   ```text\n(.*?)^   ```$", PAGE, re.MULTILINE | re.DOTALL)
    project = Project(tmp_path)
    project.write("clinic/models.py", MODELS.format(name="ssn", options=""))
    manage(tmp_path, "makemigrations", "clinic")

    project.write("clinic/models.py", MODELS.format(name="social", options=', former_labels=["clinic.Patient.ssn"]'))
    assert "vault_fields.E022" in manage(tmp_path, "check")

    project.write("clinic/models.py", MODELS.format(name="social", options=""))
    printed = manage(tmp_path, "makemigrations", answers="y\ny\n")
    for question in questions.splitlines():
        assert question.strip().removesuffix(" y") in printed
    printed = manage(tmp_path, "check")
    assert " ".join(report.split()) in " ".join(printed.split())

    project.write("clinic/models.py", MODELS.format(name="social", options=', former_labels=["clinic.Patient.ssn"]'))
    assert "no issues" in manage(tmp_path, "check")
    assert "Alter field social" in manage(tmp_path, "makemigrations")
