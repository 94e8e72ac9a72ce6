"""What Django's debug page, its mails and Sentry's events show of encrypted values, whatever Django's frames hold."""

import sys

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, Value
from django.test import RequestFactory, override_settings
from django.views.debug import ExceptionReporter, get_default_exception_reporter_filter

from tests.testapp.models import Patient
from vault_fields.exceptions import VaultUnavailable
from vault_fields.reporting import HIDDEN, ReporterFilter, before_send
from vault_fields.vaults import vaults

# Neither stands in a line that a page shows around a frame.
SECRET = "canary-078-05-1120"
KEY = "canary_sk_live_4711"


@pytest.fixture(autouse=True)
def reporter_filter(settings):
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = "vault_fields.reporting.ReporterFilter"
    get_default_exception_reporter_filter.cache_clear()
    yield
    get_default_exception_reporter_filter.cache_clear()


def away():
    return vaults["default"].fail_with(VaultUnavailable("away"))


def create(organization, what):
    with away(), transaction.atomic():
        Patient.objects.create(organization=organization, ssn=what, history=[{"number": what}])


def save_under_another_name(organization, number):
    row = Patient(organization=organization)
    row.ssn = f"{number}"
    with away(), transaction.atomic():
        row.save()


def update(organization, what):
    with transaction.atomic():
        Patient.objects.update(ssn=Value(what))


def search(organization, what):
    Patient.objects.filter(ssn=what)


def search_by_conditions(organization, what):
    Patient.objects.filter(Q(name="x") | Q(ssn__startswith=what))


def find_or_create(organization, what):
    with away(), transaction.atomic():
        Patient.objects.get_or_create(name="y", defaults={"organization": organization, "ssn": what})


def clean(organization, what):
    Patient._meta.get_field("history").clean({"number": {what}}, None)


def fail_beside_a_row(organization, what):
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
def test_the_debug_page_shows_no_value(organization, fail, debug, settings):
    settings.DEBUG = debug
    shown = page(fail, organization, SECRET)
    assert SECRET not in shown
    assert HIDDEN in shown
    assert fail.__name__ in shown


def test_what_else_stands_there_is_shown():
    def fail(name, numbers):
        wrong = {"a": [1, (2, 3), {4}], "name": name}
        raise ValueError(len(wrong))

    shown = page(fail, "Ada", [1, 2])
    assert "{&#x27;a&#x27;: [1, (2, 3), {4}], &#x27;name&#x27;: &#x27;Ada&#x27;}" in shown
    assert "&#x27;Ada&#x27;" in shown


def test_a_queryset_of_values_is_not_run_to_be_shown(organization):
    Patient.objects.create(organization=organization, name="Ada", ssn=SECRET)

    def fail():
        values, rows = Patient.objects.values("ssn"), [Patient.objects.values_list("ssn"), Patient.objects.all()]
        raise ValueError(len([values.db, *rows]))

    shown = page(fail)
    assert SECRET not in shown
    assert "QuerySet [&lt;Patient:" in shown


def test_forms_show_no_value(organization):
    request = RequestFactory().post("/", {"ssn": SECRET, "patients-0-notes": SECRET, "name": "Ada"})
    with override_settings(DEBUG=True):
        shown = page(search, organization, SECRET, request=request)
    assert SECRET not in shown
    assert "&#x27;Ada&#x27;" in shown
    assert dict(ReporterFilter().get_post_parameters(RequestFactory().post("/", {"a": "b"}))) == {"a": ["b"]}
    assert ReporterFilter().get_post_parameters(None) == {}


def test_settings_and_environment_show_no_url_with_a_key(organization, settings):
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


def test_the_filter_fails_over_nothing(organization):
    def fail(what, shy):
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


def test_an_event_of_sentry_has_no_value(organization):
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
                            {"module": "vault_fields.frames", "vars": {}},
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
    assert before_send({"message": "hello", "extra": {"notes": "x"}}, {}) == {
        "message": "hello",
        "extra": {"notes": HIDDEN},
    }


def test_errors_of_forms_are_no_values(organization):
    with pytest.raises(ValidationError) as caught:
        clean(organization, SECRET)
    assert SECRET not in str(caught.value)
