"""Whoever writes, and however: a column of an encrypted field holds an envelope, and the row no plaintext."""

import json

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.db import connection

from tests.fields.writers import BACKFILLS, COLUMNS, WRITES
from tests.testapp.models import Legacy, Letter, Organization, Patient
from vault_fields.stored.envelope import is_envelope

MARK = "canary"
NEW = {"ssn": f"{MARK} text", "history": [MARK]}


async def _acreate(organization) -> None:
    await Patient.objects.acreate(organization=organization, **NEW)


def _load(organization) -> None:
    row = {"model": "testapp.patient", "fields": {"organization": organization.pk, **NEW}}
    for each in serializers.deserialize("json", json.dumps([row])):
        each.save()


WAYS_TO_CREATE = {
    "create": lambda organization: Patient.objects.create(organization=organization, **NEW),
    "save": lambda organization: Patient(organization=organization, **NEW).save(),
    "bulk_create": lambda organization: Patient.objects.bulk_create([Patient(organization=organization, **NEW)]),
    "get_or_create": lambda organization: Patient.objects.get_or_create(organization=organization, defaults=NEW),
    "update_or_create": lambda organization: Patient.objects.update_or_create(organization=organization, defaults=NEW),
    "of a relation": lambda organization: organization.patients.create(**NEW),
    "acreate": async_to_sync(_acreate),
    "a fixture of plaintext": _load,
}


def require_envelopes_only(model) -> None:
    text, data, _ = COLUMNS[model]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {text}, {data} FROM {model._meta.db_table}")
        stored = cursor.fetchall()
    assert stored
    for row in stored:
        assert all(is_envelope(value) for value in row), row


@pytest.mark.parametrize("create", WAYS_TO_CREATE.values(), ids=WAYS_TO_CREATE)
def test_a_row_that_is_made_holds_envelopes(create, organization) -> None:
    create(organization)
    require_envelopes_only(Patient)
    read = Patient.objects.get()
    assert (read.ssn, read.history) == (NEW["ssn"], NEW["history"])


@pytest.mark.parametrize("model", [Letter, Patient])
@pytest.mark.parametrize("write", WRITES, ids=repr)
def test_a_row_that_is_written_holds_envelopes(model, write, db) -> None:
    for pk in (1, 2):
        Organization.objects.create(pk=pk, workos_id=f"org_{pk}")
    text, data, _ = COLUMNS[model]
    model.objects.create(pk=1, organization_id=1, **{text: "old", data: ["old"]})
    write.act(model, "default", MARK)()
    require_envelopes_only(model)
    assert getattr(model.objects.get(), text) == (f"{MARK} text" if 0 in write.names else "old")


def test_a_column_that_was_encrypted_row_by_row_holds_envelopes(organization, execute) -> None:
    execute(
        "INSERT INTO testapp_legacy (organization_id, text, data) VALUES (%s, %s, %s)",
        *(organization.pk, MARK, json.dumps([MARK])),
    )
    BACKFILLS[0].act(Legacy, "default", MARK)()
    require_envelopes_only(Legacy)
