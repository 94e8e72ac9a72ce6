"""An admin whose pages show encrypted values in every way there is; a URLconf for the tests of what does not open."""

from django.contrib import admin
from django.contrib.admin.sites import AdminSite
from django.urls import path

from tests.testapp.models import Certificate, Document, Letter, Organization, Patient
from vault_fields.admin import EncryptedFieldsMixin

site = AdminSite()


class PatientInline(admin.TabularInline):
    model = Patient
    fields = ["name", "ssn", "history"]
    extra = 0


class LetterInline(admin.StackedInline):
    model = Letter
    fields = ["title", "subject", "text"]
    extra = 0


class DocumentInline(admin.TabularInline):
    model = Document
    fields = readonly_fields = ["body", "beginning"]
    extra = 0

    def beginning(self, document):
        return document.body[:2]


@admin.register(Organization, site=site)
class OrganizationAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    search_fields = ["workos_id"]
    ordering = ["pk"]
    inlines = [PatientInline, LetterInline, DocumentInline]


def ssn_of(patient):
    """Reads the JSON beside it, too."""
    return (patient.history, patient.ssn)[1]


@admin.display(description="Has five", boolean=True)
def has_five(patient):
    return "5" in (ssn_of(patient) or "")


@admin.register(Patient, site=site)
class PatientAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    search_fields = ["name"]
    ordering = ["-pk"]
    list_display = ["__str__", "name", "ssn", "history", "masked", has_five, "organization"]
    list_display_links = ["masked"]
    list_filter = ["organization"]
    fields = [("organization", "name"), "ssn", "notes", "history", "masked"]
    readonly_fields = ["masked"]

    @admin.display(description="Last digits", ordering="name", empty_value="none")
    def masked(self, patient):
        return ssn_of(patient) and f"***{patient.ssn[-4:]}"


@admin.register(Document, site=site)
class DocumentAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    save_as = True
    fields = ["organization", "body"]


@admin.register(Letter, site=site)
class LetterAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    list_display = ["title", "subject", "text"]
    list_editable = ["subject"]


@admin.register(Certificate, site=site)
class CertificateAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    list_display = ["pk", "apikey_ptr__label", "apikey_ptr__secret"]


urlpatterns = [path("admin/", site.urls)]
