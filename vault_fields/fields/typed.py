"""
Django's field classes as type checkers see them: generic in what may be assigned and in what is read.

At run time they are not generic, and the parts in brackets are left out.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from django.db.models import Field, JSONField, TextField

__all__ = ["GenericField", "GenericJSONField", "GenericTextField", "GetT_co", "JSONInput", "JSONValue", "SetT_contra"]

# The type read from an encrypted JSON field, and the one that may be assigned: tuples and other mappings are JSON too.
JSONValue: TypeAlias = dict[str, "JSONValue"] | list["JSONValue"] | str | int | float | bool | None
JSONInput: TypeAlias = Mapping[str, "JSONInput"] | Sequence["JSONInput"] | str | int | float | bool | None

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    SetT_contra = TypeVar("SetT_contra", contravariant=True, default=Any)
    GetT_co = TypeVar("GetT_co", covariant=True, default=Any)
    GenericField = Field
    GenericTextField = TextField
    GenericJSONField = JSONField
else:
    SetT_contra = GetT_co = Any
    GenericField = {(Any, Any): Field}
    GenericTextField = {(Any, Any): TextField}
    GenericJSONField = {(Any, Any): JSONField}
