"""What a type checker makes of models with encrypted fields. Nothing here is run."""

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import assert_type

from django.db import models

from vault_fields import fields
from vault_fields.fields import (
    BlindIndex,
    CompanionField,
    EncryptedJSONField,
    EncryptedTextField,
    EncryptedUniqueConstraint,
    ForContext,
    JSONValue,
)
from vault_fields.importing import EncryptedModelFields, Pgcrypto
from vault_fields.normalize import casefold, last_four
from vault_fields.operations import ImportField


class Patient(models.Model):
    organization_id = models.CharField(max_length=64)
    ssn = EncryptedTextField(key_context=["organization_id"])
    notes = EncryptedTextField(key_context=["organization_id"], null=True, blank=True)
    history = EncryptedJSONField(key_context=["organization_id"], default=dict)
    digest = EncryptedJSONField(key_context=["organization_id"], null=True)
    encoded = EncryptedJSONField(key_context=["organization_id"], encoder=json.JSONEncoder, decoder=json.JSONDecoder)
    vault_keys = CompanionField()

    class Meta:
        app_label = "typing_tests"


def model(patient: Patient) -> None:
    assert_type(patient.ssn, str)
    assert_type(patient.notes, str | None)
    assert_type(patient.history, JSONValue)
    assert_type(patient.digest, JSONValue)
    assert_type(patient.vault_keys, str | None)
    patient.ssn = "123-45-6789"
    patient.ssn = 7  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    patient.ssn = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    patient.notes.upper()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    patient.notes = None
    patient.notes = "text"
    entry: dict[str, str] = {"at": "noon"}
    patient.history = entry
    patient.history = {"pain": [1, 2.5, True, None], "name": "Ada", "at": {"hour": 12}}
    patient.history = [1, "two", {"three": ["four"]}]
    patient.history = ("a", 1)
    patient.history = None
    patient.history = object()  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    patient.encoded = object()
    patient.ssn.upper()


def narrowed(patient: Patient) -> None:
    if isinstance(patient.history, dict):
        value: JSONValue = patient.history["pain"]
        patient.digest = value


def declarations() -> None:
    EncryptedTextField()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    EncryptedTextField(key_context=7)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    assert_type(EncryptedTextField(key_context=["a"]), EncryptedTextField[str, str])
    assert_type(EncryptedTextField(key_context=["a"], null=True), EncryptedTextField[str | None, str | None])


class Upper(EncryptedTextField[str, str]):
    """A subclass says what it takes and gives."""

    def from_plaintext(self, text: str) -> str:
        return text.upper()


class Loud(models.Model):
    title = Upper(key_context=["id"])

    class Meta:
        app_label = "typing_tests"


def subclass(loud: Loud) -> None:
    assert_type(loud.title, str)


class Sought(models.Model):
    organization_id = models.CharField(max_length=64)
    ssn = EncryptedTextField(key_context=["organization_id"], index=True)
    email = EncryptedTextField(key_context=["organization_id"], index="global", unique=True)
    name = EncryptedTextField(
        key_context=["organization_id"], index=[True, BlindIndex(name="folded", normalize=casefold)], null=True
    )
    phone = EncryptedTextField(key_context=["organization_id"], index=BlindIndex(normalize=last_four, scope="global"))

    class Meta:
        app_label = "typing_tests"
        constraints = [EncryptedUniqueConstraint(fields=["organization_id", "phone"], name="one_phone")]


def indexes(sought: Sought) -> None:
    assert_type(sought.ssn, str)
    assert_type(sought.name, str | None)
    BlindIndex(scope="tenant")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    BlindIndex(normalize=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Sought._default_manager.filter(ssn=ForContext("078-05-1120", organization_id="org_acme"))


def imports() -> None:
    ImportField("patient", "ssn", source="ssn_old", reader=EncryptedModelFields())
    ImportField("patient", "ssn", source="ssn_old", reader=Pgcrypto("PGCRYPTO_KEY"), batch_size=100)
    ImportField("patient", "ssn", source="ssn_old")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ImportField("patient", "ssn", source="ssn_old", reader=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Reading(models.Model):
    organization_id = models.CharField(max_length=64)
    char = fields.EncryptedCharField(key_context=["organization_id"], max_length=20)
    email = fields.EncryptedEmailField(key_context=["organization_id"], null=True)
    integer = fields.EncryptedIntegerField(key_context=["organization_id"])
    big = fields.EncryptedBigIntegerField(key_context=["organization_id"], null=True)
    decimal = fields.EncryptedDecimalField(key_context=["organization_id"], max_digits=8, decimal_places=2)
    float = fields.EncryptedFloatField(key_context=["organization_id"])
    boolean = fields.EncryptedBooleanField(key_context=["organization_id"], null=True)
    date = fields.EncryptedDateField(key_context=["organization_id"])
    datetime = fields.EncryptedDateTimeField(key_context=["organization_id"], auto_now=True)
    time = fields.EncryptedTimeField(key_context=["organization_id"])
    duration = fields.EncryptedDurationField(key_context=["organization_id"])
    uuid = fields.EncryptedUUIDField(key_context=["organization_id"])
    address = fields.EncryptedGenericIPAddressField(key_context=["organization_id"], null=True)
    binary = fields.EncryptedBinaryField(key_context=["organization_id"])

    class Meta:
        app_label = "typing_tests"


def typed(reading: Reading) -> None:
    assert_type(reading.char, str)
    assert_type(reading.email, str | None)
    assert_type(reading.integer, int)
    assert_type(reading.big, int | None)
    assert_type(reading.decimal, Decimal)
    assert_type(reading.boolean, bool | None)
    assert_type(reading.date, dt.date)
    assert_type(reading.datetime, dt.datetime)
    assert_type(reading.time, dt.time)
    assert_type(reading.duration, dt.timedelta)
    assert_type(reading.uuid, uuid.UUID)
    assert_type(reading.address, str | None)
    assert_type(reading.binary, bytes)
    reading.integer = "5"
    reading.integer = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    reading.date = "2026-11-29"
    reading.date = 7  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    reading.decimal = "1.50"
    reading.binary = bytearray(b"x")


def typed_declarations() -> None:
    fields.EncryptedIntegerField()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    assert_type(fields.EncryptedDateField(key_context=["a"]), fields.EncryptedDateField[dt.date | str, dt.date])


class EncryptedColorField(fields.EncryptedField[str, str], models.CharField[str, str]):
    """A field of a project, made with the mixin."""

    def to_plaintext(self, value: object) -> str:
        return str(value)

    def from_plaintext(self, text: str) -> str:
        return text
