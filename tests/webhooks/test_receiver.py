"""Webhooks as WorkOS sends them: who is believed, and what is forgotten because of them."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings
from django.urls import include, path
from workos.webhooks import Webhooks

from vault_fields.backends.memory import InMemoryVault
from vault_fields.keys import KeyContext
from vault_fields.vaults import vaults
from vault_fields.webhooks.configuration import webhook_settings
from vault_fields.webhooks.verification import is_signed

urlpatterns = [path("webhooks/vault/", include("vault_fields.webhooks.urls"))]

SECRET = "whsec_of_the_tests_long"
ORGANIZATION = "org_01EHT88Z8J8795GZNQ4ZP1J81T"
DELETED = "vault.byok_key.deleted"
VERIFICATION = "vault.byok_key.verification_completed"
MEMORY = {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}


@pytest.fixture(autouse=True)
def project(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [
        "django.middleware.common.CommonMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    settings.VAULT_WEBHOOKS = {"secrets": [SECRET]}
    settings.VAULTS = {"default": MEMORY, "second": MEMORY, "never built": MEMORY}
    cache.clear()
    yield
    cache.clear()


def event(name: str = DELETED, number: int = 1, **data: Any) -> bytes:
    content = {
        "id": f"event_{number:026}",
        "event": name,
        "data": {"organization_id": ORGANIZATION, "key_provider": "AWS_KMS", **data},
        "created_at": "2026-01-01T00:00:00.000Z",
        "object": "event",
    }
    return json.dumps(content).encode()


def sign(body: bytes, secret: str = SECRET, age: float = 0) -> str:
    """As WorkOS documents it; written without a look at what verifies it."""
    milliseconds = str(int((time.time() - age) * 1000))
    digest = hmac.new(secret.encode(), f"{milliseconds}.{body.decode()}".encode(), hashlib.sha256)
    return f"t={milliseconds}, v1={digest.hexdigest()}"


def deliver(body: bytes, signature: str | None = None, **options: Any) -> Any:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    headers = {"WorkOS-Signature": sign(body) if signature is None else signature, **options.pop("headers", {})}
    return client.post("/webhooks/vault/", body, "application/json", headers=headers, **options)


def cached(alias: str, **items: str) -> tuple[InMemoryVault, str]:
    vault = vaults[alias]
    assert isinstance(vault, InMemoryVault)
    return vault, vault.create_data_key(KeyContext(items)).encrypted_keys


def held(entry: tuple[InMemoryVault, str]) -> bool:
    vault, encrypted_keys = entry
    return vault.cache.get(encrypted_keys) is not None


@pytest.mark.parametrize(
    "body",
    [event(), event(VERIFICATION, verified=False), event(VERIFICATION), event(VERIFICATION, verified="yes")],
    ids=["deleted", "not verified", "no word of it", "no boolean"],
)
def test_withdrawn_key_is_forgotten_in_all_vaults_and_no_other_is(body: bytes) -> None:
    gone = [
        cached("default", organization_id=ORGANIZATION),
        cached("default", organization_id=ORGANIZATION, purpose="care"),
        cached("second", organization_id=ORGANIZATION),
    ]
    stays = [cached("default", organization_id="org_other"), cached("second", purpose=ORGANIZATION)]

    response = deliver(body)

    assert (response.status_code, response.json()) == (200, {"handled": True})
    assert not any(map(held, gone))
    assert all(map(held, stays))
    assert "never built" not in vaults._vaults


@pytest.mark.parametrize(
    "body", [event(VERIFICATION, verified=True), event("user.created"), event("vault.kek.deleted", organization_id=1)]
)
def test_other_events_are_accepted_and_change_nothing(body: bytes) -> None:
    entry = cached("default", organization_id=ORGANIZATION)

    assert deliver(body).json() == {"handled": False}
    assert held(entry)


@override_settings(VAULT_WEBHOOKS={"secrets": [SECRET], "item_name": "tenant"})
def test_name_of_the_item_can_be_chosen() -> None:
    gone, stays = cached("default", tenant=ORGANIZATION), cached("default", organization_id=ORGANIZATION)

    deliver(event())

    assert (held(gone), held(stays)) == (False, True)


def test_replay_does_nothing_and_a_repetition_is_accepted() -> None:
    """WorkOS repeats, with a new signature, what it thinks is lost: a refusal would only make it go on."""
    body = event()
    first = sign(body, age=1)
    assert deliver(body, first).json() == {"handled": True}
    entry = cached("default", organization_id=ORGANIZATION)

    for signature in (first, sign(body)):
        response = deliver(body, signature)
        assert (response.status_code, response.json()) == (200, {"handled": False})
    assert held(entry)
    assert deliver(event(number=2)).json() == {"handled": True}
    assert not held(entry)


def test_event_on_which_acting_failed_counts_when_it_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = cached("default", organization_id=ORGANIZATION)

    def fail(*args: object) -> int:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(InMemoryVault, "purge", fail)
        assert deliver(event()).status_code == 500
    assert held(entry)
    assert deliver(event()).json() == {"handled": True}
    assert not held(entry)


@pytest.mark.parametrize("age", [181, -181, 100_000])
def test_signature_out_of_its_time_is_refused(age: float) -> None:
    assert deliver(event(), sign(event(), age=age)).status_code == 400


@pytest.mark.parametrize("age", [170, -170])
def test_signature_within_its_time_is_believed(age: float) -> None:
    assert deliver(event(), sign(event(), age=age)).status_code == 200


WRONG_SIGNATURES: dict[str, Callable[[str], str]] = {
    "missing": lambda good: "",
    "nonsense": lambda good: "nonsense",
    "empty": lambda good: "t=, v1=",
    "another secret": lambda good: sign(event(), "another secret, long too"),
    "another body": lambda good: sign(event(number=2)),
    "upper case": str.upper,
    "cut short": lambda good: good[:-1],
    "too long": lambda good: good + "0",
    "spaced": lambda good: good.replace("t=", "t= "),
    "twice": lambda good: f"{good}, {good}",
    "not ASCII": lambda good: "t=1, v1=" + "é" * 64,
    "a number without end": lambda good: "t=" + "9" * 400 + ", v1=" + "0" * 64,
}


@pytest.mark.parametrize("wrong", WRONG_SIGNATURES.values(), ids=WRONG_SIGNATURES)
def test_wrong_signature_is_refused_in_one_way(wrong: Callable[[str], str]) -> None:
    entry = cached("default", organization_id=ORGANIZATION)

    response = deliver(event(), wrong(sign(event())))

    assert (response.status_code, response.json()) == (400, {"error": "The signature does not fit."})
    assert held(entry)


def test_moment_of_signing_is_signed() -> None:
    signature = sign(event(), age=400)
    now = str(int(time.time() * 1000))

    assert deliver(event(), f"t={now}, {signature.partition(', ')[2]}").status_code == 400


@override_settings(VAULT_WEBHOOKS={"secrets": ["the former secret", SECRET]})
def test_secret_can_be_changed_without_a_gap() -> None:
    assert deliver(event(), sign(event(), "the former secret")).json() == {"handled": True}
    assert deliver(event(number=2)).json() == {"handled": True}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"id": "e", "event": "x"}',
        b'{"id": "e", "event": 1, "data": {}}',
        b'{"id": "e\\n", "event": "x", "data": {}}',
        b'{"id": 1, "event": "x", "data": {}}',
        b"[" * 50_000,
        event(organization_id=None),
        event(organization_id="org\nfaked log line"),
        event(organization_id="o" * 129),
    ],
)
def test_signed_body_that_is_no_event_is_refused(body: bytes) -> None:
    response = deliver(body)

    assert (response.status_code, response.json()) == (400, {"error": "The body is not an event."})


def test_body_that_is_not_text_is_refused() -> None:
    body, milliseconds = b"\xff", str(int(time.time() * 1000))
    digest = hmac.new(SECRET.encode(), milliseconds.encode() + b"." + body, hashlib.sha256).hexdigest()

    assert deliver(body, f"t={milliseconds}, v1={digest}").json() == {"error": "The body is not an event."}


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Length": "100000000"}, {"Content-Length": "x"}], ids=["long", "announced", "no number"]
)
def test_body_beyond_its_bound_is_refused(headers: dict[str, str]) -> None:
    body = event() if headers else event(padding="x" * 70_000)

    assert deliver(body, headers=headers).status_code == 413


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10)
def test_lower_limit_of_the_project_is_kept() -> None:
    assert deliver(event()).status_code == 413


def test_body_whose_length_was_not_announced_is_bounded_too(rf: Any) -> None:
    from vault_fields.webhooks.receiver import receive

    body = event(padding="x" * 70_000)
    request = rf.post("/", body, "application/json", headers={"WorkOS-Signature": sign(body)})
    request._body = body
    request.META.pop("CONTENT_LENGTH")

    assert receive(request).status_code == 413


def test_other_methods_are_refused() -> None:
    response = Client().get("/webhooks/vault/")

    assert (response.status_code, response["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (None, "must be a dict"),
        ({}, "secrets must be a list"),
        ({"secrets": []}, "secrets must be a list"),
        ({"secrets": SECRET}, "secrets must be a list"),
        ({"secrets": [SECRET, ""]}, "of at least 16 characters"),
        ({"secrets": [SECRET, None]}, "of at least 16 characters"),
        ({"secrets": [SECRET, "whsec_from_the_dashboard"]}, "one of secrets is a placeholder"),
        ({"secrets": [SECRET], "secret": "x"}, "must be a dict of secrets, item_name, tolerance and cache"),
        ({"secrets": [SECRET], "item_name": ""}, "item_name must be the name"),
        ({"secrets": [SECRET], "item_name": 1}, "item_name must be the name"),
        ({"secrets": [SECRET], "tolerance": 0}, "tolerance must be 1 to 3600"),
        ({"secrets": [SECRET], "tolerance": True}, "tolerance must be 1 to 3600"),
        ({"secrets": [SECRET], "tolerance": "180"}, "tolerance must be 1 to 3600"),
        ({"secrets": [SECRET], "cache": "missing"}, "cache must be an alias in CACHES"),
    ],
)
def test_wrong_setting_is_503_and_named_in_the_log(
    setting: object, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(VAULT_WEBHOOKS=setting):
        response = deliver(event())
        with pytest.raises(ImproperlyConfigured, match=message):
            webhook_settings()

    assert (response.status_code, response.json()) == (503, {"error": "Webhooks are not configured."})
    assert message in caplog.text
    assert SECRET not in caplog.text


def test_project_without_the_setting_believes_nobody(settings: Any) -> None:
    del settings.VAULT_WEBHOOKS

    assert deliver(event()).status_code == 503


def test_settings_do_not_show_the_secrets() -> None:
    assert SECRET not in repr(webhook_settings())


@pytest.mark.parametrize("body", [event(), event(VERIFICATION, verified=False), b'{"data": "\xc3\xa9"}'])
def test_official_sdk_believes_what_we_believe(body: bytes) -> None:
    """The peer verifies only; both must agree on what is signed and what is not."""
    official = Webhooks(client=None)  # type: ignore[arg-type]
    now = time.time()
    good = sign(body)
    for signature, secret in [
        (good, SECRET),
        (sign(body, age=179), SECRET),
        (sign(body, age=182), SECRET),
        (sign(body, age=-182), SECRET),
        (sign(body, "another secret, long too"), SECRET),
        (good[:-1] + ("0" if good[-1] != "0" else "1"), SECRET),
        (sign(body + b" "), SECRET),
    ]:
        try:
            official.verify_header(event_body=body, event_signature=signature, secret=secret)
        except ValueError:
            theirs = False
        else:
            theirs = True
        assert is_signed(signature, body, [secret], now=now, tolerance=180) is theirs, signature


def test_official_sdk_reads_the_events_that_the_embedded_vault_records() -> None:
    official = Webhooks(client=None)  # type: ignore[arg-type]
    body = event(VERIFICATION, verified=False, key_provider="OPENBAO_TRANSIT")

    parsed = official.verify_event(event_body=body, event_signature=sign(body), secret=SECRET)

    assert parsed.data.verified is False  # type: ignore[union-attr]
    assert parsed.data.organization_id == ORGANIZATION  # type: ignore[union-attr]
