"""Ways in which the declaration of an encrypted field can change so that its values do not open by themselves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vault_fields.fields.base import EncryptedField
from vault_fields.fields.json import EncryptedJSONField
from vault_fields.fields.types.numbers import WholeNumber
from vault_fields.schemachange.losses import companion_name
from vault_fields.schemachange.names import Place

__all__ = ["BOUND", "CONTEXT", "JSON", "KEYS", "RENAMED", "SPELLING", "Kind", "changes", "remedy"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in which a declaration can change, and the step that keeps the values readable."""

    id: str
    what: str
    remedy: str


KEYS = Kind(
    "vault_fields.E029",
    "keeps its keys in another companion",
    'MoveToCompanion("{model}", ["{field}"], "{keys}") before it',
)
RENAMED = Kind(
    "vault_fields.E029",
    "is renamed, and its companion is not",
    'migrations.RenameField("{model}", "{former}", "{keys}") beside it, in place of a new companion',
)
BOUND = Kind(
    "vault_fields.E030",
    "is tied to other columns by bind_to",
    'DecryptField("{model}", "{field}") before it, with migrating=True in it, and EncryptField("{model}", "{field}") '
    "after it",
)
CONTEXT = Kind(
    "vault_fields.E031",
    "has a key context that shares no item, or has one from another column, with the one before",
    "the item's former name in the mapping key_context={{former: renamed}}, if a column was only renamed; otherwise "
    'an AlterField that has the items of both before it, and RekeyField("{model}", "{field}") between the two',
)
SPELLING = Kind(
    "vault_fields.W020",
    "has a context or bind_to from a column of another type, or a shorter one",
    'DecryptField("{model}", "{field}") before it, with migrating=True in an AlterField of the field, and '
    'EncryptField("{model}", "{field}") after it, if rows hold values with another text than the column has then',
)
JSON = Kind(
    "vault_fields.W015",
    "holds JSON where it held text, or text where it held JSON",
    '{conversion}("{model}", "{field}") beside it',
)
TYPE = Kind(
    "vault_fields.W032",
    "has values of another type, which have other texts",
    'DecryptField("{model}", "{field}") before it, with migrating=True in an AlterField of the field, and '
    'EncryptField("{model}", "{field}") after it',
)


def changes(name: str, before: Any, after: Any, renames: Mapping[str, str]) -> Iterator[Kind]:
    """Yield the ways in which a declaration has changed so that values do not open by themselves."""
    if not isinstance(before, EncryptedField) or not isinstance(after, EncryptedField):
        return
    if companion_name(name, before) != companion_name(name, after):
        yield KEYS
    if not _is_tied_alike(before.bind_to, after.bind_to, renames):
        yield BOUND
    if (texts := {_texts_of(before), _texts_of(after)}) == {"JSON", "TextField"}:
        yield JSON
    elif len(texts) == 2:
        yield TYPE
    if not _is_compared(before.source.roots, after.source.roots, renames):
        yield CONTEXT


def _texts_of(field: EncryptedField) -> str:
    """Return a name for the texts that values of a field have: one for fields that open those of each other."""
    if isinstance(field, EncryptedJSONField):
        return "JSON"
    return "whole number" if isinstance(field, WholeNumber) else field.get_internal_type()


def _is_compared(former: Mapping[str, str], present: Mapping[str, str], renames: Mapping[str, str]) -> bool:
    """Whether the contexts share items that identify a row, taken from the same columns."""
    if not former and not present:
        return True
    common = former.keys() & present.keys()
    return bool(common) and all(_column(present[name]) in _names(former[name], renames) for name in common)


def _is_tied_alike(former: Sequence[str], present: Sequence[str], renames: Mapping[str, str]) -> bool:
    """Whether values are bound to the same columns, whatever these are called."""
    return len(former) == len(present) and all(
        _column(later) in _names(name, renames) for name, later in zip(former, present, strict=True)
    )


def _column(root: str) -> str:
    # A relation and its column count as one.
    return root.removesuffix("_id")


def _names(root: str, renames: Mapping[str, str]) -> list[str]:
    """Return the name of a column and each later name."""
    columns = {_column(old): _column(new) for old, new in renames.items()}
    names = [_column(root)]
    while (later := columns.get(names[-1])) is not None and later not in names:
        names.append(later)
    return names


def remedy(kind: Kind, place: Place, after: EncryptedField, former: str = "") -> str:
    conversion = "TextToJSON" if isinstance(after, EncryptedJSONField) else "JSONToText"
    keys = companion_name(place[2], after)
    return kind.remedy.format(model=place[1], field=place[2], keys=keys, former=former, conversion=conversion)
