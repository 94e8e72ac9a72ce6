"""``vault_config``: what each URL stands for, and that no error ever quotes one."""

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from vault_fields.backends.base import BaseVault
from vault_fields.vaults import url as url_module, vault_config, vaults

LOCAL = "vault_fields.backends.local.LocalVault"
MEMORY = "vault_fields.backends.memory.InMemoryVault"
OPENBAO = "vault_fields.backends.openbao.OpenBaoVault"
WORKOS = "vault_fields.backends.workos.WorkOSVault"
HOST = "https://api.workos.com"


@pytest.mark.parametrize(
    ("url", "backend", "options"),
    [
        ("local:///srv/vault.sqlite3", LOCAL, {"path": "/srv/vault.sqlite3"}),
        ("local:/srv/vault.sqlite3", LOCAL, {"path": "/srv/vault.sqlite3"}),
        ("local:///srv/my%20vault%23.sqlite3", LOCAL, {"path": "/srv/my vault#.sqlite3"}),
        ("local:///Users/A B/vault.sqlite3", LOCAL, {"path": "/Users/A B/vault.sqlite3"}),
        ("local:///srv/v.sqlite3?timeout=2.5", LOCAL, {"path": "/srv/v.sqlite3", "timeout": 2.5}),
        ("memory://", MEMORY, {}),
        ("memory:", MEMORY, {}),
        ("memory://?max_cached_keys=0", MEMORY, {"max_cached_keys": 0}),
        ("workos://:sk_KEY@api.workos.com", WORKOS, {"api_key": "sk_KEY", "base_url": HOST}),
        ("workos://:sk_KEY@", WORKOS, {"api_key": "sk_KEY"}),
        ("WORKOS://:sk_KEY@API.workos.com/", WORKOS, {"api_key": "sk_KEY", "base_url": HOST}),
        ("workos://:s%40k%2F%3A%25@h:8443/a/", WORKOS, {"api_key": "s@k/:%", "base_url": "https://h:8443/a"}),
        ("workos+http://:sk_KEY@127.0.0.1:8000", WORKOS, {"api_key": "sk_KEY", "base_url": "http://127.0.0.1:8000"}),
        ("workos+http://:sk_KEY@[::1]:8000/v", WORKOS, {"api_key": "sk_KEY", "base_url": "http://[::1]:8000/v"}),
        (
            "openbao://s.TOKEN@bao.example:8200",
            OPENBAO,
            {"token": "s.TOKEN", "addresses": ["https://bao.example:8200"]},
        ),
        (
            "openbao://s.TOKEN@bao.example:8200/eu/transit/?namespace=team-a&unwrap=first",
            OPENBAO,
            {
                "token": "s.TOKEN",
                "addresses": ["https://bao.example:8200"],
                "mount": "eu/transit",
                "namespace": "team-a",
                "unwrap": "first",
            },
        ),
        (
            "openbao+http://role:s%2Fecret@127.0.0.1:8200",
            OPENBAO,
            {"role_id": "role", "secret_id": "s/ecret", "addresses": ["http://127.0.0.1:8200"]},
        ),
        (
            "openbao+http://[::1]:8200?token_file=/run/token",
            OPENBAO,
            {"addresses": ["http://[::1]:8200"], "token_file": "/run/token"},
        ),
        (
            "workos://:sk_KEY@?timeout=2&max_retries=1&key_max_age=0.5&max_cached_keys=7&max_concurrency=2",
            WORKOS,
            {
                "api_key": "sk_KEY",
                "timeout": 2,
                "max_retries": 1,
                "key_max_age": 0.5,
                "max_cached_keys": 7,
                "max_concurrency": 2,
            },
        ),
    ],
)
def test_a_url_is_an_entry_of_vaults_that_can_be_built(url, backend, options) -> None:
    entry = vault_config(url)
    assert entry == {"BACKEND": backend, "OPTIONS": options}
    with override_settings(VAULTS={"default": entry}):
        assert isinstance(vaults["default"], BaseVault)


def test_options_beside_the_url_are_added() -> None:
    assert vault_config("workos://", api_key="sk_KEY", timeout=2.5)["OPTIONS"] == {"api_key": "sk_KEY", "timeout": 2.5}


def test_several_addresses_stand_beside_the_url() -> None:
    addresses = ["https://a:8200", "https://b:8200"]
    options = vault_config("openbao://s.TOKEN@", addresses=addresses)["OPTIONS"]
    assert options == {"token": "s.TOKEN", "addresses": addresses}


def test_an_option_in_both_places_is_an_error() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^VAULT_URL: timeout is given in the URL and beside it"):
        vault_config("workos://:sk_KEY@?timeout=1", timeout=2)


def test_with_django_environ(monkeypatch) -> None:
    env = environ.Env()
    monkeypatch.setenv("VAULT_URL", "workos://:sk_KEY@?timeout=3")
    assert vault_config(env("VAULT_URL"))["OPTIONS"] == {"api_key": "sk_KEY", "timeout": 3}
    assert env("VAULT_URL", cast=vault_config) == vault_config(env("VAULT_URL"))
    monkeypatch.delenv("VAULT_URL")
    assert vault_config(env("VAULT_URL", default="local:///srv/v.sqlite3"))["OPTIONS"]["path"] == "/srv/v.sqlite3"


# Every one of these has the word "hidden" where a key or a path could be.
@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "must be a string, not NoneType"),
        (b"workos://:hidden@", "must be a string, not bytes"),
        ("", "scheme must be one of local, memory, openbao, openbao+http, workos, workos+http"),
        ("hidden", "scheme must be one of"),
        ("https://:hidden@api.workos.com", "scheme must be one of"),
        ("workos://:hid\tden@", "spaces around it or control characters"),
        ("workos://:hidden\n@", "spaces around it or control characters"),
        ("workos://:hidden@ ", "spaces around it or control characters"),
        ("workos://:hidden@h#hidden", "has a fragment"),
        ("workos://:hid#den@h", "is not a valid URL"),
        ("workos://:hidden/x@h", "is not a valid URL"),
        ("workos://:hidden@h:port", "is not a valid URL"),
        ("workos://:hidden@h:99999", "is not a valid URL"),
        ("workos://:hidden@[::1", "is not a valid URL"),
        ("workos://:hidden@\u2100", "is not a valid URL"),
        ("workos://hidden@h", "goes after a colon"),
        ("workos://", "the API key is missing"),
        ("workos://:@h", "the API key is missing"),
        ("workos+http://:hidden@", "the host is missing"),
        ("openbao+http://hidden@", "the host is missing"),
        ("openbao://hidden@:8200", "the host is missing"),
        ("openbao://h?token=hidden", "token cannot stand in the query string"),
        ("openbao://h?secret_id=hidden", "secret_id cannot stand in the query string"),
        ("openbao://h?addresses=hidden", "addresses cannot stand in the query string"),
        ("workos://:hidden@:8000", "the host is missing"),
        ("workos://:hidden@/x", "the host is missing"),
        ("memory://hidden", "no host and no path"),
        ("memory:///hidden", "no host and no path"),
        ("local://hidden/v.sqlite3", "must be absolute"),
        ("local:hidden.sqlite3", "must be absolute"),
        ("local:", "must be absolute"),
        ("local:///", "must be absolute"),
        ("local:///hidden?root_key=hidden", "root_key cannot stand in the query string: a root key must not"),
        ("workos://?api_key=hidden", "api_key cannot stand in the query string"),
        ("workos://:hidden@?base_url=hidden", "base_url cannot stand in the query string"),
        ("local:///hidden?path=hidden", "path cannot stand in the query string"),
        ("memory://?alias=hidden", "alias cannot stand in the query string"),
        (
            "workos://:hidden@?tiemout=1",
            "unknown option tiemout. WorkOSVault has: data_key_max_age, data_key_max_uses, key_max_age",
        ),
        ("memory://?2hidden@h", "unknown option (not a word)"),
        ("memory://?key_max_age=1&key_max_age=2", "key_max_age is given twice"),
        ("memory://?key_max_age=", "key_max_age must be a number"),
        ("memory://?key_max_age=hidden", "key_max_age must be a number"),
        ("memory://?key_max_age=nan", "key_max_age must be a number"),
        ("memory://?key_max_age=inf", "key_max_age must be a number"),
        ("memory://?key_max_age=-1", "key_max_age must be a number"),
        ("memory://?max_cached_keys=1.5", "max_cached_keys must be a whole number"),
        ("memory://?max_cached_keys=1_000", "max_cached_keys must be a whole number"),
        ("memory://?max_cached_keys=٣", "max_cached_keys must be a whole number"),
        ("memory://?max_cached_keys=" + "9" * 5000, "max_cached_keys must be a whole number"),
    ],
)
def test_a_bad_url_says_what_is_wrong_and_is_not_quoted(url, says) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        vault_config(url)
    message = str(caught.value)
    assert message.startswith("VAULT_URL: ")
    assert says in message
    assert "hidden" not in message
    assert caught.value.__context__ is None


class TypedVault:
    """The kinds of option that a backend can have."""

    def __init__(
        self,
        *,
        loud: bool = False,
        name: str | None = None,
        most: int | None = None,
        when: tuple[int, int] = (0, 0),
    ) -> None: ...


@pytest.fixture
def typed(monkeypatch) -> None:
    schemes = {"typed": ("tests.test_vault_config.TypedVault", lambda parts: {})}
    monkeypatch.setattr(url_module, "SCHEMES", schemes)


def test_text_becomes_what_the_constructor_asks_for(typed) -> None:
    assert vault_config("typed:?loud=True&name=a%26b&most=3")["OPTIONS"] == {"loud": True, "name": "a&b", "most": 3}
    assert vault_config("typed:?loud=0")["OPTIONS"] == {"loud": False}


@pytest.mark.parametrize(
    ("query", "says"), [("loud=maybe", "loud must be true or false"), ("when=1", "when cannot be written in a URL")]
)
def test_what_text_cannot_say_is_an_error(typed, query, says) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        vault_config(f"typed:?{query}")
