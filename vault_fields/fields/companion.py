"""The companion field: the column that holds the wrapped data keys beside the values."""

from typing import TYPE_CHECKING, Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model, TextField

from vault_fields.fields.groups import Group, groups_of
from vault_fields.fields.saving import companion_of, is_sealed, load_missing, seal_rows

__all__ = ["CompanionField"]


if TYPE_CHECKING:
    _TextField = TextField[Any, Any]
else:
    _TextField = TextField  # Generic in the stubs only.


class CompanionField(_TextField):
    """
    Holds the encrypted keys and the key context of the values beside it; see ``vault_fields.companion``.

    An encrypted field adds its own, named ``<name>_keys``. Declare one to share it between fields of the same context
    (``keys_field="…"``), or to choose its options. Nothing needs to be, or should be, assigned to it.
    """

    description = "Encrypted data keys of the values beside it"

    def __init__(self, *args: Any, automatic: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault("editable", False)
        kwargs["null"] = True
        kwargs["blank"] = True
        super().__init__(*args, **kwargs)
        # Not part of the declaration: an automatic companion yields to one that the model declares.
        self.automatic = automatic

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        path = path.replace("vault_fields.fields.companion.", "vault_fields.fields.")
        del kwargs["null"], kwargs["blank"]
        # The default here is the opposite of Django's, which leaves its own default out.
        if self.editable:
            kwargs["editable"] = True
        else:
            del kwargs["editable"]
        return name, path, args, kwargs

    def contribute_to_class(self, cls: type[Model], name: str, private_only: bool = False) -> None:
        declared = _declared(cls, name)
        if isinstance(declared, CompanionField):
            if self.automatic:
                return
            cls._meta.local_fields.remove(declared)
            cls._meta._expire_cache()  # type: ignore[attr-defined]
        super().contribute_to_class(cls, name, private_only)

    def value_to_string(self, obj: Model) -> Any:
        """Serializers get what goes with the values that they get."""
        group = self._group
        if group is None:
            return super().value_to_string(obj)
        load_missing([obj], group, for_write=False)
        getattr(obj, self.attname)  # Loads it, where it was deferred.
        return companion_of(obj, group)

    @property
    def _group(self) -> Group | None:
        """The values that it is for; a companion that was declared may have none."""
        return next((group for group in groups_of(self.model) if group.companion == self.name), None)

    def pre_save(self, model_instance: Model, add: bool) -> Any:
        group = self._group
        if group is None:
            return super().pre_save(model_instance, add)
        if not is_sealed(model_instance, group):
            seal_rows([(model_instance, group)])
        return companion_of(model_instance, group)


def _declared(cls: type[Model], name: str) -> Any:
    try:
        return cls._meta.get_field(name)
    except FieldDoesNotExist:
        return None
