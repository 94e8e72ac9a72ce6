"""The lookups of an encrypted column: whether it is NULL. Every other lookup raises an error that says so."""

from typing import Any, NoReturn

from django.core.exceptions import FieldError
from django.db.models.lookups import Exact

from vault_fields.fields.interface import Encrypted
from vault_fields.runtime.frames import forgetful

__all__ = ["OnlyNone", "refuse"]

_ADVICE = (
    "its ciphertext is different each time, so the database cannot compare, sort or compute with it. Only `__isnull` "
    "and `=None` work; filter by other columns and compare in Python"
)


def refuse(field: Encrypted, what: str) -> NoReturn:
    raise FieldError(f"{field.label} is encrypted and does not support {what}: {_ADVICE}.")


class OnlyNone(Exact):
    """The lookup of ``filter(field=None)``, which Django turns into ``isnull``. Any other value is refused."""

    can_use_none_as_rhs = False

    @forgetful
    def get_prep_lookup(self) -> Any:
        if self.rhs is not None:
            refuse(self.lhs.output_field, "the lookup 'exact'")
        return None
