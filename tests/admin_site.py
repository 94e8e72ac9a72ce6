"""An admin over the models of the suite, as a project would write it; a URLconf for the tests of the admin."""

from django.contrib import admin
from django.contrib.admin.sites import AdminSite
from django.urls import path

from tests.testapp.models import Club, Document, Letter, Member, Organization, Patient
from vault_fields.admin import EncryptedFieldsMixin, NullFieldListFilter

site = AdminSite()


class PatientInline(admin.TabularInline):
    model = Patient
    fields = ["name", "ssn", "history"]
    extra = 0


@admin.register(Organization, site=site)
class OrganizationAdmin(admin.ModelAdmin):
    list_display = ["workos_id"]
    inlines = [PatientInline]
    search_fields = ["workos_id"]


@admin.register(Patient, site=site)
class PatientAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    list_display = ["id", "name", "ssn", "notes", "history", "organization"]
    list_filter = ["organization", ("ssn", NullFieldListFilter)]
    list_select_related = ["organization"]
    search_fields = ["name"]


@admin.register(Document, site=site)
class DocumentAdmin(admin.ModelAdmin):
    """Shows no encrypted field in its list, and one in its form that cannot be edited."""

    list_display = ["id", "organization"]
    list_select_related = ["organization"]
    readonly_fields = ["body"]


@admin.register(Letter, site=site)
class LetterAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    list_display = ["id", "subject"]
    list_editable = ["subject"]


@admin.register(Member, site=site)
class MemberAdmin(EncryptedFieldsMixin, admin.ModelAdmin):
    """Searched by value, within a club that is chosen."""

    list_display = ["name", "ssn"]
    list_filter = ["club"]
    ordering = ["name"]
    search_fields = ["name", "=ssn", "=email"]


site.register(Club)

urlpatterns = [path("admin/", site.urls)]
