"""What every tenant has in a schema of its own. No row says whose it is."""

from django.db import connection, models
from django_tenants.utils import get_public_schema_name

from vault_fields.fields import EncryptedTextField


def current_schema():
    """The tenant's schema that the connection is in, or None outside of all."""
    name = connection.schema_name
    return None if name == get_public_schema_name() else name


class Patient(models.Model):
    name = models.CharField(max_length=100)
    ssn = EncryptedTextField(key_context={"tenant": current_schema}, null=True)


class Member(models.Model):
    """Rows of a ward, whose name may be the same in every schema, as are then the names of the index keys."""

    ward = models.CharField(max_length=20)
    name = models.CharField(max_length=100)
    phone = EncryptedTextField(key_context=["ward"], index=True)
    email = EncryptedTextField(key_context={"tenant": current_schema}, index="global", unique=True)
    badge = EncryptedTextField(key_context={"tenant": current_schema}, unique=True, null=True)
