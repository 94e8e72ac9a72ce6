"""List columns and read-only fields that show, in place of a value that does not open, the reason why."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.contrib.admin.helpers import AdminForm
from django.contrib.admin.utils import (
    NotRelationField,
    display_for_field,
    display_for_value,
    get_fields_from_path,
    label_for_field,
    lookup_field,
)
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.utils.html import format_html

from vault_fields.admin.naming import strictly
from vault_fields.admin.reasons import shown
from vault_fields.fields.attempts import attempt
from vault_fields.fields.paths import encrypted_at
from vault_fields.runtime.frames import forgetful

__all__ = ["Cell", "show_in_form", "show_in_list"]


class Cell:
    """
    A callable that returns what the admin would show under a name, or else the reason why that does not open.

    ``list_display`` and ``readonly_fields`` accept callables, so that it works with the templates of any theme.
    ``forms`` are those of an editable list, by the ``id()`` of their row.
    """

    def __init__(
        self,
        name: Any,
        model: type[Model],
        model_admin: Any,
        *,
        form: Any = None,
        forms: Mapping[int, Any] | None = None,
    ) -> None:
        self._name = name
        self._model_admin = model_admin
        self._forms = forms or {}
        match = encrypted_at(model, name) if isinstance(name, str) else None
        self._field = match and match[0]
        self.short_description, attribute = label_for_field(name, model, model_admin, return_attr=True, form=form)
        attribute = getattr(attribute, "fget", attribute)
        self._boolean = getattr(attribute, "boolean", False)
        for option in ("admin_order_field", "empty_value_display"):
            if hasattr(attribute, option):
                setattr(self, option, getattr(attribute, option))
        self.__name__ = name if isinstance(name, str) else name.__name__

    @forgetful
    def __call__(self, row: Model) -> Any:
        if (form := self._forms.get(id(row))) is not None:
            return format_html("{}{}", form[self._name].errors, form[self._name])
        found = attempt(lambda: self._display(row))
        if found.error is None:
            return found.value
        if self._name == "__str__":
            return format_html("{}: {}", Model.__str__(row), shown(found.error))
        return shown(found.error)

    def _display(self, row: Model) -> Any:
        with strictly():
            _, _, value = lookup_field(self._name, row, self._model_admin)
        empty = getattr(self, "empty_value_display", self._model_admin.get_empty_value_display())
        if self._field is not None:
            return display_for_field(value, self._field, empty)
        return display_for_value(value, empty, boolean=True) if self._boolean else value


def show_in_list(changes: ChangeList) -> None:
    """Make the columns of a list that is about to be shown give their reasons."""
    # Rows and forms are the same objects, or in the same order.
    forms = dict(zip(map(id, changes.result_list), changes.formset.forms, strict=False)) if changes.formset else {}

    def cell(name: Any) -> Cell:
        edited = {row: form for row, form in forms.items() if name in form.fields}
        return Cell(name, changes.model, changes.model_admin, forms=edited)

    cells = _cells(changes.model, changes.list_display, cell)
    changes.list_display = _replaced(changes.list_display, cells)
    for option in ("list_display_links", "sortable_by"):
        if names := getattr(changes, option):
            setattr(changes, option, _replaced(names, cells))


def show_in_form(page: AdminForm) -> None:
    """Make the read-only fields of a form that is about to be shown give their reasons."""
    model = page.form._meta.model

    def cell(name: Any) -> Cell:
        return Cell(name, model, page.model_admin, form=page.form)

    cells = _cells(model, page.readonly_fields, cell)
    page.readonly_fields = _replaced(page.readonly_fields, cells)
    page.fieldsets = [
        (title, {**options, "fields": _replaced(options["fields"], cells)}) for title, options in page.fieldsets
    ]


def _cells(model: type[Model], names: Iterable[Any], cell: Callable[[Any], Cell]) -> dict[Any, Cell]:
    return {name: cell(name) for name in names if _may_fail(model, name)}


def _replaced(names: Iterable[Any], cells: Mapping[Any, Cell]) -> list[Any]:
    """Replace names in fieldsets, where several fields on one line are a list within the list."""
    return [_replaced(name, cells) if isinstance(name, (list, tuple)) else cells.get(name, name) for name in names]


def _may_fail(model: type[Model], name: Any) -> bool:
    """Whether a name may read an encrypted value: directly, at the end of a path, or through code of the project."""
    if callable(name):
        return True
    if name in {"action_checkbox", "pk"}:
        return False
    if encrypted_at(model, name):
        return True
    try:
        get_fields_from_path(model, name)
    except (FieldDoesNotExist, NotRelationField):
        return True  # An attribute of the admin class, or of the model.
    return False
