"""
A service that many organizations share, each with patients whose records must not be readable without its keys.

The models show the ways to name a key context: the row's own column, a relation path, and two items at once.
"""

from django.db import models

from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField


class Organization(models.Model):
    """A tenant. ``workos_id`` is what the Vault knows it by."""

    workos_id = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=200)

    class Meta:
        ordering = ["workos_id"]

    def __str__(self) -> str:
        return self.name


class Patient(models.Model):
    """Three values under one data key: they have the same context and share one companion column."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="patients")
    born = models.DateField()
    name = EncryptedTextField(key_context=["organization_id"], keys_field="vault_keys")
    ssn = EncryptedTextField(key_context=["organization_id"], keys_field="vault_keys", null=True, blank=True)
    history = EncryptedJSONField(key_context=["organization_id"], keys_field="vault_keys", default=dict, blank=True)
    vault_keys = CompanionField()

    def __str__(self) -> str:
        return f"Patient {self.pk}"


class Note(models.Model):
    """The context is on the other side of a relation."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="notes")
    written = models.DateField()
    text = EncryptedTextField(key_context={"organization_id": "organization__workos_id"}, blank=True)

    def __str__(self) -> str:
        return f"Note {self.pk}"


class Document(models.Model):
    """The tenant is the patient's: documents have no organization of their own."""

    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="documents")
    kind = models.CharField(max_length=40)
    title = EncryptedTextField(key_context={"organization_id": "patient__organization_id"})
    content = EncryptedJSONField(key_context={"organization_id": "patient__organization_id"}, null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class Referral(models.Model):
    """Two items: opening a letter takes a key of the organization or one of the region."""

    class Region(models.TextChoices):
        EUROPE = "eu", "Europe"
        AMERICA = "us", "America"
        ASIA = "as", "Asia"

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="referrals")
    region = models.CharField(max_length=2, choices=Region)
    letter = EncryptedTextField(
        key_context={"organization_id": "organization__workos_id", "region": "region"}, null=True, blank=True
    )

    def __str__(self) -> str:
        return f"Referral {self.pk}"
