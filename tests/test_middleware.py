"""``VaultErrorMiddleware``: 503 where the Vault is away, 403 where it refuses, and no client is told more."""

import asyncio
from http import HTTPStatus

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.contrib.admin import ModelAdmin
from django.contrib.admin.sites import AdminSite
from django.http import HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path

from tests.testapp.models import Patient
from vault_fields.exceptions import (
    DecryptionError,
    KeyRevoked,
    ObjectConflict,
    ObjectMissing,
    VaultError,
    VaultRefused,
    VaultThrottled,
    VaultUnavailable,
)
from vault_fields.fields import aopen
from vault_fields.middleware import LONGEST_RETRY_AFTER, VaultErrorMiddleware
from vault_fields.vaults import vaults

SECRET = "078-05-1120"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

site = AdminSite()


class PatientAdmin(ModelAdmin):
    list_display = ["name", "ssn"]
    sortable_by = ["name"]  # The checks look at all sites of the process, this one too.


site.register(Patient, PatientAdmin)


def plain(request):
    return HttpResponse(",".join(patient.ssn for patient in Patient.objects.all()))


async def coroutine(request):
    patients = [patient async for patient in Patient.objects.all()]
    await aopen(patients)
    return HttpResponse(",".join(patient.ssn for patient in patients))


def rendered_late(request):
    template = engines["django"].from_string("{% for patient in patients %}{{ patient.ssn }}{% endfor %}")
    return TemplateResponse(request, template, {"patients": Patient.objects.all()})


urlpatterns = [
    path("plain", plain),
    path("coroutine", coroutine),
    path("late", rendered_late),
    path("admin/", site.urls),
]


@pytest.fixture(autouse=True)
def project(settings) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "vault_fields.middleware.VaultErrorMiddleware"]


@pytest.fixture
def withdrawn(patient):
    vault = vaults["default"]
    owner = str(Patient.objects.get().organization_id)
    vault.revoke("organization_id", owner)
    yield patient
    vault.restore("organization_id", owner)


@pytest.fixture
def away(patient):
    vault = vaults["default"]
    vault.purge()
    error = VaultUnavailable(
        "No answer in time. Host: vault.example.com.", alias="default", request_id="req_1", retry_after=7.2
    )
    with vault.fail_with(error):
        yield patient


def asked(url, **headers):
    return Client().get(url, headers=headers)


def asked_in_a_coroutine(url, **headers):
    return async_to_sync(AsyncClient().get)(url, headers=headers)


everywhere = pytest.mark.parametrize("ask", [asked, asked_in_a_coroutine], ids=["wsgi", "asgi"])
views = pytest.mark.parametrize("url", ["/plain", "/coroutine", "/late"])


@everywhere
@views
def test_what_opens_is_answered(patient, ask, url) -> None:
    response = ask(url)
    assert (response.status_code, response.content.decode()) == (200, "123-45-6789")


@everywhere
@views
def test_a_vault_that_is_away_is_503_with_the_time_to_come_back(away, ask, url, caplog) -> None:
    response = ask(url, accept="application/json")
    assert response.status_code == 503
    assert (response["Retry-After"], response["Cache-Control"]) == ("8", "no-store")
    assert response.json() == {
        "detail": "The keys for this cannot be reached at the moment. Try again in a minute.",
        "code": "vault_unavailable",
    }
    (record,) = caplog.records
    assert (record.name, record.levelname, record.status_code) == ("vault_fields.middleware", "WARNING", 503)
    assert f"testapp.Patient.ssn (pk={away.pk}): No answer in time. Host: vault" in record.getMessage()


@everywhere
@views
def test_a_key_that_was_withdrawn_is_403(withdrawn, ask, url, caplog) -> None:
    response = ask(url, accept=BROWSER)
    assert response.status_code == 403
    assert "Retry-After" not in response
    assert "<p>The key for this was withdrawn by its owner.</p>" in response.content.decode()
    assert [record.name for record in caplog.records] == ["vault_fields.middleware"]


@pytest.mark.parametrize("method", ["get", "post"])
def test_in_the_admin(admin_client, away, method) -> None:
    if method == "get":
        response = admin_client.get("/admin/testapp/patient/")
    else:
        owner = Patient.objects.get().organization_id
        data = {"organization": owner, "name": "new", "ssn": SECRET, "notes": "", "history": "1"}
        response = admin_client.post("/admin/testapp/patient/add/", data)
    assert response.status_code == 503
    assert SECRET not in response.content.decode()
    assert "<h1>Not available at the moment</h1>" in response.content.decode()
    assert Patient.objects.count() == 1


def answer(error, **headers):
    middleware = VaultErrorMiddleware(lambda request: HttpResponse())
    return middleware.process_exception(RequestFactory().get("/", headers=headers), error)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (VaultUnavailable("x"), 503, "vault_unavailable"),
        (VaultThrottled("x"), 503, "vault_unavailable"),
        (VaultRefused("x"), 403, "vault_refused"),
        (KeyRevoked("x"), 403, "key_revoked"),
    ],
)
def test_programs_can_tell_one_from_another(error, status, code) -> None:
    response = answer(error, accept="application/json")
    assert (response.status_code, response.headers.get("Retry-After")) == (status, None)
    assert f'"code": "{code}"' in response.content.decode()


@pytest.mark.parametrize(
    "error",
    [ObjectMissing("x"), ObjectConflict("x"), VaultError("x"), DecryptionError("x"), ValueError("x")],
    ids=lambda error: type(error).__name__,
)
def test_what_is_not_the_vaults_to_answer_is_left_to_others(error) -> None:
    assert answer(error) is None


@pytest.mark.parametrize(("seconds", "header"), [(0.2, "1"), (60.0, "60"), (float("inf"), str(LONGEST_RETRY_AFTER))])
def test_a_moment_to_come_back_is_whole_and_bounded(seconds, header) -> None:
    assert answer(VaultThrottled("x", retry_after=seconds))["Retry-After"] == header


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
        (BROWSER, "text/html; charset=utf-8"),
        ("application/json, text/plain, */*", "application/json"),
        ("application/vnd.api+json", "application/json"),
        ("text/html;q=0.2, application/json;q=0.7", "application/json"),
        ("application/json;q=0, text/html", "text/html; charset=utf-8"),
        ("image/png", "text/html; charset=utf-8"),
        ("nonsense", "text/html; charset=utf-8"),
    ],
)
def test_json_is_for_those_who_ask_for_it(accept, kind) -> None:
    headers = {} if accept is None else {"accept": accept}
    assert answer(VaultRefused("x"), **headers)["Content-Type"] == kind


@pytest.mark.parametrize(
    ("sent", "accept", "kind"),
    [
        ("application/json", "*/*", "application/json"),
        ("application/merge-patch+json; charset=utf-8", "*/*", "application/json"),
        ("application/json", "text/html", "text/html; charset=utf-8"),
        ("application/x-www-form-urlencoded", "*/*", "text/html; charset=utf-8"),
    ],
)
def test_and_for_those_who_send_it(sent, accept, kind) -> None:
    request = RequestFactory().post("/", "{}", content_type=sent, headers={"accept": accept})
    middleware = VaultErrorMiddleware(lambda request: HttpResponse())
    assert middleware.process_exception(request, VaultRefused("x"))["Content-Type"] == kind


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_no_client_is_told_more_than_that(accept) -> None:
    error = VaultRefused(
        "testapp.Patient.ssn (pk=4711): no. Host: vault.example.com.", alias="internal", status=401, request_id="req_9"
    )
    content = answer(error, accept=accept).content.decode()
    assert not any(word in content for word in ("4711", "Patient", "vault.example.com", "internal", "req_9", "401"))


def test_a_project_has_a_page_of_its_own(settings, tmp_path) -> None:
    (tmp_path / "vault_fields").mkdir()
    (tmp_path / "vault_fields" / "vault_error.html").write_text("{{ status }} {{ code }}: {{ reason }}")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    page = answer(KeyRevoked("x")).content.decode()
    assert page == "403 key_revoked: The key for this was withdrawn by its owner."


@pytest.mark.parametrize("engines", ["none", "without the templates of apps"])
def test_a_project_without_templates_has_the_page_too(settings, engines) -> None:
    settings.TEMPLATES = [] if engines == "none" else [{**settings.TEMPLATES[0], "APP_DIRS": False}]
    assert "<h1>Not available</h1>" in answer(KeyRevoked("x")).content.decode()


def test_it_stands_in_a_chain_of_coroutines_without_a_thread() -> None:
    async def inner(request):
        return HttpResponse(status=HTTPStatus.NO_CONTENT)

    middleware = VaultErrorMiddleware(inner)
    assert iscoroutinefunction(middleware)
    assert asyncio.run(middleware(RequestFactory().get("/"))).status_code == HTTPStatus.NO_CONTENT
