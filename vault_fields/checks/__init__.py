"""System checks: mistakes in declarations, settings, migrations and the admin, each with the line to type instead."""

from django.core.checks import Tags, register

from vault_fields.checks.admin import check_admin
from vault_fields.checks.changes import check_changes
from vault_fields.checks.decryption import check_losses
from vault_fields.checks.deployment import check_deployment
from vault_fields.checks.indexes import check_hashes, check_indexes
from vault_fields.checks.migrations import check_former_labels
from vault_fields.checks.models import check_models
from vault_fields.checks.packages import check_packages
from vault_fields.checks.patches import check_installed
from vault_fields.checks.vaults import check_vaults

__all__ = ["register_checks"]

# ``manage.py check --tag vault_fields`` runs these and no others.
TAG = "vault_fields"


def register_checks() -> None:
    register(check_installed, TAG, Tags.compatibility)
    register(check_models, TAG, Tags.models)
    register(check_former_labels, TAG, Tags.models)
    register(check_indexes, TAG, Tags.models)
    register(check_hashes, Tags.database)
    register(check_losses, TAG, Tags.models)
    register(check_changes, TAG, Tags.models)
    register(check_vaults, TAG, Tags.models)
    register(check_admin, TAG, Tags.admin)
    register(check_packages, TAG, Tags.models)
    register(check_deployment, TAG, Tags.security, deploy=True)
