"""The models that are compared: a plain one, one of the same bytes in plain columns, and encrypted ones."""

from django.db import models

from vault_fields.fields import EncryptedTextField


class Plain(models.Model):
    tenant = models.CharField(max_length=50)
    ssn = models.TextField()


class SameBytes(models.Model):
    """What an encrypted row stores, in two columns that nothing is done with."""

    tenant = models.CharField(max_length=50)
    ssn = models.TextField()
    ssn_keys = models.TextField(null=True)


class OwnKey(models.Model):
    """Each row has a data key of its own."""

    tenant = models.CharField(max_length=50)
    ssn = EncryptedTextField(key_context=["tenant"], vault="own")


class SharedKeys(models.Model):
    """Rows that are written together share data keys."""

    tenant = models.CharField(max_length=50)
    ssn = EncryptedTextField(key_context=["tenant"])


class Embedded(models.Model):
    """The keys are those of an embedded Vault on the disk."""

    tenant = models.CharField(max_length=50)
    ssn = EncryptedTextField(key_context=["tenant"], vault="local")


class Migrating(models.Model):
    """A column that is being encrypted."""

    tenant = models.CharField(max_length=50)
    ssn = EncryptedTextField(key_context=["tenant"], migrating=True)


class Remote(models.Model):
    """The Vault is behind a network; which one, says the part."""

    tenant = models.CharField(max_length=50)
    ssn = EncryptedTextField(key_context=["tenant"], vault="remote")


class Ahead(models.Model):
    """As ``Remote``, with a vault that makes data keys ahead."""

    tenant = models.CharField(max_length=50)
    ssn = EncryptedTextField(key_context=["tenant"], vault="ahead")


class Sought(models.Model):
    """Values that are found: in a plain column, and by their hashes."""

    tenant = models.CharField(max_length=50)
    plain = models.CharField(max_length=50, db_index=True)
    ssn = EncryptedTextField(key_context=["tenant"], index=True)
    email = EncryptedTextField(key_context=["tenant"], index="global")


class Page(models.Model):
    """Two encrypted fields on a page of the admin."""

    tenant = models.CharField(max_length=50)
    ssn = EncryptedTextField(key_context=["tenant"], vault="remote")
    notes = EncryptedTextField(key_context=["tenant"], vault="remote")
