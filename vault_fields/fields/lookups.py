"""The lookups of an encrypted column: whether it is NULL. Every other lookup raises an error that says so."""

from typing import Any, NoReturn

from django.core.exceptions import FieldError
from django.db.models.lookups import Exact

from vault_fields.fields.blindindex import indexes_of
from vault_fields.fields.interface import Encrypted
from vault_fields.runtime.frames import forgetful

__all__ = ["OnlyNone", "refuse"]


def refuse(field: Encrypted, what: str) -> NoReturn:
    served = [f"`{name}`" for index in indexes_of(field) for name in index.lookups]
    only = f"Its indexes serve {', '.join(served)}" if served else "Only `__isnull` and `=None` work"
    raise FieldError(
        f"{field.label} is encrypted and does not support {what}: its ciphertext is different each time, so the "
        f"database cannot compare, sort or compute with it. {only}; filter by other columns and compare in Python."
    )


class OnlyNone(Exact):
    """The lookup of ``filter(field=None)``, which Django turns into ``isnull``. Any other value is refused."""

    can_use_none_as_rhs = False

    @forgetful
    def get_prep_lookup(self) -> Any:
        if self.rhs is not None:
            refuse(self.lhs.output_field, "the lookup 'exact'")
        return None
