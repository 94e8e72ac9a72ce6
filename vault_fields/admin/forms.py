"""Forms of rows whose values may not open: such a field is closed, and the rest of the row is edited as usual."""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.db import router
from django.db.models import Model
from django.forms import BaseModelForm, Field
from django.forms.formsets import DELETION_FIELD_NAME
from django.utils.functional import cached_property
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy

from vault_fields.admin.naming import strictly
from vault_fields.admin.reasons import ERRORS, Failure, is_passing, reason_of
from vault_fields.admin.widgets import ClosedWidget, closed_name, replace_name
from vault_fields.exceptions import KeyContextError
from vault_fields.fields.attempts import try_open
from vault_fields.fields.damaged import Damaged
from vault_fields.fields.groups import Group, all_groups_of
from vault_fields.fields.saving import seal_rows
from vault_fields.fields.sealed import Pending, Sealed
from vault_fields.fields.state import GroupState, is_encrypted
from vault_fields.runtime.frames import forgetful_class

__all__ = ["ClosedFields", "closing", "holds_nothing"]

_OPENS_AGAIN = gettext_lazy("It could not be opened when this page was made, and can be now: load the page anew.")
_TICK = gettext_lazy("To replace the value that cannot be opened, tick the box; or else leave this empty.")
_COPIED = gettext_lazy("The value of the row that is copied cannot be opened, and is not copied: enter one.")
_TOGETHER = gettext_lazy("{} Replace {} as well: it has the same key.")
_MOVED = gettext_lazy("{} So the row cannot be changed in what decides about its keys, unless {} is replaced.")

if TYPE_CHECKING:
    _Form = BaseModelForm[Any]
else:
    _Form = object


@forgetful_class
class ClosedFields(_Form):
    """
    A mixin for model forms. ``closed`` maps its fields whose value does not open to the reason.

    Their values are neither put into the form nor taken from it, and are not written. ``ignored`` names closed fields
    for which a value was posted all the same, by a page on which they were open. A field that the user asks to replace
    is a field like any other.
    """

    closed: dict[str, Any]
    ignored: list[str]
    _replaced: set[str]
    _not_copied: list[str]
    _stood_in: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        failures = dict(_failures(kwargs.get("instance"), self._meta))
        self._stood_in = _deciding(kwargs.get("instance"))
        # Django reads the values of the fields that are not excluded.
        self._meta = copy.copy(self._meta)
        self._meta.exclude = [*(self._meta.exclude or ()), *failures]
        super().__init__(*args, **kwargs)
        del self._meta
        self.closed, self.ignored, self._replaced, self._not_copied = {}, [], set(), []
        for name in [name for name in self.fields if name in _encrypted_names(self.instance)]:
            self._prepare(name, failures.get(name))

    def _prepare(self, name: str, error: Failure | None) -> None:
        html_name = self.add_prefix(name)
        was_closed, replaces = (self.is_bound and key(html_name) in self.data for key in (closed_name, replace_name))
        if not error and not was_closed:
            return
        field = self.fields[name]
        if self.instance._state.adding:
            if not replaces:
                self._not_copied.append(name)
            return
        reason = reason_of(error) if error else _OPENS_AGAIN
        replaceable = error is None or not is_passing(error)
        replaces = replaces and replaceable
        field.widget = ClosedWidget(field.widget, reason, is_replaceable=replaceable, is_ticked=replaces)
        field.initial = None
        self.initial.pop(name, None)
        if replaces:
            self._replaced.add(name)
            # Also with an empty value, which is what it looks like now.
            field.has_changed = _always  # type: ignore[method-assign]
        else:
            self.closed[name] = reason
            field.disabled, field.required = True, False

    @cached_property
    def changed_data(self) -> list[str]:
        # Some fields, such as JSON's, take an empty value for a change, even when they are disabled.
        return [name for name in super().changed_data if name not in self.closed]

    def full_clean(self) -> None:
        fields = self.fields
        # The project's own clean methods do not see a closed field either.
        self.fields = {name: field for name, field in fields.items() if name not in self.closed}
        try:
            with strictly():
                super().full_clean()
        finally:
            self.fields = fields
        if not self.is_bound or self.cleaned_data.get(DELETION_FIELD_NAME):
            return
        for name in self._not_copied:
            self.add_error(name, _COPIED)
        for name in [name for name in self.closed if name in self.fields]:
            self._look_at_what_was_posted(name)
        if not self.errors and not self.instance._state.adding:
            self._keep_nothing()
            # Look at all fields before leaving any out: leaving one out takes along the columns that decide about
            # others.
            for group in list(filter(self._is_left_out, all_groups_of(type(self.instance)))):
                _leave_out(self.instance, group)

    def save(self, commit: bool = True) -> Any:
        if not commit or not holds_nothing(self.instance):
            return super().save(commit)
        instance = super().save(commit=False)
        self.save_m2m()
        return instance

    def _look_at_what_was_posted(self, name: str) -> None:
        html_name, field = self.add_prefix(name), self.fields[name]
        widget: Any = field.widget
        if not widget.is_replaceable and replace_name(html_name) in self.data:
            self.add_error(name, widget.reason)
        elif widget.value_omitted_from_data(self.data, self.files, html_name):
            return
        elif closed_name(html_name) not in self.data:
            self.ignored.append(name)
        elif _is_entered(field, widget.value_from_datadict(self.data, self.files, html_name)):
            if widget.is_replaceable:
                self.add_error(name, _TICK)
            else:
                # It was closed when the page was made: a page that is made now has no box to tick.
                self.ignored.append(name)

    def _is_left_out(self, group: Group) -> bool:
        """Whether nothing of a group is to be written. If something is, find out whether it can be."""
        GroupState(self.instance, group).settle()
        # The project's own code may move a row as well, in clean(). A row that SQL moved was read like that.
        names = {binding.attname for binding in group.all_bindings}
        is_moved = any(self.instance.__dict__.get(name) != self._stood_in.get(name) for name in names)
        is_troubled = bool(group.member_names & (self.closed.keys() | self._replaced))
        if not is_moved and not group.member_names & set(self.changed_data) and _is_as_stored(self.instance, group):
            return is_troubled or _is_unwritable(self.instance, group)
        try:
            seal_rows([(self.instance, group)], self.instance._state.db)
        except (*ERRORS, KeyContextError) as error:
            self._refuse(group, reason_of(error))
        return False

    def _keep_nothing(self) -> None:
        """
        Store no value where a field without one was left empty. Django would write an empty text, which needs a key.
        """
        for name in self.fields.keys() & set(_encrypted_names(self.instance)) - set(self.changed_data):
            held = self.instance.__dict__.get(name)
            if isinstance(held, Pending) and not held.previous and held.value in self.fields[name].empty_values:
                self.instance.__dict__[name] = None

    def _refuse(self, group: Group, reason: Any) -> None:
        changed = [name for name in self.changed_data if name in group.member_names]
        closed = ", ".join(
            str(member.verbose_name)
            for member in group.members
            if _is_closed(self.instance.__dict__.get(member.attname))
        )
        advice = format_lazy(_TOGETHER if changed else _MOVED, reason, closed) if closed else reason
        self.add_error(changed[0] if changed else None, advice)


def closing(form: Any) -> Any:
    """Return the form class with closed fields. Django's metaclass is bypassed: it would build its fields anew."""
    if issubclass(form, ClosedFields):
        return form
    return type.__new__(type(form), form.__name__, (ClosedFields, form), {"__module__": form.__module__})


def holds_nothing(instance: Model) -> bool:
    """Whether everything that could be written was left out. Django would then write the whole row."""
    keys = instance._meta.pk_fields
    fields = [field for field in instance._meta.concrete_fields if field not in keys and not field.primary_key]
    return bool(fields) and not any(field.attname in instance.__dict__ for field in fields)


def _failures(instance: Model | None, options: Any) -> Iterator[tuple[str, Failure]]:
    """Yield the encrypted fields that Django reads for a form and that do not open, with the reasons."""
    if instance is None or instance._state.adding:
        return
    for name in _encrypted_names(instance):
        is_read = (options.fields is None or name in options.fields) and name not in (options.exclude or ())
        if is_read and (error := try_open(instance, name).error) is not None:
            yield name, error


def _deciding(instance: Model | None) -> dict[str, Any]:
    """
    Return the values of the columns that decide about keys. They are loaded now: later, their former values are
    unknown.
    """
    if instance is None or instance._state.adding:
        return {}
    bindings = [binding for group in all_groups_of(type(instance)) for binding in group.all_bindings]
    return {binding.attname: getattr(instance, binding.attname) for binding in bindings}


def _encrypted_names(instance: Model) -> list[str]:
    return [member.name for group in all_groups_of(type(instance)) for member in group.members if member.editable]


def _is_as_stored(instance: Model, group: Group) -> bool:
    held = [instance.__dict__.get(member.attname) for member in group.members]
    return all(value is None or (isinstance(value, Sealed) and not value.is_changed) for value in held)


def _is_unwritable(instance: Model, group: Group) -> bool:
    """
    Whether a save of the row, which writes all of it, would be refused or would repair something. A form does neither.
    """
    for member in group.members:
        held = instance.__dict__.get(member.attname)
        if is_encrypted(held) and not _is_text(GroupState(instance, group).beside(held)):
            return True
        if held is not None and not is_encrypted(held) and (isinstance(held.text, Damaged) or not member.migrating):
            return True
    return bool(GroupState(instance, group).changed_columns())


def _is_text(text: str | None) -> bool:
    return bool(text) and not isinstance(text, Damaged)


def _is_closed(held: Any) -> bool:
    return isinstance(held, Sealed) and held.opened is None


def _leave_out(instance: Model, group: Group) -> None:
    """Defer the group and the columns that decide about it, so that Django writes the others."""
    # Reload from the database that the row is saved to: it may have been read from a replica.
    instance._state.db = router.db_for_write(type(instance), instance=instance)
    keys = {field.attname for field in instance._meta.pk_fields}
    for name in group.columns:
        instance.__dict__.pop(name, None)
    for binding in group.all_bindings:
        if binding.attname not in keys:
            instance.__dict__.pop(binding.attname, None)
            # Django would load the column, to compare it with the cached row.
            instance._state.fields_cache.pop(binding.field.name, None)


def _is_entered(field: Field, posted: Any) -> bool:
    """Whether the user entered something: untouched widgets may post something other than nothing."""
    enabled = copy.copy(field)
    enabled.disabled = False
    return enabled.has_changed(None, posted)


def _always(initial: Any, data: Any) -> bool:
    return True
