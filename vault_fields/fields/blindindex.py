"""The declaration of the blind indexes of a field, and the columns that hold their hashes."""

from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from django.db.models import Model, UUIDField

from vault_fields.fields.loading import PutAsLoaded
from vault_fields.fields.serializing import is_serializing
from vault_fields.keys import DataKey, KeyContext
from vault_fields.normalize import TOTAL, casefold, nfkc_casefold
from vault_fields.stored.blindindex import ALL_BITS, blind_hash

__all__ = ["BlindIndex", "IndexField", "column_name", "declared_indexes", "exact_index", "index_label", "indexes_of"]
__all__ += ["came_apart", "named_index", "note_apart", "note_together"]

Normalize = Callable[[str], str | None]
Scope = Literal["context", "global"]

if TYPE_CHECKING:
    _UUIDField = UUIDField[UUID | None, UUID | None]
else:
    _UUIDField = UUIDField  # Generic in the stubs only.

# Of fewer bits, a large part of a table would fit every value.
MIN_BITS = 8

# The item that names the key-encrypting key of an index over all tenants.
GLOBAL_ITEM = "vault_fields_index"

# The hashes of a row that were not read together with their values.
_APART = "vault_fields_apart"


class BlindIndex:
    """
    The declaration of an index over an encrypted field: ``index=BlindIndex(normalize=casefold)``.

    ``name``        the name by which queries mean it: ``filter(ssn__last4="1120")`` of one named "last4". The index
                    without a name is the primary one, which serves ``exact`` and ``in`` of the field itself
    ``normalize``   a function importable by name, applied to values and to what is looked for; see
                    ``vault_fields.normalize``
    ``scope``       "context": each key context has an index key, and equal values of two tenants have different
                    hashes; "global": one key serves all rows, and whoever has the database sees which are equal
    ``label``       the text that separates this index from others, if the field was renamed since:
                    ``app.Model.field``, or ``app.Model.field.name`` of one that has a name
    ``bits``        the number of bits of each hash that are kept, from 8 to 122. Fewer tell less to whoever has the
                    database; other values fit too, so that rows that are found are opened and compared
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        normalize: Normalize | None = None,
        scope: Scope = "context",
        label: str | None = None,
        bits: int | None = None,
    ) -> None:
        if name is not None and not _is_name(name):
            raise ValueError(
                f"name is a Python identifier without two underscores in a row, or one at an end, not {name!r}."
            )
        if scope not in {"context", "global"}:
            raise ValueError(f'scope is "context" or "global", not {scope!r}.')
        if normalize is not None and not callable(normalize):
            raise TypeError(f"normalize is a function of a text, not {normalize!r}.")
        self.name = name
        self.normalize = normalize
        self.scope = scope
        self.label = label
        self.bits = ALL_BITS if bits is None else bits
        if type(self.bits) is not int or not MIN_BITS <= self.bits <= ALL_BITS:
            raise ValueError(f"bits is a number from {MIN_BITS} to {ALL_BITS}, not {bits!r}.")


def declared_indexes(option: object, taken: Container[str]) -> tuple[BlindIndex, ...]:
    """
    Return the declarations that ``index=…`` stands for: True, "global", a ``BlindIndex``, or a list of them.

    Raises ``TypeError`` for anything else, and ``ValueError`` for two of one name, or for a name that is ``taken`` by
    a lookup.
    """
    if option is None or option is False:
        return ()
    several = option if isinstance(option, list | tuple) else [option]
    indexes = tuple(_declared(each, option) for each in several)
    names = [each.name for each in indexes]
    if len(set(names)) < len(names):
        raise ValueError("index has two indexes of one name, or two without a name: queries could not mean either.")
    if lookup := next((name for name in names if name is not None and name in taken), None):
        raise ValueError(f"index has one named {lookup!r}, which is the name of a lookup: give it another name.")
    return indexes


def exact_index(member: Any) -> "IndexField | None":
    """Return the column of a field's primary index, which serves ``exact`` and ``in``; None if it has none."""
    return named_index(member, None)


def named_index(member: Any, name: str | None) -> "IndexField | None":
    """Return the column of the index of a field that has this name; None if there is none."""
    return next((index for index in indexes_of(member) if index.index_name == name), None)


def indexes_of(member: Any) -> "tuple[IndexField, ...]":
    """Return the columns with the hashes of a field's values, in the table of the field."""
    columns = member.model._meta.local_concrete_fields
    return tuple(each for each in columns if isinstance(each, IndexField) and each.of == member.name)


def column_name(field: str, index_name: str | None) -> str:
    """Return the name of the column that an index adds beside its field."""
    return f"{field}_index" if index_name is None else f"{field}_{index_name}_index"


def index_label(oldest: str, index_name: str | None) -> str:
    """Return the label of an index whose field was first called ``oldest``."""
    return oldest if index_name is None else f"{oldest}.{index_name}"


def _declared(option: object, options: object) -> BlindIndex:
    if isinstance(option, BlindIndex):
        return option
    if option is True:
        return BlindIndex()
    if option == "global":
        return BlindIndex(scope="global")
    raise TypeError(f'index is True, "global", a BlindIndex, or a list of them, not {options!r}.')


def _is_name(name: object) -> bool:
    # A column is named <field>_<name>_index, and queries separate names by two underscores.
    return isinstance(name, str) and name.isidentifier() and "__" not in f"_{name}_" and name != "index"


def came_apart(instance: Model, name: str) -> bool:
    """Whether a hash was assigned, made, or read at another time than its value."""
    return name in getattr(instance._state, _APART, ())


def note_apart(instance: Model, names: Iterable[str]) -> None:
    """Note that these hashes may be those of other values than the row has in memory."""
    setattr(instance._state, _APART, getattr(instance._state, _APART, frozenset()).union(names))


def note_together(instance: Model, names: Iterable[str]) -> None:
    """Note that these hashes were read together with their values."""
    setattr(instance._state, _APART, getattr(instance._state, _APART, frozenset()).difference(names))


class HashAttribute(PutAsLoaded):
    """The attribute of a hash. One that is assigned, also after the row was read, says nothing of its value."""

    field: "IndexField"

    def __set__(self, instance: Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = value
        if not instance._state.adding:
            note_apart(instance, [self.field.attname])

    def __delete__(self, instance: Model) -> None:
        """Defer the column: it is loaded again when it is read."""
        try:
            del instance.__dict__[self.field.attname]
        except KeyError:
            raise AttributeError(self.field.attname) from None


class IndexField(_UUIDField):
    """
    The column with the hashes of an encrypted field's values. The field adds it, named ``<field>_index``, or
    ``<field>_<name>_index`` of an index that has a name.

    ``of`` is the name of that field, where the column's name does not tell; and ``label`` the text that separates this
    index from others, where it is not the first label of the field. Migrations have neither otherwise, so that a
    column is renamed with its field, and keeps its hashes. Nothing needs to be, or should be, assigned to it.
    """

    description = "Keyed hash of an encrypted value"
    descriptor_class = HashAttribute

    def __init__(
        self,
        of: str | None = None,
        *,
        label: str | None = None,
        index_name: str | None = None,
        normalize: Normalize | None = None,
        scope: Scope = "context",
        bits: int = ALL_BITS,
        automatic: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs.update(null=True, blank=True, editable=False, db_index=True)
        super().__init__(**kwargs)
        self.of = of or ""
        self.declared_of = of
        self.declared_label = label
        self.index_name = index_name
        self.normalize = normalize
        self.scope = scope
        self.bits = bits
        # Not part of the declaration: an automatic column gives way to one that the model declares.
        self.automatic = automatic

    @classmethod
    def declared_by(cls, declared: BlindIndex) -> "IndexField":
        """Return the column that a declaration adds to the model of its field."""
        options: dict[str, Any] = {"normalize": declared.normalize, "scope": declared.scope, "bits": declared.bits}
        return cls(label=declared.label, index_name=declared.name, automatic=True, **options)

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
        if self.declared_of is not None:
            kwargs["of"] = self.declared_of
        if self.declared_label is not None:
            kwargs["label"] = self.declared_label
        if self.index_name is not None:
            kwargs["index_name"] = self.index_name
        if self.normalize is not None:
            kwargs["normalize"] = self.normalize
        if self.scope != "context":
            kwargs["scope"] = self.scope
        if self.is_truncated:
            kwargs["bits"] = self.bits
        return name, path, args, kwargs

    def contribute_to_class(self, cls: type[Model], name: str, private_only: bool = False) -> None:
        self.of = self.declared_of or name.removesuffix(column_name("", self.index_name))
        declared = next((field for field in cls._meta.local_fields if field.name == name), None)
        if isinstance(declared, IndexField):
            if (declared.of, declared.index_name) != (self.of, self.index_name):
                raise ValueError(
                    f"{cls._meta.label}.{name} would hold the hashes of {declared.of!r} and of {self.of!r}: give the "
                    "index another name."
                )
            if self.automatic:
                return
            cls._meta.local_fields.remove(declared)
            cls._meta._expire_cache()  # type: ignore[attr-defined]
        elif self.automatic and not self._is_declared(cls):
            return  # A copy from an abstract class, whose field this class declares otherwise, or not at all.
        super().contribute_to_class(cls, name, private_only=private_only)

    def _is_declared(self, cls: type[Model]) -> bool:
        field: Any = next((field for field in cls._meta.local_fields if field.name == self.of), None)
        return any(each.name == self.index_name for each in getattr(field, "indexes", ()))

    @property
    def index_label(self) -> str:
        """The text that separates this index from others: a rename of the field leaves it as it is."""
        return self.declared_label or index_label(
            next(iter(self.encrypted.former_labels), f"{self.model._meta.label}.{self.of}"), self.index_name
        )

    @property
    def encrypted(self) -> Any:
        """The field whose values it finds."""
        return self.model._meta.get_field(self.of)

    @property
    def lookups(self) -> tuple[str, ...]:
        """The lookups that it serves, as they follow the name of the field in a query."""
        if self.index_name is not None:
            return self.index_name, f"{self.index_name}__in"
        return ("exact", "in", "iexact") if self.ignores_case else ("exact", "in")

    @property
    def is_truncated(self) -> bool:
        """Whether the hash of one value fits others too."""
        return self.bits < ALL_BITS

    @property
    def ignores_case(self) -> bool:
        """Whether texts that differ in nothing but case have one hash."""
        return self.normalize in {casefold, nfkc_casefold}

    @property
    def leaves_out(self) -> bool:
        """Whether there may be values that have no hash."""
        return self.normalize is not None and self.normalize not in TOTAL

    def key_context(self, context: KeyContext | None) -> KeyContext:
        """Return the context of the index key for values of a row's ``context``, which a global index needs not."""
        if self.scope == "global" or context is None:
            return KeyContext({GLOBAL_ITEM: self.index_label})
        return context

    def normal(self, text: str) -> str | None:
        """Return what is hashed of a value's canonical text; None where the normalization leaves it out."""
        return text if self.normalize is None else self.normalize(text)

    def hash_of(self, key: DataKey, normal: str) -> UUID:
        """Return the hash of a normalized text."""
        return blind_hash(key, self.index_label, normal, self.bits)
