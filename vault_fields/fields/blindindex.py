"""The declaration of a blind index, and the column that holds its hashes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from django.db.models import Model, UUIDField

from vault_fields.fields.serializing import is_serializing
from vault_fields.keys import DataKey, KeyContext
from vault_fields.stored.blindindex import blind_hash

__all__ = ["BlindIndex", "IndexField", "declared_index"]

Normalize = Callable[[str], str | None]
Scope = Literal["context", "global"]

if TYPE_CHECKING:
    _UUIDField = UUIDField[UUID | None, UUID | None]
else:
    _UUIDField = UUIDField  # Generic in the stubs only.

# The item that names the key-encrypting key of an index over all tenants.
GLOBAL_ITEM = "vault_fields_index"


class BlindIndex:
    """
    The declaration of an index over an encrypted field: ``index=BlindIndex(normalize=casefold)``.

    ``normalize``   a function importable by name, applied to values and to what is looked for; see
                    ``vault_fields.normalize``
    ``scope``       "context": each key context has an index key, and equal values of two tenants have different
                    hashes; "global": one key serves all rows, and whoever has the database sees which are equal
    ``label``       the text that separates this index from others, if the field was renamed since: ``app.Model.field``
    """

    def __init__(
        self, *, normalize: Normalize | None = None, scope: Scope = "context", label: str | None = None
    ) -> None:
        if scope not in {"context", "global"}:
            raise ValueError(f'scope is "context" or "global", not {scope!r}.')
        if normalize is not None and not callable(normalize):
            raise TypeError(f"normalize is a function of a text, not {normalize!r}.")
        self.normalize = normalize
        self.scope = scope
        self.label = label


def declared_index(option: object) -> BlindIndex | None:
    """Return the declaration that ``index=…`` stands for: True, "global" or a ``BlindIndex``."""
    if option is None or option is False:
        return None
    if isinstance(option, BlindIndex):
        return option
    if option is True:
        return BlindIndex()
    if option == "global":
        return BlindIndex(scope="global")
    raise TypeError(f'index is True, "global" or a BlindIndex, not {option!r}.')


class IndexField(_UUIDField):
    """
    The column with the hashes of an encrypted field's values. The field adds it, named ``<name>_index``.

    ``of`` is the name of that field. Nothing needs to be, or should be, assigned to it.
    """

    description = "Keyed hash of an encrypted value"

    def __init__(
        self,
        of: str,
        *,
        label: str,
        normalize: Normalize | None = None,
        scope: Scope = "context",
        automatic: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs.update(null=True, blank=True, editable=False, db_index=True)
        super().__init__(**kwargs)
        self.of = of
        self.index_label = label
        self.normalize = normalize
        self.scope = scope
        # Not part of the declaration: an automatic column gives way to one that the model declares.
        self.automatic = automatic

    @property
    def serialize(self) -> bool:
        """Whether serializers take it: those of Django do, for fixtures, and those of APIs do not."""
        return is_serializing()

    @serialize.setter
    def serialize(self, value: bool) -> None:
        """Ignore a declared value: it depends on the serializer that asks."""

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        path = path.replace("vault_fields.fields.blindindex.", "vault_fields.fields.")
        for option in ("null", "blank", "editable", "serialize", "db_index"):
            kwargs.pop(option, None)
        kwargs.update(of=self.of, label=self.index_label)
        if self.normalize is not None:
            kwargs["normalize"] = self.normalize
        if self.scope != "context":
            kwargs["scope"] = self.scope
        return name, path, args, kwargs

    def contribute_to_class(self, cls: type[Model], name: str, private_only: bool = False) -> None:
        declared = next((field for field in cls._meta.local_fields if field.name == name), None)
        if isinstance(declared, IndexField):
            if self.automatic:
                return
            cls._meta.local_fields.remove(declared)
            cls._meta._expire_cache()  # type: ignore[attr-defined]
        super().contribute_to_class(cls, name, private_only=private_only)

    def key_context(self, context: KeyContext | None) -> KeyContext:
        """Return the context of the index key for values of a row's ``context``, which a global index needs not."""
        if self.scope == "global" or context is None:
            return KeyContext({GLOBAL_ITEM: self.index_label})
        return context

    def hash_of(self, key: DataKey, text: str) -> UUID | None:
        """Return the hash of a value's canonical text; None where the normalization leaves it out."""
        normal = text if self.normalize is None else self.normalize(text)
        return None if normal is None else blind_hash(key, self.index_label, normal)
