"""
Filters for error reports: Django's debug page and its mails to admins, and the events of Sentry.

The frames of this package are empty by the time of a report. Those of Django and of the project still hold what was
passed to them.
"""

from vault_fields.reporting.events import before_send
from vault_fields.reporting.hiding import HIDDEN
from vault_fields.reporting.page import Reporter, ReporterFilter

__all__ = ["HIDDEN", "Reporter", "ReporterFilter", "before_send"]
