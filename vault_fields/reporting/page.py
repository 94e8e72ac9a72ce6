"""Django's debug page and its mails to admins, filtered."""

import re
import sys
from types import FrameType
from typing import Any

from django.http import HttpRequest
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from vault_fields.reporting.finding import frames_of
from vault_fields.reporting.hiding import Hider, has_field

__all__ = ["Reporter", "ReporterFilter"]

_CREDENTIALS = re.compile(r"://[^/\s@]*@")


class ReporterFilter(SafeExceptionReporterFilter):
    """
    Django's filter, which also hides the values of encrypted fields: for ``DEFAULT_EXCEPTION_REPORTER_FILTER``.

    With ``DEBUG`` too, it hides: values under the name of an encrypted field, in variables, dicts, objects that show
    their attributes, and forms; values beside such a field in a frame of Django's; the values of rows in these frames,
    wherever they appear; the names of rows; querysets of ``values()`` and ``values_list()``; and URLs with credentials
    in them, in settings and in the environment.
    """

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        cleansed = super().cleanse_setting(key, value)
        if isinstance(cleansed, str) and _CREDENTIALS.search(cleansed):
            return self.cleansed_substitute
        return cleansed

    def get_safe_request_meta(self, request: HttpRequest) -> dict[str, Any]:
        hider = Hider(())
        meta = super().get_safe_request_meta(request)
        return {name: hider.value(value) if isinstance(value, str) else value for name, value in meta.items()}

    def get_post_parameters(self, request: HttpRequest | None) -> Any:
        parameters: Any = super().get_post_parameters(request)
        hider = Hider(())
        hidden = [name for name in parameters if hider.is_named(name)]
        if hidden:
            parameters = parameters.copy()
            for name in hidden:
                parameters[name] = self.cleansed_substitute
        return parameters

    def get_traceback_frame_variables(self, request: Any, tb_frame: FrameType) -> Any:
        variables = dict(super().get_traceback_frame_variables(request, tb_frame))
        hider = Hider([tb_frame.f_locals, *(frame.f_locals for frame, _ in frames_of(sys.exception()))])
        return hider.mapping(variables, beside=has_field(tb_frame.f_locals.values())).items()


class Reporter(ExceptionReporter):
    """
    Django's reporter, which hides the same in what its filter does not see: for ``DEFAULT_EXCEPTION_REPORTER``.

    That is the query of the URL, cookies, and the message of the exception.
    """

    def get_traceback_data(self) -> dict[str, Any]:
        data: dict[str, Any] = super().get_traceback_data()
        hider = Hider(frame.f_locals for frame, _ in frames_of(self.exc_value))
        for name in ("request_GET_items", "request_COOKIES_items"):
            data[name] = hider.mapping(dict(data.get(name) or ())).items()
        hider = hider.without_names()
        for name in ("request_insecure_uri", "exception_value", "exception_notes"):
            if data.get(name):
                data[name] = hider.value(str(data[name]))
        for frame in data["frames"]:
            if frame["exc_cause"]:
                frame["exc_cause"] = hider.value(str(frame["exc_cause"]))
        return data
