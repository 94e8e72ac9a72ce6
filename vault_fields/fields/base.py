"""The base of every encrypted field: its options, its column and its place in a model class."""

import functools
import re
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.exceptions import FieldError, ValidationError
from django.db.models import Case, CharField, Field, JSONField, Model, TextField, Value
from django.db.models.functions import Cast
from django.db.models.lookups import IsNull
from django.db.models.signals import class_prepared
from django.utils.translation import gettext_lazy

from vault_fields.exceptions import ValueRefused
from vault_fields.fields.blindindex import BlindIndex, IndexField, column_name, declared_indexes, index_label
from vault_fields.fields.columns import EncryptedCol
from vault_fields.fields.companion import CompanionField
from vault_fields.fields.context import ContextSource, KeyContextDeclaration
from vault_fields.fields.damaged import require_text
from vault_fields.fields.descriptor import EncryptedAttribute
from vault_fields.fields.encoding import EncodableValidator, encode
from vault_fields.fields.generatedpk import PLACEHOLDER, has_chosen, is_inserted, placeholder
from vault_fields.fields.groups import group_of
from vault_fields.fields.hooks import install_hooks
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.loading import install_loading
from vault_fields.fields.lookups import OnlyNone, refuse
from vault_fields.fields.migrationhooks import guard_migrations
from vault_fields.fields.reading import Loader
from vault_fields.fields.saving import load_sealed, seal_chosen
from vault_fields.fields.sealed import Pending, Sealed
from vault_fields.fields.searching import is_named_index, search_lookup, search_transform
from vault_fields.fields.serializing import is_serialized, is_serializing
from vault_fields.fields.state import GroupState
from vault_fields.fields.typed import GetT_co, SetT_contra
from vault_fields.fields.unique import add_unique, with_whole_index
from vault_fields.fields.unspoken import without_value
from vault_fields.fields.writtenback import portable
from vault_fields.patches import HISTORICAL_MODULE
from vault_fields.runtime.frames import forgetful
from vault_fields.stored import envelope as envelope_format

__all__ = ["EncryptedField"]

IndexOption = bool | Literal["global"] | BlindIndex

# The names of the fields of a row for which a subclass is choosing the value to write.
_CHOOSING = "vault_fields_choosing"

# The column of every encrypted field, whatever type its value has.
_COLUMN: Any = TextField()


class _Absent:
    """A method of a field that its encrypted column does not have; Django asks for it with ``hasattr``."""

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError


class EncryptedField(Encrypted[SetT_contra, GetT_co]):
    """
    Mix in before a Django field to encrypt what it stores.

    ``key_context``     where the row's key context comes from: attribute names; a mapping of names to attribute paths
                        (``organization__workos_id``) or ``Value("constant")``; or a function, see ``context_from``
    ``keys_field``      the companion's name; ``<name>_keys`` if not given
    ``migrating``       True: values that are not encrypted yet are read as they are, and every write encrypts;
                        "read": they are read and written as they are, and what is encrypted stays so
    ``former_labels``   ``app.Model.field`` labels under which values were encrypted before a rename
    ``bind_to``         columns whose value a value is tied to
    ``vault``           the alias in ``settings.VAULTS`` that new data keys come from
    ``index``           True, "global" or a ``BlindIndex``: values are found by ``exact`` and ``in``; or a list of these
    ``unique``          True: a value occurs once in each key context, or once if the index is global

    A class of your own defines ``to_plaintext`` and ``from_plaintext``, and may set ``padded_to`` and ``is_indexable``;
    see ``docs/types.md``. The column holds text (see ``vault_fields.stored.envelope``). It cannot be searched or
    sorted.
    """

    # Fields of text have Django's type for it. Others have one of their own: the type of their Django field would
    # be taken for that of the column, and that of text for the type of the value.
    _internal_type: str | None = None

    descriptor_class = EncryptedAttribute

    def __init__(
        self,
        *args: Any,
        key_context: KeyContextDeclaration,
        keys_field: str | None = None,
        migrating: bool | Literal["read"] = False,
        former_labels: Sequence[str] = (),
        bind_to: Sequence[str] = (),
        vault: str = "default",
        index: IndexOption | Sequence[IndexOption] = False,
        unique: bool = False,
        **kwargs: Any,
    ) -> None:
        if missing := [name for name in ("to_plaintext", "from_plaintext") if _is_abstract(getattr(self, name))]:
            raise TypeError(
                f"{type(self).__name__} lacks {' and '.join(f'{name}()' for name in missing)} and encrypts nothing. "
                "Use EncryptedTextField or EncryptedJSONField, or define both before a Django field."
            )
        self.key_context = key_context
        self.source = ContextSource(key_context)
        self.keys_field = keys_field
        if not isinstance(migrating, bool) and migrating != "read":
            raise TypeError(f'migrating is False, "read" or True, not {migrating!r}.')
        self.migrating = migrating
        self.former_labels = _names("former_labels", former_labels)
        self.bind_to = _names("bind_to", bind_to)
        for label in self.former_labels:
            if len(parts := label.split(".")) != 3 or not all(parts):
                raise ValueError(f"former_labels has {label!r}; a label is 'app_label.Model.field'.")
        self.vault = vault
        self.is_unique = unique
        self.indexes = declared_indexes(index, type(self).get_class_lookups())
        if unique:
            self.indexes = with_whole_index(self.indexes)
        if self.indexes and not self.is_indexable:
            raise TypeError(
                f"{type(self).__name__} has no index: {self.not_indexable}. Keep what is searched for in "
                "an encrypted text field of its own."
            )
        super().__init__(*args, **kwargs)
        guard_migrations()

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        # The public path, which users' migrations keep for ever, wherever the class moves to.
        path = re.sub(r"^vault_fields\.fields\.([a-z]+\.)+", "vault_fields.fields.", path)
        kwargs["key_context"] = self.key_context
        options = {
            "keys_field": self.keys_field,
            "migrating": self.migrating,
            "former_labels": self.former_labels,
            "bind_to": self.bind_to,
            "vault": None if self.vault == "default" else self.vault,
        }
        kwargs.update({option: value for option, value in options.items() if value})
        return name, path, args, kwargs

    def contribute_to_class(self, cls: type[Model], name: str, private_only: bool = False) -> None:
        # A field that is copied into a table of history holds each value as often as it was saved.
        is_copy = not issubclass(cls, getattr(self, "model", cls))
        super().contribute_to_class(cls, name, private_only=private_only)
        # In a historical model the companion is in the state by itself, or does not exist yet: added here, it would
        # become a column that no migration made.
        if cls.__module__ != HISTORICAL_MODULE and self.keys_field is None:
            CompanionField(automatic=True).contribute_to_class(cls, self.companion_name)
        if cls.__module__ != HISTORICAL_MODULE:
            self._add_indexes(cls)
            if self.is_unique and not is_copy and not cls._meta.abstract:
                class_prepared.connect(self._add_unique, sender=cls)
        install_hooks(cls)
        install_loading(cls)

    def _add_indexes(self, cls: type[Model]) -> None:
        # The oldest label is the one under which the hashes were made: a rename leaves them as they are.
        oldest = next(iter(self.former_labels), f"{cls._meta.label}.{self.name}")
        labels: set[str] = set()
        for declared in self.indexes:
            label = declared.label or index_label(oldest, declared.name)
            if label in labels:
                raise ValueError(
                    f"{cls._meta.label}.{self.name} has two indexes with the label {label!r}: whoever sees the table "
                    "could compare the hashes of one with those of the other."
                )
            labels.add(label)
            IndexField.declared_by(declared).contribute_to_class(cls, column_name(self.name, declared.name))

    def _add_unique(self, sender: type[Model], **kwargs: Any) -> None:
        add_unique(sender, self)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        # The package's own checks are not registered where its application is not installed.
        if not self.indexes or apps.is_installed("vault_fields"):
            return super().check(**kwargs)
        return [
            *super().check(**kwargs),
            Error(
                "It has an index, and the application that has the table of index keys is not installed.",
                hint="Write 'vault_fields' into INSTALLED_APPS, and type `python manage.py migrate`.",
                obj=self,
                id="vault_fields.E035",
            ),
        ]

    def has_default(self) -> bool:
        # Only the schema editor asks a historical model: for a value to put into existing rows, where it would be
        # unencrypted. Instances get their default all the same.
        return super().has_default() and not self._is_historical

    if TYPE_CHECKING:
        # A property is no attribute to type checkers, which would complain of each class of a project.
        empty_strings_allowed: bool
    else:

        @property
        def empty_strings_allowed(self) -> bool:
            # Likewise: without a default, the schema editor puts an empty string into rows that have no value.
            return super().empty_strings_allowed and not self._is_historical

    def get_default(self) -> Any:
        if self._is_historical:
            if super().has_default():
                return self.default() if callable(self.default) else self.default
            return "" if super().empty_strings_allowed and not self.null else None
        return super().get_default()

    @property
    def _is_historical(self) -> bool:
        return getattr(getattr(self, "model", None), "__module__", None) == HISTORICAL_MODULE

    # The column.

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "pre_save" in vars(cls):
            cls.pre_save = _sealed_after(vars(cls)["pre_save"])  # type: ignore[method-assign]
        if cls._internal_type is None and any(_is_plain(each) for each in cls.__mro__):
            is_text = issubclass(cls, (CharField, TextField, JSONField))
            cls._internal_type = "TextField" if is_text else f"Encrypted{cls.__name__.removeprefix('Encrypted')}"

    def get_internal_type(self) -> str:
        return self._internal_type or super().get_internal_type()

    def db_type(self, connection: Any) -> Any:
        return _COLUMN.db_type(connection)

    def rel_db_type(self, connection: Any) -> Any:
        return _COLUMN.db_type(connection)

    def cast_db_type(self, connection: Any) -> Any:
        return _COLUMN.cast_db_type(connection)

    def db_type_suffix(self, connection: Any) -> Any:
        return _COLUMN.db_type_suffix(connection)

    def db_check(self, connection: Any) -> None:
        """Return None: constraints of a type say nothing about ciphertext."""

    get_placeholder = _Absent()  # Of Django before 6.1.
    get_placeholder_sql = _Absent()

    # Reading.

    def get_col(self, alias: str, output_field: Any = None) -> EncryptedCol:
        return EncryptedCol(alias, self, output_field)

    def get_db_converters(self, connection: Any) -> list[Any]:
        return [Loader(self)]

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name == "isnull":
            return IsNull
        if search := search_lookup(self, lookup_name):
            return search
        if is_named_index(self, lookup_name):
            return None  # It is a transform.
        if lookup_name == "exact":
            return OnlyNone
        return refuse(self, f"the lookup {lookup_name!r}")

    def get_transform(self, lookup_name: str) -> Any:
        # Refused in use: Django's own check of ``Meta.ordering`` asks whether there is one, before E012 can report it.
        return search_transform(self, lookup_name) or partial(self._refuse_transform, lookup_name)

    def _refuse_transform(self, lookup_name: str, lhs: Any) -> NoReturn:
        refuse(self, f"the transform {lookup_name!r}")

    # Writing.

    def canonical_text(self, value: Any) -> str:
        """
        Return the text of a value that may be assigned: the one that is encrypted, and hashed for a blind index.

        Equal values have one. Raises ``Unencodable``, which holds nothing of the value. Calls no Vault.
        """
        return encode(self, value)

    def chooses(self, add: bool) -> bool:
        """Whether ``pre_save`` of a subclass may choose another value than the row has."""
        return True

    @forgetful
    def pre_save(self, model_instance: Model, add: bool) -> Any:
        """
        Return the sealed value, which nobody else can use. A subclass that calls this gets the plain value.

        The value that a subclass returns is assigned to the row, as if it had been there before, and sealed.
        """
        if self.name in vars(model_instance._state).get(_CHOOSING, ()):
            return getattr(model_instance, self.attname)
        if is_inserted(model_instance):
            return placeholder(model_instance, [self])
        group = group_of(self)
        if not GroupState(model_instance, group).is_sealed:
            # The hooks have sealed whole rows by now. This serves values that were chosen since, and inserts that
            # bypass the hooks.
            seal_chosen(model_instance, group)
        return model_instance.__dict__[self.attname]

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        try:
            return self.get_db_prep_save(value, connection)
        except BaseException:
            del value
            raise

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        # On whatever path a value gets here, it is sealed or it is not written.
        if value is None:
            return None
        if isinstance(value, Sealed):
            require_text(value.text, self.label)
            if value is PLACEHOLDER or self.writes_plaintext or envelope_format.is_envelope(value.text):
                return value.text
        if _is_sealed_case(value):
            return value
        del value
        raise FieldError(
            f"{self.label} is encrypted for the key context of each row, which expressions and "
            "column defaults do not know: nothing was written. Assign the value to instances and call save() or "
            "bulk_update(); add a column to a table that has rows with null=True."
        )

    # Values given to others.

    @forgetful
    def value_from_object(self, obj: Model) -> Any:
        # Django's serializers write numbers and booleans as they are, without asking ``value_to_string``. A fixture
        # must not hold them in the clear, nor need the Vault. Forms and ``model_to_dict`` get the value.
        return self.value_to_string(obj) if is_serializing() else super().value_from_object(obj)

    @forgetful
    def value_to_string(self, obj: Model) -> Any:
        """
        Return the stored text, which opens wherever it is assigned.

        Where the companion does not go along as a field of its own, as it does in fixtures, the text contains it.
        """
        text = self.serialized_text(obj)
        if text is None or is_serialized(self.companion_name):
            return text
        held = obj.__dict__[self.attname]
        if isinstance(held, Sealed) and held.keys is not None:
            return portable(text, require_text(held.keys, self.label))
        companion: Any = self.model._meta.get_field(self.companion_name)
        return portable(text, companion.value_to_string(obj))

    def serialized_text(self, obj: Model) -> Any:
        """Return the text in the column. Raises ``ValueRefused`` for a value that is not encrypted yet."""
        load_sealed([obj], {self.attname}, for_write=False)
        GroupState(obj, group_of(self)).settle_unchanged()
        held = obj.__dict__[self.attname]
        if isinstance(held, Pending) or (isinstance(held, Sealed) and held.is_changed):
            raise ValueRefused(f"{self.label}: save the row before serializing it, which would write it in the clear.")
        return require_text(held.text, self.label) if isinstance(held, Sealed) else held

    # Values taken from others.

    # Django's own message repeats the value. Its form fields use this one instead.
    default_error_messages = {
        "invalid_choice": gettext_lazy("Select a valid choice. That choice is not one of the available choices.")
    }

    @forgetful
    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and envelope_format.is_envelope(self.stored_text(value)):
            return value  # As a fixture has it: it is recognised where it is assigned.
        try:
            return super().to_python(value)
        except ValidationError as error:
            refused = without_value(error, value)
        # Raised outside of the handler: Django's error has the value among its parameters.
        raise refused

    @forgetful
    def validate(self, value: Any, model_instance: Model | None) -> None:
        try:
            super().validate(value, model_instance)
        except ValidationError as error:
            refused = without_value(error, value)
        else:
            return
        raise refused

    @forgetful
    def run_validators(self, value: Any) -> None:
        try:
            super().run_validators(value)
        except ValidationError as error:
            refused = without_value(error, value)
        else:
            return
        raise refused

    @cached_property
    def validators(self) -> list[Any]:
        # Not in ``default_validators``, because it asks the field. Nor among the given ones, which migrations hold.
        return [*super().validators, EncodableValidator(self)]

    def formfield(self, *args: Any, **kwargs: Any) -> Any:
        # Before anything is assigned: the text of ``value_to_string`` would be recognised.
        kwargs["validators"] = [*kwargs.get("validators", ()), EncodableValidator(self)]
        return super().formfield(*args, **kwargs)


def _sealed_after(pre_save: Callable[..., Any]) -> Callable[..., Any]:
    @forgetful
    @functools.wraps(pre_save)
    def sealed(self: "EncryptedField", model_instance: Model, add: bool) -> Any:
        if has_chosen(model_instance) or not self.chooses(add):
            return EncryptedField.pre_save(self, model_instance, add)
        choosing = vars(model_instance._state).setdefault(_CHOOSING, set())
        if self.name in choosing:
            return pre_save(self, model_instance, add)  # Called by a subclass.
        choosing.add(self.name)
        try:
            value = pre_save(self, model_instance, add)
        finally:
            choosing.remove(self.name)
        setattr(model_instance, self.attname, value)
        return EncryptedField.pre_save(self, model_instance, add)

    return sealed


def _is_plain(cls: type) -> bool:
    """Whether a class is a field of Django's, or of another package, with a type of its own."""
    return issubclass(cls, Field) and cls is not Field and not issubclass(cls, Encrypted)


def _is_abstract(method: Any) -> bool:
    return getattr(method, "__isabstractmethod__", False)


def _names(option: str, value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"{option} is a list of strings, not {value!r}.")
    return list(value)


def _is_sealed_case(value: Any) -> bool:
    """Whether an expression is the CASE by which ``bulk_update`` gives each row its own sealed value."""
    if isinstance(value, Cast):
        (value,) = value.get_source_expressions()
    if not isinstance(value, Case):
        return False
    results = [case.result for case in value.cases] + [value.default]
    return all(isinstance(result, Value) and isinstance(result.value, Sealed | None) for result in results)
