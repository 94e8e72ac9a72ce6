"""The check of ``__str__``: what a row is called ends up in logs and in the admin's history, in the clear."""

import inspect
from collections.abc import Iterator

from django.core.checks import CheckMessage, Warning as CheckWarning
from django.db.models import Model

from vault_fields.fields.base import EncryptedField

__all__ = ["check_text"]


def check_text(model: type[Model]) -> Iterator[CheckMessage]:
    if any(parent.__str__ is model.__str__ for parent in model._meta.all_parents):
        return  # The parent is told.
    code = getattr(inspect.unwrap(model.__str__), "__code__", None)
    # The names of all attributes that the function reads, whose ever they are: a guess, and so a warning.
    read = code.co_names if code is not None else ()
    for field in model._meta.fields:
        if isinstance(field, EncryptedField) and field.name in read:
            yield CheckWarning(
                f"__str__ seems to show the encrypted field {field.name!r}. The admin stores what it returns in its "
                "log table, and exceptions and log messages repeat it: there it stands in the clear.",
                hint="Name the row by what is not secret, as in return f'{self._meta.verbose_name} {self.pk}'.",
                obj=model,
                id="vault_fields.W004",
            )
