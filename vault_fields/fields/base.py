"""What every encrypted field has in common: its options, its column and its place in a model class."""

import re
import sys
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from django.core.exceptions import FieldError, ValidationError
from django.db.models import Case, Field, Model, Value
from django.db.models.functions import Cast

from vault_fields import envelope as envelope_format
from vault_fields.exceptions import ValueRefused
from vault_fields.fields.columns import EncryptedCol
from vault_fields.fields.companion import CompanionField
from vault_fields.fields.context import ContextSource, KeyContextDeclaration
from vault_fields.fields.descriptor import EncryptedAttribute
from vault_fields.fields.groups import group_of
from vault_fields.fields.hooks import install_hooks
from vault_fields.fields.lookups import EncryptedIsNull, OnlyNone, refuse
from vault_fields.fields.reading import Loader
from vault_fields.fields.saving import is_sealed, load_missing, seal_rows
from vault_fields.fields.sealed import Pending, Sealed

__all__ = ["EncryptedField"]

# A migration state lists every column itself; see ``contribute_to_class``.
_HISTORICAL_MODULE = "__fake__"


if TYPE_CHECKING:
    _Field = Field[Any, Any]
else:
    _Field = Field  # Generic in the stubs only.


class EncryptedField(_Field):
    """
    Mix in before a Django field to encrypt what it stores.

    ``key_context``     where the row's key context comes from: attribute names; a mapping of names to attribute paths
                        (``organization__workos_id``) or ``Value("constant")``; or a function, see ``context_from``
    ``keys_field``      the companion's name; ``<name>_keys`` if not given
    ``migrating``       whether values that are not encrypted yet are read as they are; every write encrypts
    ``former_labels``   ``app.Model.field`` labels under which values were encrypted before a rename
    ``bind_to``         columns whose value, known before the row is inserted, a value is tied to
    ``vault``           the alias in ``settings.VAULTS`` that new data keys come from

    The column holds text (see ``vault_fields.envelope``). It cannot be searched, sorted or made unique.
    """

    is_encrypted = True
    descriptor_class = EncryptedAttribute

    def __init__(
        self,
        *args: Any,
        key_context: KeyContextDeclaration,
        keys_field: str | None = None,
        migrating: bool = False,
        former_labels: Sequence[str] = (),
        bind_to: Sequence[str] = (),
        vault: str = "default",
        **kwargs: Any,
    ) -> None:
        self.key_context = key_context
        self.source = ContextSource(key_context)
        self.keys_field = keys_field
        if not isinstance(migrating, bool):
            raise TypeError(f"migrating is True or False, not {migrating!r}.")
        self.migrating = migrating
        self.former_labels = _names("former_labels", former_labels)
        self.bind_to = _names("bind_to", bind_to)
        for label in self.former_labels:
            if len(parts := label.split(".")) != 3 or not all(parts):
                raise ValueError(f"former_labels has {label!r}; a label is 'app_label.Model.field'.")
        self.vault = vault
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        # The public path, which users' migrations hold for ever, wherever the class moves to.
        path = re.sub(r"^vault_fields\.fields\.\w+\.", "vault_fields.fields.", path)
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
        super().contribute_to_class(cls, name, private_only)
        # In a historical model the companion stands in the state by itself, or does not exist yet: added here, it
        # would become a column that no migration made.
        if cls.__module__ != _HISTORICAL_MODULE and self.keys_field is None:
            CompanionField(automatic=True).contribute_to_class(cls, self.companion_name)
        install_hooks(cls)

    def has_default(self) -> bool:
        # Of a historical model only the schema editor asks: for a value to put into existing rows, where it would
        # stand unencrypted. Instances get theirs all the same.
        return super().has_default() and not self._is_historical

    def get_default(self) -> Any:
        if self._is_historical and super().has_default():
            return self.default() if callable(self.default) else self.default
        return super().get_default()

    @property
    def _is_historical(self) -> bool:
        return getattr(getattr(self, "model", None), "__module__", None) == _HISTORICAL_MODULE

    @property
    def companion_name(self) -> str:
        return self.keys_field or f"{self.name}_keys"

    @property
    def label(self) -> str:
        """``app_label.Model.field``: what values are authenticated with, and what errors name."""
        return f"{self.model._meta.label}.{self.name}"

    # The text that is encrypted. JSON and text differ here and nowhere else.

    @abstractmethod
    def to_plaintext(self, value: Any) -> str:
        """The text to encrypt. Raises ``TypeError`` or ``ValueError`` for what cannot be encoded."""

    @abstractmethod
    def from_plaintext(self, text: str) -> Any:
        """The value for the user, or ``DecryptionError``."""

    # Reading.

    def get_col(self, alias: str, output_field: Any = None) -> EncryptedCol:
        return EncryptedCol(alias, self, output_field)

    def get_db_converters(self, connection: Any) -> list[Any]:
        return [Loader(self)]

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name == "isnull":
            return EncryptedIsNull
        if lookup_name == "exact":
            return OnlyNone
        return refuse(self, f"the lookup {lookup_name!r}")

    def get_transform(self, lookup_name: str) -> Any:
        # Refused in use: Django's own check of ``Meta.ordering`` asks whether there is one, before E012 can speak.
        return partial(self._refuse_transform, lookup_name)

    def _refuse_transform(self, lookup_name: str, lhs: Any) -> NoReturn:
        refuse(self, f"the transform {lookup_name!r}")

    # Writing.

    def pre_save(self, model_instance: Model, add: bool) -> Any:
        group = group_of(self)
        if not is_sealed(model_instance, group):
            # The hooks have sealed whole rows by now. This is for the ways to insert that go round them.
            seal_rows([(model_instance, group)])
        return model_instance.__dict__[self.attname]

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return self.get_db_prep_save(value, connection)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        # Whatever path was taken to get here: what is written is sealed, or it is not written.
        if value is None:
            return None
        if isinstance(value, Sealed):
            return value.text
        if _is_sealed_case(value):
            return value
        raise FieldError(
            f"{self.label} is encrypted for the key context of each row, which QuerySet.update(), expressions and "
            "column defaults do not know: nothing was written. Assign the value to instances and call save() or "
            "bulk_update(); add a column to a table that has rows with null=True."
        )

    def value_from_object(self, obj: Model) -> Any:
        # Django's serializers ask for the value first, and write numbers and booleans as they are without asking
        # ``value_to_string``. A fixture must not hold them in the clear, nor need the Vault.
        if sys._getframe(1).f_code.co_name == "_value_from_field":
            return self.value_to_string(obj)
        return super().value_from_object(obj)

    def value_to_string(self, obj: Model) -> Any:
        """Serializers get what is stored; ``loaddata`` takes it as it is."""
        load_missing([obj], group_of(self), for_write=False)
        held = obj.__dict__[self.attname]
        if isinstance(held, Pending) or (isinstance(held, Sealed) and held.is_changed):
            raise ValueRefused(f"{self.label}: save the row before serializing it, which would write it in the clear.")
        return held.text if isinstance(held, Sealed) else held

    def validate(self, value: Any, model_instance: Any) -> None:
        super().validate(value, model_instance)
        if isinstance(value, str) and envelope_format.is_envelope(value):
            raise ValidationError("This value begins like an encrypted one.", code="envelope")


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
