"""A value together with the key context in which a lookup searches for it."""

from types import MappingProxyType
from typing import Any, NoReturn

from django.db.models import Q

from vault_fields.keys import KeyContext
from vault_fields.runtime.frames import forgetful

__all__ = ["ForContext", "InContext"]


class ForContext:
    """
    A value to look up in one key context, for queries that cannot tell whose rows they are about.

    ``attributes`` are the row's own, those that its key context starts from, or the ends of relation paths:
    ``filter(ssn=ForContext("078-05-1120", organization_id=1))``. Rows of other contexts do not match, whatever value
    they have. ``repr`` hides value and attributes; pickling raises ``TypeError``.
    """

    __slots__ = ("attributes", "value")

    @forgetful
    def __init__(self, value: object, /, **attributes: object) -> None:
        if value is None or isinstance(value, ForContext):
            raise TypeError(f"ForContext() takes a value to look for, not {type(value).__name__}.")
        self.value: Any = value
        self.attributes = MappingProxyType(attributes)

    def __repr__(self) -> str:
        return f"ForContext(<value>, {', '.join(f'{name}=…' for name in self.attributes)})"

    def __copy__(self) -> "ForContext":
        return self

    def __deepcopy__(self, memo: object) -> "ForContext":
        return self

    @forgetful
    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("A value that is looked for cannot be pickled: it would be kept in the clear.")


class InContext(ForContext):
    """
    A value to look up in the key context of a row that is known, as that of a row that is validated; None serves a
    global index. ``rows`` are those that may have the same context.
    """

    __slots__ = ("context", "rows")

    def __init__(self, value: object, context: KeyContext | None, rows: Q) -> None:
        super().__init__(value)
        self.context = context
        self.rows = rows
