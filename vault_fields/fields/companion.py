"""The companion field: the column that holds the wrapped data keys beside the values."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.db.models import Model, TextField

from vault_fields.fields.damaged import require_text
from vault_fields.fields.fetchmodes import fetched
from vault_fields.fields.generatedpk import is_inserted, placeholder
from vault_fields.fields.groups import Group, encrypted_fields, groups_of
from vault_fields.fields.loading import PutAsLoaded
from vault_fields.fields.saving import load_sealed, require_settled_context, seal_rows
from vault_fields.fields.serializing import is_serializing
from vault_fields.fields.state import GroupState
from vault_fields.fields.writtenback import companion_assigned, members_of

__all__ = ["CompanionField"]


if TYPE_CHECKING:
    _TextField = TextField[str | None, str | None]
else:
    _TextField = TextField  # Generic in the stubs only.


class CompanionAttribute(PutAsLoaded):
    """A descriptor that recognises values of a row that were assigned before their companion."""

    field: "CompanionField"

    def __set__(self, instance: Model, value: Any) -> None:
        data = instance.__dict__
        name = self.field.attname
        is_new = name not in data
        data[name] = value
        if value:
            companion_assigned(instance, name, self._members, is_new=is_new)

    def __delete__(self, instance: Model) -> None:
        """Defer the field: it is loaded again when it is read."""
        try:
            del instance.__dict__[self.field.attname]
        except KeyError:
            raise AttributeError(self.field.attname) from None

    @cached_property
    def _members(self) -> Any:
        return members_of(self.field.model, self.field.name)


class CompanionField(_TextField):
    """
    The column with the encrypted keys and the key context of the values beside it.

    See ``vault_fields.stored.companion``. An encrypted field adds its own, named ``<name>_keys``. Declare one to share
    it between fields of the same context (``keys_field="…"``), or to choose its options. Nothing needs to be, or
    should be, assigned to it.
    """

    descriptor_class = CompanionAttribute
    description = "Encrypted data keys of the values beside it"

    def __init__(self, *args: Any, automatic: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault("editable", False)
        kwargs["null"] = True
        kwargs["blank"] = True
        super().__init__(*args, **kwargs)
        # Not part of the declaration: an automatic companion gives way to one that the model declares.
        self.automatic = automatic

    @property
    def serialize(self) -> bool:
        """
        Whether serializers take it: those of Django do, whose fixtures need it, and those of APIs do not.

        Code that stores fields one by one gets the companion with each value; see ``EncryptedField.value_to_string``.
        """
        return is_serializing()

    @serialize.setter
    def serialize(self, value: bool) -> None:
        """Ignore a declared value: it depends on the serializer that asks."""

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        path = path.replace("vault_fields.fields.companion.", "vault_fields.fields.")
        # Not every option is there: projects patch ``Field.deconstruct()`` to keep some out of their migrations.
        for option in ("null", "blank", "editable", "serialize"):
            kwargs.pop(option, None)
        # The default here is the opposite of Django's, which leaves its own default out.
        if self.editable:
            kwargs["editable"] = True
        return name, path, args, kwargs

    def contribute_to_class(self, cls: type[Model], name: str, private_only: bool = False) -> None:
        # Only the fields that the class itself has so far. For ``get_field()`` Django looks for reverse relations too,
        # and the models that a migration renders are not all there yet.
        declared = next((field for field in cls._meta.local_fields if field.name == name), None)
        if isinstance(declared, CompanionField):
            if self.automatic:
                return
            cls._meta.local_fields.remove(declared)
            cls._meta._expire_cache()  # type: ignore[attr-defined]
        elif self.automatic and all(each.companion_name != name for each in encrypted_fields(cls)):
            return  # A copy from an abstract class, whose field this class declares otherwise, or not at all.
        super().contribute_to_class(cls, name, private_only)

    def value_to_string(self, obj: Model) -> Any:
        """Return the companion's text, which belongs to the values that serializers get."""
        group = self._group
        if group is None:
            return super().value_to_string(obj)
        load_sealed([obj], group.member_names, for_write=False)
        state = GroupState(obj, group)
        state.settle_unchanged()
        fetched(obj, self.attname)  # This loads it, where it was deferred.
        return require_text(state.written_companion, self._label)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        return super().get_db_prep_save(require_text(value, self._label), connection)

    @property
    def _label(self) -> str:
        return f"{self.model._meta.label}.{self.name}"

    @property
    def _group(self) -> Group | None:
        """The group of values that it is for; a declared companion may have none."""
        for group in groups_of(self.model):
            if group.companion == self.name:
                return group
        return None

    def pre_save(self, model_instance: Model, add: bool) -> Any:
        group = self._group
        if group is None:
            return super().pre_save(model_instance, add)
        if is_inserted(model_instance):
            held = placeholder(model_instance, group.members)
            return None if held is None else held.text
        state = GroupState(model_instance, group)
        if not state.is_sealed:
            seal_rows([(model_instance, group)])
        require_settled_context(model_instance, group)
        return state.written_companion
