"""The Django application: it registers, and patches nothing."""

from django.apps import AppConfig

__all__ = ["VaultFieldsConfig"]


class VaultFieldsConfig(AppConfig):
    name = "vault_fields"
    verbose_name = "Vault fields"

    def ready(self) -> None:
        from vault_fields.checks import register_checks

        register_checks()
