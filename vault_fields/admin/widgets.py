"""Widgets that stand in a form in place of a value that does not open."""

from collections.abc import Mapping
from typing import Any

from django.db.models.fields import BLANK_CHOICE_DASH
from django.forms import Media, Select, Widget
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from vault_fields.runtime.frames import forgetful_class

__all__ = ["ClosedWidget"]

_SUMMARY = gettext_lazy("Replace this value")
_CHOICE = gettext_lazy("Write what stands below over it. It is lost then, even if it could be opened again one day.")


@forgetful_class
class ClosedWidget(Widget):
    """
    The reason, and the field's own widget behind a box that must be ticked before its input is used.

    The posted data say that the value was closed when the page was made. The page may be sent when the value opens
    again, and it has nothing to put in its place.
    """

    def __init__(self, widget: Widget, reason: str | Promise, *, is_replaceable: bool, is_ticked: bool) -> None:
        super().__init__()
        self.widget = widget
        self.reason = reason
        self.is_replaceable = is_replaceable
        self.is_ticked = is_ticked
        self.needs_multipart_form = widget.needs_multipart_form
        # A browser would not send a form with a required field that is hidden.
        self.widget.is_required = False

    @property
    def media(self) -> Media:
        return self.widget.media

    def use_required_attribute(self, initial: Any) -> bool:
        return False

    def id_for_label(self, id_: str) -> str:
        return self.widget.id_for_label(id_)

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        return self.widget.value_from_datadict(data, files, name)

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        return self.widget.value_omitted_from_data(data, files, name)

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        reason = format_html(
            '<em class="vault-reason">{}</em><input type="hidden" name="{}" value="1">', self.reason, closed_name(name)
        )
        if not self.is_replaceable:
            return reason
        _offer_nothing(self.widget)
        shown = {option: setting for option, setting in (attrs or {}).items() if option not in {"disabled", "required"}}
        return format_html(
            '{}<details{}><summary>{}</summary><label><input type="checkbox" name="{}" value="1"{}> {}</label>{}'
            "</details>",
            reason,
            " open" if self.is_ticked else "",
            _SUMMARY,
            replace_name(name),
            " checked" if self.is_ticked else "",
            _CHOICE,
            # Some fields have a text for an empty value, such as "null" in JSON, which would look like input.
            self.widget.render(name, value if self.is_ticked else None, shown, renderer),
        )


def _offer_nothing(widget: Any) -> None:
    """Add an empty choice where there is none: otherwise a browser would post the first choice."""
    for part in getattr(widget, "widgets", ()):
        _offer_nothing(part)
    if isinstance(widget, Select) and not widget.allow_multiple_selected:
        options = widget.options("", widget.format_value(None))
        if not any(option["selected"] for option in options):
            widget.choices = [*BLANK_CHOICE_DASH, *widget.choices]


def closed_name(name: str) -> str:
    """
    Return the name in posted data that marks a value as closed when the page was made. No field name has a hyphen.
    """
    return f"{name}-closed"


def replace_name(name: str) -> str:
    """Return the name in posted data that asks to replace the value."""
    return f"{name}-replace"
