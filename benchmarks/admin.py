"""The page of the admin that is measured."""

from django.contrib import admin

from benchmarks.models import Page
from vault_fields.admin import EncryptedFieldsMixin


@admin.register(Page)
class PageAdmin(EncryptedFieldsMixin, admin.ModelAdmin):  # type: ignore[type-arg]  # Not generic when it runs.
    list_display = ["id", "ssn", "notes"]
    list_per_page = 100
