"""The mixin for admin classes."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import AdminForm
from django.contrib.admin.views.main import ChangeList
from django.utils.translation import gettext

from vault_fields.admin.cells import show_in_form, show_in_list
from vault_fields.admin.completing import complete_searches
from vault_fields.admin.forms import closing, holds_nothing
from vault_fields.admin.lists import with_encrypted_fields
from vault_fields.admin.naming import naming_rows, strictly
from vault_fields.admin.searches import by_index
from vault_fields.fields.failures import Failures, remembering
from vault_fields.fields.paths import encrypted_at
from vault_fields.runtime.frames import forgetful, forgetful_class

__all__ = ["EncryptedFieldsMixin"]

if TYPE_CHECKING:
    _ModelAdmin = ModelAdmin[Any]
else:
    _ModelAdmin = object

# The methods in which a project writes rows. Names of Django's own methods must not be reused here.
_WRITING = {"save_form", "save_model", "save_related", "delete_model", "delete_queryset", "response_action"}
_WRITING |= {"response_add", "response_change", "response_post_save_add", "response_post_save_change"}


@forgetful_class
class EncryptedFieldsMixin(_ModelAdmin):
    """
    Mix in before ``ModelAdmin`` where its pages show encrypted fields, be it in inlines.

    A value that does not open is then told in its place, and the rest of the page is as ever; its field in a form is
    closed until the user asks to replace the value. Headers of lists do not offer to sort by encrypted fields, which
    would fail, and a URL that asks for it (``?o=2``) gets the list unsorted. ``=ssn`` and ``ssn__exact`` in
    ``search_fields`` search the index of a field that has one; a search that cannot be made, as for want of a tenant,
    finds nothing and says why.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        complete_searches(EncryptedFieldsMixin)
        super().__init__(*args, **kwargs)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        # Set here, since a project's overrides come before this class.
        return functools.partial(_strictly_call, found) if name in _WRITING else found

    # Lists.

    def get_sortable_by(self, request: Any) -> Any:
        names = super().get_sortable_by(request)
        return [name for name in names if callable(name) or encrypted_at(self.model, name) is None]

    def get_search_fields(self, request: Any) -> Any:
        return by_index(self.model, super().get_search_fields(request))

    def get_changelist(self, request: Any, **kwargs: Any) -> Any:
        return with_encrypted_fields(super().get_changelist(request, **kwargs))

    def get_changelist_formset(self, request: Any, **kwargs: Any) -> Any:
        formset = _closing_formset(super().get_changelist_formset(request, **kwargs))

        def is_valid(forms: Any) -> bool:
            if not formset.is_valid(forms):
                return False
            # Set here, as only changed forms are saved.
            self._warn_of_ignored(request, forms.forms)
            return True

        return type(formset.__name__, (formset,), {"is_valid": is_valid})

    # Forms.

    def get_form(self, request: Any, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return closing(super().get_form(request, obj, change, **kwargs))

    def get_formsets_with_inlines(self, request: Any, obj: Any = None) -> Iterator[Any]:
        for formset, inline in super().get_formsets_with_inlines(request, obj):
            yield _closing_formset(formset), inline

    def get_inline_formsets(self, request: Any, formsets: Any, inline_instances: Any, obj: Any = None) -> Any:
        inlines = super().get_inline_formsets(request, formsets, inline_instances, obj)
        for inline in inlines:
            shown: type = type(inline)
            inline.__class__ = _showing_reasons(shown)
        return inlines

    def save_model(self, request: Any, obj: Any, form: Any, change: bool) -> None:
        if not holds_nothing(obj):
            super().save_model(request, obj, form, change)

    def save_related(self, request: Any, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        self._warn_of_ignored(request, [form, *(inline for formset in formsets for inline in formset.forms)])

    def _warn_of_ignored(self, request: Any, forms: Iterable[Any]) -> None:
        names: list[str] = []
        for form in forms:
            ignored: list[str] = getattr(form, "ignored", [])
            names += [str(form.fields[name].label) for name in ignored]
            ignored.clear()
        if names:
            text = gettext("Not saved, because the value that is stored cannot be opened: {}.")
            self.message_user(request, text.format(", ".join(dict.fromkeys(names))), messages.WARNING)

    # Django's own names for rows, used while a project writes others.

    def get_deleted_objects(self, objs: Any, request: Any) -> Any:
        with naming_rows():
            return super().get_deleted_objects(objs, request)

    def log_addition(self, request: Any, obj: Any, message: Any) -> Any:
        with naming_rows():
            return super().log_addition(request, obj, message)

    def log_change(self, request: Any, obj: Any, message: Any) -> Any:
        with naming_rows():
            return super().log_change(request, obj, message)

    def log_deletions(self, request: Any, queryset: Any) -> Any:
        with naming_rows():
            return super().log_deletions(request, queryset)

    def response_add(self, request: Any, obj: Any, post_url_continue: Any = None) -> Any:
        with naming_rows():
            return super().response_add(request, obj, post_url_continue)

    def response_change(self, request: Any, obj: Any) -> Any:
        with naming_rows():
            return super().response_change(request, obj)

    # Pages.

    def changelist_view(self, request: Any, extra_context: Any = None) -> Any:
        return _page(super().changelist_view, request, extra_context)

    def changeform_view(
        self, request: Any, object_id: Any = None, form_url: Any = "", extra_context: Any = None
    ) -> Any:
        return _page(super().changeform_view, request, object_id, form_url, extra_context)

    def delete_view(self, request: Any, object_id: Any, extra_context: Any = None) -> Any:
        return _page(super().delete_view, request, object_id, extra_context)

    def history_view(self, request: Any, object_id: Any, extra_context: Any = None) -> Any:
        return _page(super().history_view, request, object_id, extra_context)


def _page(view: Callable[..., Any], *args: Any) -> Any:
    failures = Failures()
    with naming_rows(), remembering(failures):
        response = view(*args)
    context = getattr(response, "context_data", None) or {}
    if isinstance(changes := context.get("cl"), ChangeList):
        show_in_list(changes)
    if isinstance(form := context.get("adminform"), AdminForm):
        show_in_form(form)
    if hasattr(response, "render"):
        # It is rendered later, after other middleware.
        response.render = functools.partial(_render, response, failures)
    return response


@forgetful
def _render(response: Any, failures: Failures) -> Any:
    del response.render
    with naming_rows(), remembering(failures):
        return response.render()


@forgetful
def _strictly_call(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with strictly():
        return method(*args, **kwargs)


def _closing_formset(formset: Any) -> Any:
    return type(formset.__name__, (_StrictFormSet, formset), {"form": closing(formset.form)})


@forgetful_class
class _StrictFormSet:
    def full_clean(self) -> None:
        with strictly():
            super().full_clean()  # type: ignore[misc]


class _ShowingReasons:
    def __iter__(self) -> Iterator[Any]:
        for form in super().__iter__():  # type: ignore[misc]
            show_in_form(form)
            yield form


@functools.cache
def _showing_reasons(inlines: type) -> type:
    return type(inlines.__name__, (_ShowingReasons, inlines), {})
