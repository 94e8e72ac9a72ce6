"""The check of tables into which triggers copy rows, as django-pghistory creates them: do the copies open there?"""

from collections.abc import Iterator

from django.core.checks import CheckMessage, Warning as CheckWarning
from django.db.models import Model

from vault_fields.fields.groups import encrypted_fields

__all__ = ["check_history"]


def check_history(model: type[Model]) -> Iterator[CheckMessage]:
    tracked = getattr(model, "pgh_tracked_model", None)
    if tracked is None:
        return
    for field in encrypted_fields(model):
        label = f"{tracked._meta.label}.{field.name}"
        if label not in field.former_labels:
            yield CheckWarning(
                f"Triggers copy the values of {label}: they were encrypted under that label, and do not open here.",
                hint=f"Declare the field in {model.__name__} itself, with "
                f"former_labels={[*field.former_labels, label]!r}.",
                obj=field,
                id="vault_fields.W017",
            )
