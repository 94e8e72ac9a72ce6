"""Models whose columns were plain once; their migrations tell how they became encrypted."""

import uuid

from django.db import models
from django.db.models import Value

from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField


class Tenant(models.Model):
    name = models.CharField(max_length=50, unique=True)


class Note(models.Model):
    """The context lies behind a relation; each field has its own companion."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT)
    text = EncryptedTextField(key_context={"tenant": "tenant__name", "purpose": Value("notes")}, null=True)
    data = EncryptedJSONField(key_context=["tenant_id"], null=True)


class Letter(models.Model):
    """Two fields share a companion. Rows are found by a UUID."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT)
    subject = EncryptedTextField(key_context=["tenant_id"], keys_field="vault_keys", null=True)
    body = EncryptedJSONField(key_context=["tenant_id"], keys_field="vault_keys", default=dict)
    vault_keys = CompanionField()


class Person(models.Model):
    code = models.CharField(max_length=20, primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT)


class Employee(Person):
    """The context is a column of the parent's table."""

    salary = EncryptedTextField(key_context=["tenant_id"])
