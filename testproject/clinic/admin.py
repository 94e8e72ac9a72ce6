"""Nothing here knows that a column is encrypted, but that its header must not offer to sort by it."""

from django.contrib import admin

from testproject.clinic.models import Document, Note, Organization, Patient, Referral
from vault_fields.admin import EncryptedFieldsMixin


@admin.register(Organization)
class OrganizationAdmin(admin.ModelAdmin):
    list_display = ["name", "workos_id"]
    search_fields = ["name", "workos_id"]


@admin.register(Patient)
class PatientAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    list_display = ["id", "name", "ssn", "born", "organization"]
    list_filter = ["organization"]
    list_select_related = ["organization"]


@admin.register(Note)
class NoteAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    list_display = ["id", "text", "written", "organization"]
    list_filter = ["organization"]
    list_select_related = ["organization"]


@admin.register(Document)
class DocumentAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    list_display = ["id", "kind", "title", "patient"]
    list_filter = ["kind"]
    raw_id_fields = ["patient"]


@admin.register(Referral)
class ReferralAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    list_display = ["id", "letter", "region", "organization"]
    list_filter = ["region", "organization"]
    list_select_related = ["organization"]
