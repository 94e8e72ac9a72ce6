"""The attribute of an encrypted field on a model instance."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from django.db.models import Model

from vault_fields.fields.blindindex import indexes_of, note_apart
from vault_fields.fields.interface import Encrypted
from vault_fields.fields.loading import PutAsLoaded
from vault_fields.fields.opening import open_value
from vault_fields.fields.sealed import Handover, Opened, Pending, Sealed
from vault_fields.fields.warm import warm_reader
from vault_fields.fields.writtenback import brought
from vault_fields.runtime.frames import forget

__all__ = ["EncryptedAttribute"]

_MISSING = object()


class EncryptedAttribute(PutAsLoaded):
    """A descriptor that opens a sealed value on first read, and remembers the value that an assignment replaces."""

    field: Encrypted

    def __init__(self, field: Encrypted) -> None:
        super().__init__(field)
        self._name = field.attname
        self._encode = field.to_plaintext

    def __get__(self, instance: Model | None, cls: type[Model] | None = None) -> Any:
        if instance is None:
            return self
        try:
            held = instance.__dict__.get(self._name, _MISSING)
            if held.__class__ is Sealed:
                if (opened := held.opened) is not None:
                    return opened.value
                try:
                    plaintext = self._plaintext(held.keys, held.text, held.values, held.outside, held.batch)
                    if plaintext is not None:
                        value = self.field.from_plaintext(plaintext)
                        held.opened = Opened(value, plaintext, self._encode)
                        return value
                except Exception:  # noqa: BLE001, S110 - the long way comes to the same, and says what it was.
                    pass
            if held is _MISSING:
                held = self.held_by(instance)
            if isinstance(held, Sealed):
                return open_value(self.field, held, instance)
        except BaseException as error:
            forget(error)
            # The name of the instance may be made of its values.
            instance = held = plaintext = value = opened = None
            raise
        if isinstance(held, Pending):
            return held.value
        if isinstance(held, Handover):
            return held.stored
        return held

    @cached_property
    def _plaintext(self) -> Callable[..., str | None]:
        # Not before a value is read: the group may name columns, and models, that are defined later.
        return warm_reader(self.field).plaintext

    def held_by(self, instance: Model) -> Any:
        """Return the content of the instance, unopened; a deferred column is loaded."""
        held = instance.__dict__.get(self.field.attname, _MISSING)
        return super().__get__(instance, type(instance)) if held is _MISSING else held

    def __set__(self, instance: Model, value: Any) -> None:
        data = instance.__dict__
        name = self._name
        if value is None or isinstance(value, Handover):
            data[name] = value
        elif isinstance(value, Pending):
            data[name] = value  # The content of a row also belongs into the row of its parent.
        elif isinstance(value, Sealed):
            data[name] = value
            if value.keys is None and value.batch is not None:
                value.batch.add_peer(instance, self.field.companion_name)
        elif (sealed := brought(self.field, instance, value)) is not None:
            data[name] = sealed
        else:
            held = data.get(name)
            if isinstance(held, Pending):
                held = held.previous
            data[name] = Pending(value, held if isinstance(held, Sealed) else None)

    def __delete__(self, instance: Model) -> None:
        """Defer the field: it is loaded again when it is read."""
        try:
            del instance.__dict__[self.field.attname]
        except KeyError:
            raise AttributeError(self.field.attname) from None

    def fetch_many(self, instances: Iterable[Any]) -> None:
        """Load a deferred column for all rows that were read together (Django 6.1's ``FETCH_PEERS``), sealed."""
        name = self.field.attname
        missing = [instance for instance in instances if name not in instance.__dict__ and instance._is_pk_set()]
        queryset = self.field.model._base_manager.using(missing[0]._state.db).only("pk", name)
        loaded = queryset.in_bulk([instance.pk for instance in missing])
        hashes = [index.attname for index in indexes_of(self.field)]
        for instance in missing:
            if instance.pk in loaded:
                instance.__dict__[name] = loaded[instance.pk].__dict__[name]
                note_apart(instance, hashes)
