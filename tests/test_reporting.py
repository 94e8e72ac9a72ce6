"""What Django's debug page, its mails and Sentry's events show of encrypted values, whatever Django's frames hold."""

import html
import json
import re
import sys
from collections import UserList, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from types import SimpleNamespace
from typing import NamedTuple, Never

import pytest
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import F, Q, Value
from django.forms import modelform_factory
from django.test import RequestFactory, override_settings
from django.test.utils import isolate_apps
from django.utils.functional import SimpleLazyObject
from django.views.debug import ExceptionReporter, get_default_exception_reporter_filter

from tests.testapp.models import Certificate, Organization, Patient
from vault_fields.exceptions import VaultUnavailable
from vault_fields.fields import try_open
from vault_fields.reporting import HIDDEN, Reporter, ReporterFilter, before_send, finding
from vault_fields.reporting.finding import Found, may_show_values
from vault_fields.reporting.hiding import Hider
from vault_fields.vaults import vaults

# Neither stands in a line that a page shows around a frame.
SECRET = "canary-078-05-1120"
KEY = "canary_sk_live_4711"


def sent(event):
    """In a thread of its own: what the frames of the test runner hold under names of fields is no value of a row."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(before_send, event, {}).result()


@pytest.fixture(autouse=True)
def reporter_filter(settings):
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = "vault_fields.reporting.ReporterFilter"
    get_default_exception_reporter_filter.cache_clear()
    yield
    get_default_exception_reporter_filter.cache_clear()


def away():
    return vaults["default"].fail_with(VaultUnavailable("away"))


def create(organization, what) -> None:
    with away(), transaction.atomic():
        Patient.objects.create(organization=organization, ssn=what, history=[{"number": what}])


def save_under_another_name(organization, number) -> None:
    row = Patient(organization=organization)
    row.ssn = f"{number}"
    with away(), transaction.atomic():
        row.save()


def update(organization, what) -> None:
    with transaction.atomic():
        Patient.objects.update(ssn=Value(what))


def search(organization, what) -> None:
    Patient.objects.filter(ssn=what)


def search_by_conditions(organization, what) -> None:
    Patient.objects.filter(Q(name="x") | Q(ssn__startswith=what))


def find_or_create(organization, what) -> None:
    with away(), transaction.atomic():
        Patient.objects.get_or_create(name="y", defaults={"organization": organization, "ssn": what})


def clean(organization, what) -> None:
    Patient._meta.get_field("history").clean({"number": {what}}, None)


def fail_beside_a_row(organization, what) -> Never:
    row = Patient.objects.create(organization=organization, ssn=what, history={"number": [what]})
    lines = [f"number {each}" for each in (row.ssn,)]
    raise RuntimeError(len(lines))


FAILURES = [
    create,
    save_under_another_name,
    update,
    search,
    search_by_conditions,
    find_or_create,
    clean,
    fail_beside_a_row,
]


def page(fail, *arguments, request=None):
    try:
        fail(*arguments)
    except Exception:  # noqa: BLE001 - whatever it is, it is shown.
        return ExceptionReporter(request or RequestFactory().get("/"), *sys.exc_info()).get_traceback_html()
    raise AssertionError("It did not fail.")


@pytest.mark.parametrize("debug", [False, True], ids=["", "DEBUG"])
@pytest.mark.parametrize("fail", FAILURES)
def test_the_debug_page_shows_no_value(organization, fail, debug, settings) -> None:
    settings.DEBUG = debug
    shown = page(fail, organization, SECRET)
    assert SECRET not in shown
    assert HIDDEN in shown
    assert fail.__name__ in shown


def test_what_else_stands_there_is_shown() -> None:
    def fail(name, numbers) -> Never:
        wrong = {"a": [1, (2, 3), {4}], "name": name}
        raise ValueError(len(wrong))

    shown = page(fail, "Ada", [1, 2])
    assert "{&#x27;a&#x27;: [1, (2, 3), {4}], &#x27;name&#x27;: &#x27;Ada&#x27;}" in shown
    assert "&#x27;Ada&#x27;" in shown


def test_a_queryset_of_values_is_not_run_to_be_shown(organization) -> None:
    Patient.objects.create(organization=organization, name="Ada", ssn=SECRET)

    def fail() -> Never:
        values, rows = Patient.objects.values("ssn"), [Patient.objects.values_list("ssn"), Patient.objects.all()]
        raise ValueError(len([values.db, *rows]))

    shown = page(fail)
    assert SECRET not in shown
    assert "QuerySet [&lt;Patient:" in shown


def test_forms_show_no_value(organization) -> None:
    request = RequestFactory().post("/", {"ssn": SECRET, "patients-0-notes": SECRET, "name": "Ada"})
    with override_settings(DEBUG=True):
        shown = page(search, organization, SECRET, request=request)
    assert SECRET not in shown
    assert "&#x27;Ada&#x27;" in shown
    assert dict(ReporterFilter().get_post_parameters(RequestFactory().post("/", {"a": "b"}))) == {"a": ["b"]}
    assert ReporterFilter().get_post_parameters(None) == {}


def test_settings_and_environment_show_no_url_with_a_key(organization, settings) -> None:
    settings.DEBUG = True
    settings.VAULT_URL = f"workos://:{KEY}@api.workos.com"
    settings.SOME_LIST = [f"openbao://{KEY}@127.0.0.1:8200"]
    settings.HOMEPAGE = "https://example.org/@somebody"
    request = RequestFactory(VAULT_URL=f"workos://:{KEY}@api.workos.com").get("/")
    shown = page(search, organization, SECRET, request=request)
    assert KEY not in shown
    assert "https://example.org/@somebody" in shown


class Shy:
    def __repr__(self):
        raise ValueError


def test_the_filter_fails_over_nothing(organization) -> None:
    def fail(what, shy) -> Never:
        deep = here = []
        for _ in range(20):
            here.append([])
            here = here[0]
        row = Patient(ssn=what, notes="abc", history={what: 1, "more": (what, {what})})
        pair, found = ("ssn__exact", what), {row.ssn}
        raise ValueError(len(deep) + len(pair) + len(found))

    shown = page(fail, SECRET, Shy())
    assert SECRET not in shown
    assert "ssn__exact" in shown


def test_an_event_of_sentry_has_no_value(organization) -> None:
    try:
        create(organization, SECRET)
    except VaultUnavailable:
        exception = sys.exc_info()
    event = {
        "exception": {
            "values": [
                {
                    "stacktrace": {
                        "frames": [
                            {"module": "django.db.models.query", "vars": {"kwargs": "x"}},
                            {"module": "vault_fields.runtime.frames", "vars": {}},
                            {"module": "shop.views", "vars": {"what": f"'{SECRET}'", "a": "1", "ssn": "'x'"}},
                            {
                                "vars": {
                                    "b": "2",
                                    "values": "<QuerySet [{'a': 'x'}]>",
                                    "rows": "<QuerySet [<Patient: 1>]>",
                                }
                            },
                            {"module": "shop.models"},
                        ]
                    }
                },
                {"stacktrace": None},
            ]
        },
        "request": {"data": {"ssn": "x", "name": "Ada"}},
    }
    shown = before_send(event, {"exc_info": exception})
    frames = shown["exception"]["values"][0]["stacktrace"]["frames"]
    assert [frame.get("vars") for frame in frames] == [
        None,
        None,
        {"what": HIDDEN, "a": "1", "ssn": HIDDEN},
        {"b": "2", "values": HIDDEN, "rows": "<QuerySet [<Patient: 1>]>"},
        None,
    ]
    assert shown["request"]["data"] == {"ssn": HIDDEN, "name": "Ada"}
    assert sent({"message": "hello", "extra": {"notes": "x"}}) == {
        "message": "hello",
        "extra": {"notes": HIDDEN},
    }


# What a project makes of values, and has at hand when it fails.

NUMBER = 47114711


class Named(NamedTuple):
    ssn: str
    name: str


@dataclass
class Payload:
    ssn: str
    name: str = "Ada"


@dataclass
class Other:
    content: object


class Slots:
    __slots__ = ("content", "ssn", "unset")
    __fields__ = ("content", "ssn")

    def __init__(self, content, ssn=None):
        self.content, self.ssn = content, ssn

    def __repr__(self):
        return f"Slots({self.content!r}, {self.ssn!r})"


class View:
    """Shows nothing of what it has."""

    def __init__(self, form):
        self.form = form


def _row(given, text):
    return Patient(organization=given, notes=text)


def _stored(given, **values):
    return Patient.objects.create(organization=given, **values)


HELD = {
    "a_text": lambda given: (row := _row(given, f"x {SECRET}"), row.notes),
    "two_lines": lambda given: (row := _row(given, f"one {SECRET}\ntwo {SECRET}"), row.notes),
    "quotes": lambda given: (row := _row(given, f'it\'s "{SECRET}"'), [row.notes], f"{row.notes}!"),
    "a_backslash": lambda given: (row := _row(given, f"\\ {SECRET} \u00e9 \u200b"), row.notes),
    "a_long_text": lambda given: (row := _row(given, f"{SECRET} " * 600), row.notes),
    "an_object_that_shows_a_text": lambda given: (row := _row(given, f"a\n'{SECRET}"), Other(row.notes)),
    "json": lambda given: (row := _row(given, f"\u00e9\n{SECRET}"), json.dumps({"a": row.notes})),
    "html": lambda given: (row := _row(given, f"<{SECRET}>"), html.escape(row.notes)),
    "an_error": lambda given: (row := _row(given, SECRET), ValueError(f"no {row.notes}")),
    "a_number_of_json": lambda given: (row := Patient(organization=given, history={"a": NUMBER}), row.history["a"]),
    "a_column_under_another_name": lambda given: (
        _stored(given, ssn=SECRET),
        row := Patient.objects.annotate(number=F("ssn")).get(),
        row.number,
    ),
    "an_attempt": lambda given: (row := _stored(given, ssn=SECRET), [found := try_open(row, "ssn")], str(found)),
    "a_dataclass": lambda given: (Payload(SECRET), [Payload("123")]),
    "a_named_tuple": lambda given: (Named(SECRET, "Ada"), [Named("123", "Ada")]),
    "a_namespace": lambda given: SimpleNamespace(a=1, deep=[SimpleNamespace(ssn=SECRET)]),
    "slots": lambda given: (Slots("a", SECRET), Slots("123", Payload(SECRET))),
    "rows_of_values_by_names": lambda given: (_stored(given, ssn=SECRET), list(Patient.objects.values("ssn"))),
    "named_rows_of_values": lambda given: (
        _stored(given, ssn=SECRET),
        list(Patient.objects.values_list("ssn", named=True)),
    ),
    "rows": lambda given: (row := _stored(given, ssn=SECRET), [row], {1: row}, deque([row]), UserList([row])),
    "more_containers": lambda given: (row := _stored(given, ssn=SECRET), {1: row}.values(), frozenset([row]), {row}),
    "a_row_in_an_object": lambda given: (row := _stored(given, ssn=SECRET), Other(row), Slots(row)),
    "a_queryset": lambda given: (_stored(given, ssn=SECRET), Patient.objects.all()),
    "a_queryset_that_was_read": lambda given: (_stored(given, ssn=SECRET), rows := Patient.objects.all(), list(rows)),
    "a_lazy_row": lambda given: (row := _stored(given, ssn=SECRET), lazy := SimpleLazyObject(lambda: row), lazy.pk),
    "a_form_of_a_view": lambda given: (view := View(_form(given)), view.form.cleaned_data["notes"]),
    "a_pair": lambda given: [("ssn", SECRET)],
    "an_url": lambda given: (RequestFactory().get("/", {"ssn": SECRET}), f"/?a=b&ssn__exact={SECRET}&page=2"),
}


def _form(organization):
    form = modelform_factory(Patient, fields=["notes"])({"notes": SECRET})
    assert form.is_valid()
    return form


@pytest.fixture
def rows_named_by_values(monkeypatch) -> None:
    monkeypatch.setattr(Patient, "__str__", lambda row: f"P {row.ssn} {row.notes}")


def fail_with(hold, given) -> Never:
    kept = hold(given)
    raise RuntimeError(len(repr(type(kept))))


def event_of(error):
    """As Sentry sends it."""

    def spelled(value):
        if isinstance(value, dict):
            return {str(key): spelled(each) for key, each in value.items()}
        return [spelled(each) for each in value] if isinstance(value, list | tuple) else repr(value)[:1024]

    frames, traceback = [], error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        variables = {name: spelled(value) for name, value in frame.f_locals.items()}
        place = {"abs_path": frame.f_code.co_filename, "lineno": traceback.tb_lineno}
        frames.append({**place, "module": frame.f_globals["__name__"], "vars": variables})
        traceback = traceback.tb_next
    return {"exception": {"values": [{"stacktrace": {"frames": frames}}]}}


@pytest.mark.usefixtures("rows_named_by_values")
@pytest.mark.parametrize("name", HELD)
def test_what_a_project_has_at_hand_shows_no_value(organization, name) -> None:
    with pytest.raises(RuntimeError) as caught:
        fail_with(HELD[name], organization)
    event = event_of(caught.value)
    assert any(text in str(event) for text in (SECRET, str(NUMBER)))
    shown = before_send(event, {"exc_info": (None, caught.value, None)})
    kept = [frame["vars"]["kept"] for frame in shown["exception"]["values"][0]["stacktrace"]["frames"][-1:]]
    assert not any(text in str(kept) for text in (SECRET, str(NUMBER), "123"))
    table = re.findall(r'<td class="code"><pre>(.*?)</pre>', page(fail_with, HELD[name], organization), re.DOTALL)
    assert table
    assert not any(text in each for each in table for text in (SECRET, str(NUMBER)))


@pytest.mark.usefixtures("rows_named_by_values")
def test_rows_are_shown_by_class_and_key_and_no_query_is_run(organization, django_assert_num_queries) -> None:
    row = _stored(organization, ssn=SECRET)
    read = Patient.objects.all()
    assert len(read) == 1
    many = Patient.objects.all()
    many._result_cache = [row] * 21

    def fail() -> Never:
        unread = Patient.objects.all()
        raise RuntimeError(len([row, read, many, unread.db]))

    with django_assert_num_queries(0):
        shown = html.unescape(page(fail))
    assert f"<QuerySet [<Patient: {row.pk}>]>" in shown
    assert f"<Patient: {row.pk}>, ...]>" in shown
    assert "<QuerySet [<Patient: not loaded>]>" in shown
    assert SECRET not in shown


def test_rows_that_lead_to_encrypted_values_are_such_rows() -> None:
    with isolate_apps("tests.testapp"):

        class Booking(models.Model):
            before = models.ForeignKey("self", on_delete=models.CASCADE)
            patient = models.ForeignKey(Patient, on_delete=models.CASCADE)

            class Meta:
                app_label = "testapp"

            def __str__(self):
                return f"for {self.patient.ssn}"

    assert may_show_values(Booking)
    assert may_show_values(Certificate)
    assert not may_show_values(Organization)

    def fail(booking) -> Never:
        raise RuntimeError(booking.pk)

    shown = html.unescape(page(fail, Booking(pk=4711, patient=Patient(ssn=SECRET))))
    assert "<Booking: 4711>" in shown
    assert SECRET not in shown


def test_other_rows_are_shown_as_ever(organization) -> None:
    def fail(kept) -> Never:
        raise RuntimeError(len(kept))

    shown = html.unescape(page(fail, [organization, Organization.objects.all()]))
    assert f"[<Organization: {organization}>," in shown
    assert f"<QuerySet [<Organization: {organization}>" in shown


def test_the_reporter_hides_queries_and_messages(organization, settings) -> None:
    settings.DEFAULT_EXCEPTION_REPORTER = "vault_fields.reporting.Reporter"
    settings.DEBUG = True
    request = RequestFactory().get("/?a=b", {"ssn": SECRET, "page": "2"}, HTTP_REFERER=f"http://x/?notes={SECRET}&c=d")

    def fail(request) -> None:
        row = Patient(organization=organization, ssn=SECRET)
        try:
            raise ValueError(f"not {row.ssn}")
        except ValueError as error:
            raise RuntimeError(f"nor {row.ssn}") from error

    for _ in range(2):
        try:
            fail(request)
        except RuntimeError as error:
            error.add_note(f"but {SECRET}")
            reporter = Reporter(request, *sys.exc_info())
            shown = reporter.get_traceback_html() + reporter.get_traceback_text()
    assert SECRET not in shown
    assert f"ssn={HIDDEN}&amp;page=2" in shown
    assert f"http://x/?notes={HIDDEN}&amp;c=d" in shown
    assert "&#x27;2&#x27;" in shown
    try:
        raise RuntimeError("without a request")
    except RuntimeError:
        assert "without a request" in Reporter(None, *sys.exc_info()).get_traceback_html()


def test_an_event_is_looked_through_by_names_wherever_a_project_puts_something() -> None:
    # Too short to be found for what it is.
    held = {"ssn": "xyz", "name": "Ada"}
    hidden = {"ssn": HIDDEN, "name": "Ada"}
    event = {
        "level": "error",
        "user": {**held, "id": 1},
        "tags": {**held},
        "logentry": {"message": "%(ssn)s", "params": {**held}},
        "contexts": {
            "form": {**held},
            "notes": {"text": "xyz"},
            "history": None,
            "runtime": {"name": "CPython"},
            "os": None,
            "trace": {"trace_id": "1", "data": {**held}},
        },
        "breadcrumbs": {"values": [{"data": {**held}}, {"message": "x"}, {"data": {"target": "/?ssn=xyz"}}]},
        "spans": [{"data": {**held}, "description": "GET /?a=b&notes=xyz"}],
        "request": {
            "url": "/?notes=xyz#top",
            "query_string": [["ssn", "xyz"], ["page", "2"]],
            "cookies": {**held},
            "headers": {"Referer": "http://x/?a-1-ssn__exact=xyz&page=2"},
        },
    }
    assert sent(event) == {
        "level": "error",
        "user": {**hidden, "id": 1},
        "tags": hidden,
        "logentry": {"message": "%(ssn)s", "params": hidden},
        "contexts": {
            "form": hidden,
            "notes": {"text": HIDDEN},
            "history": {},
            "runtime": {"name": "CPython"},
            "os": None,
            "trace": {"trace_id": "1", "data": hidden},
        },
        "breadcrumbs": {"values": [{"data": hidden}, {"message": "x"}, {"data": {"target": f"/?ssn={HIDDEN}"}}]},
        "spans": [{"data": hidden, "description": f"GET /?a=b&notes={HIDDEN}"}],
        "request": {
            "url": f"/?notes={HIDDEN}#top",
            "query_string": [("ssn", HIDDEN), ("page", "2")],
            "cookies": hidden,
            "headers": {"Referer": f"http://x/?a-1-ssn__exact={HIDDEN}&page=2"},
        },
    }
    assert sent({"request": {"query_string": "ssn=xyz&page=2"}}) == {
        "request": {"query_string": f"ssn={HIDDEN}&page=2"}
    }


def test_every_stack_trace_of_an_event_is_looked_through(organization) -> None:
    row = Patient(organization=organization, ssn=SECRET)
    assert row.ssn == SECRET

    def trace():
        frames = [
            {"module": "django.db", "vars": {"a": "1"}},
            {"module": "shop", "vars": {"b": f"'{SECRET}'", "c": "1"}},
        ]
        return {"stacktrace": {"frames": frames}}

    event = {"exception": {"values": [trace()]}, "threads": {"values": [trace()]}, **trace()}
    shown = before_send(event, {})
    for each in (shown, *shown["exception"]["values"], *shown["threads"]["values"]):
        assert each["stacktrace"]["frames"] == [
            {"module": "django.db"},
            {"module": "shop", "vars": {"b": HIDDEN, "c": "1"}},
        ]


def test_values_in_the_members_of_a_group_are_known(organization) -> None:
    def fail() -> Never:
        row = Patient(organization=organization, ssn=SECRET)
        raise ValueError(len(row.ssn))

    with pytest.raises(ValueError) as caught:
        fail()
    group = ExceptionGroup("both", [caught.value])
    event = {"message": f"not {SECRET}"}
    assert before_send(event, {"exc_info": (type(group), group, None)}) == {"message": HIDDEN}


def test_of_a_function_that_called_itself_either_call_is_hidden(organization) -> None:
    def fail(depth, kept) -> None:
        row = Patient(organization=organization, history={"a": NUMBER})
        if not depth:
            raise RuntimeError(len(row.history))
        fail(depth - 1, row.history["a"])

    with pytest.raises(RuntimeError) as caught:
        fail(2, 0)
    shown = before_send(event_of(caught.value), {"exc_info": (None, caught.value, None)})
    frames = shown["exception"]["values"][0]["stacktrace"]["frames"]
    assert [frame["vars"]["kept"] for frame in frames[1:]] == [HIDDEN, HIDDEN, HIDDEN]


@pytest.mark.usefixtures("rows_named_by_values")
def test_rows_that_only_an_event_names_are_hidden() -> None:
    frames = [{"module": "shop", "vars": {"a": f"<Patient: P {SECRET}>", "b": "<Patient: Patient object (1)>"}}]
    event = before_send({"stacktrace": {"frames": frames}}, {})
    assert event["stacktrace"]["frames"][0]["vars"] == {"a": HIDDEN, "b": "<Patient: Patient object (1)>"}


def test_what_is_lazy_is_not_evaluated() -> None:
    def fail() -> Never:
        raise AssertionError

    lazy = SimpleLazyObject(fail)
    assert Hider([{"ssn": lazy, "more": [lazy]}]).value([lazy])[0] is lazy


def test_what_calls_it_is_not_searched() -> None:
    namespace = {"__name__": "sentry_sdk.client", "before_send": before_send}
    exec("def send(ssn): return before_send({'message': 'not ' + ssn}, {})", namespace)
    assert namespace["send"]("abcdef") == {"message": "not abcdef"}


def test_dates_of_json_are_found() -> None:
    found = Found({"ssn"}, [{"ssn": {"born": date(1979, 1, 1), "few": 3, "done": True, "many": NUMBER}}])
    assert [found.are(each) for each in (date(1979, 1, 1), 3, True, NUMBER, "text")] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_errors_of_forms_are_no_values(organization) -> None:
    with pytest.raises(ValidationError) as caught:
        clean(organization, SECRET)
    assert SECRET not in str(caught.value)


def test_what_holds_more_than_a_report_has_time_for_is_looked_at_as_far_as_the_nearest(monkeypatch) -> None:
    monkeypatch.setattr(finding, "_MOST", 100)
    near, far = {"ssn": "a near one"}, [[{"ssn": "a far one"}] for _ in range(200)]
    found = Found({"ssn"}, [{"far": far, "near": near}])
    assert found.stand_in("not a near one")
    assert not found.stand_in("not a far one")
