"""Where a Vault is and how to speak to it: address, credentials, TLS and proxies, fixed before the first call."""

import functools
import ipaddress
import json
import ssl
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import httpx
from django.core.exceptions import ImproperlyConfigured
from django.views.decorators.debug import sensitive_variables

from vault_fields.client.failures import Judge, judge_vault
from vault_fields.client.retry import Tries

__all__ = ["Endpoint"]

C = TypeVar("C", httpx.Client, httpx.AsyncClient)

# Idle connections go before the usual server or load balancer drops them (60 s), which would cost a failed try.
LIMITS = httpx.Limits(max_connections=128, max_keepalive_connections=32, keepalive_expiry=30.0)


class Endpoint:
    """
    A Vault's address, and the headers that carry its credentials: never shown, and sent nowhere else.

    Redirects are not followed, and plain http is refused beyond this machine. The environment's proxies and
    certificates (``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``) count for https only: over plain http a proxy would
    read the token. ``.netrc`` is never read.

    ``judge`` knows what the failures of this kind of server mean.
    """

    @sensitive_variables()
    def __init__(self, base_url: str, *, alias: str, headers: Mapping[str, str], judge: Judge = judge_vault) -> None:
        self.alias = alias
        self.judge = judge
        self._url = _checked(base_url, alias)
        self._headers = {
            **headers,
            "Accept": "application/json",
            # A compressed answer could grow far beyond the bytes that are counted as they arrive.
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": f"django-vault-fields/{_version('django-vault-fields')}",
        }

    @property
    def host(self) -> str:
        return self._url.host

    def __repr__(self) -> str:
        return f"<Endpoint {self.alias!r} at {self.host}>"

    def request(self, path: str, payload: Mapping[str, Any], tries: Tries) -> httpx.Request:
        return httpx.Request(
            "POST",
            f"{str(self._url).rstrip('/')}{path}",
            headers=self._headers,
            content=json.dumps(payload).encode(),
            extensions={"timeout": _TimeLeft(tries)},
        )

    def connect(self, kind: type[C]) -> C:
        """A client for this endpoint. It opens no connection yet, but reads the environment's certificates."""
        trust_env = self._url.scheme == "https"
        try:
            return kind(verify=_ssl_context(trust_env), trust_env=trust_env, follow_redirects=False, limits=LIMITS)
        except (ImportError, OSError, ValueError, httpx.InvalidURL):
            # What is wrong is not quoted: a proxy's URL may hold a password.
            reason = "the proxies or certificates named in the environment (HTTPS_PROXY, SSL_CERT_FILE…) are unusable."
        raise _misconfigured(self.alias, reason)


class _TimeLeft(dict[str, float]):
    """
    httpx's timeouts (``pool``, ``connect``, ``write``, ``read``), each of them the time left when its phase begins.

    Fixed numbers would add up: a slow pool, then a slow connection, then a slow answer, each just within its own.
    """

    def __init__(self, tries: Tries) -> None:
        super().__init__()
        self._tries = tries

    def get(self, phase: str, default: Any = None) -> float:
        # Never 0, which means "do not wait at all" to a socket and fails in other ways.
        return max(self._tries.remaining(), 0.001)


@functools.cache
def _ssl_context(trust_env: bool) -> ssl.SSLContext:
    # Reading the certificates takes 20 ms, which is too long for the start of every event loop.
    return httpx.create_ssl_context(trust_env=trust_env)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


@sensitive_variables()
def _checked(base_url: str, alias: str) -> httpx.URL:
    # No message quotes the URL: it may hold a key by mistake.
    try:
        url = httpx.URL(base_url)
        # The system's resolver would raise this later, on every call.
        url.host.encode("idna")
    except (httpx.InvalidURL, TypeError, UnicodeError):
        url = httpx.URL()
    if fault := _fault(url):
        raise _misconfigured(alias, f"base_url {fault}")
    return url


def _fault(url: httpx.URL) -> str | None:
    if url.scheme not in {"http", "https"} or not url.host or (url.port or 1) > 65535:
        return "must be a valid URL that begins with https:// and a host."
    if url.userinfo:
        return "must not hold credentials; they are options of their own."
    if url.query or url.fragment:
        return "must not have a query or a fragment."
    if url.scheme == "http" and not _is_loopback(url.host):
        return "must begin with https://. Over plain http, keys and token would cross the network in the clear."
    return None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _misconfigured(alias: str, reason: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"VAULTS[{alias!r}]: {reason}")
