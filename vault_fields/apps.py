"""The Django application: it registers the checks, and lets migrations be guarded."""

from django.apps import AppConfig

__all__ = ["VaultFieldsConfig"]


class VaultFieldsConfig(AppConfig):
    name = "vault_fields"
    verbose_name = "Vault fields"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from vault_fields.checks import register_checks
        from vault_fields.schemachange.guard import install_guard

        register_checks()
        install_guard()
