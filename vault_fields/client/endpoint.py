"""The endpoint of a Vault: address, credentials, TLS and proxies, fixed before the first call."""

import functools
import ipaddress
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import httpx
from django.core.exceptions import ImproperlyConfigured

from vault_fields.client.budget import Budget
from vault_fields.client.connections import LIMITS
from vault_fields.client.failures import Answers, Judge, Reading, judge_vault, only_200
from vault_fields.client.retry import Tries
from vault_fields.exceptions import VaultThrottled
from vault_fields.runtime.frames import forgetful, forgetful_class

__all__ = ["Endpoint", "address_fault", "is_loopback"]

C = TypeVar("C", httpx.Client, httpx.AsyncClient)


@forgetful_class
class Endpoint:
    """
    A Vault's address, and the headers that carry its credentials: never shown, and sent nowhere else.

    Redirects are not followed, and plain http is refused beyond this machine. The environment's proxies and
    certificates (``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``) count for https only: over plain http a proxy would
    read the token. ``.netrc`` is never read.

    Several addresses are those of one Vault: the one that answered last is asked first. ``headers`` may be a function,
    which is called for each try. ``judge`` knows the meaning of failures of this kind of server, and ``answers`` tells
    which of them are none. ``ca_file`` has the certificates to trust instead of the system's. ``option`` is the name
    of the address in messages, and ``label`` that of its owner, where it is no entry of ``VAULTS``. ``budget`` bounds
    the calls in a minute.
    """

    def __init__(
        self,
        base_url: str | Sequence[str],
        *,
        alias: str | None = None,
        label: str | None = None,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]],
        judge: Judge = judge_vault,
        answers: Answers = only_200,
        ca_file: str | None = None,
        option: str = "base_url",
        budget: Budget | None = None,
    ) -> None:
        self.alias = alias
        self.label = label or f"VAULTS[{alias!r}]"
        self._judge = judge
        self._answers = answers
        addresses = [base_url] if isinstance(base_url, str) or not isinstance(base_url, Sequence) else base_url
        self._urls = [_checked(address, self.label, option) for address in addresses]
        self._bases = [str(url).rstrip("/") for url in self._urls]
        self._first = 0
        self._ca_file = ca_file
        self._budget = budget
        own = {
            "Accept": "application/json",
            # A compressed answer could grow far beyond the bytes that are counted as they arrive.
            "Accept-Encoding": "identity",
            "User-Agent": f"django-vault-fields/{_version('django-vault-fields')}",
        }

        def spelled(address: int, has_body: bool) -> httpx.Headers:
            credentials = headers() if callable(headers) else headers
            about = {"Host": self._urls[address].netloc.decode("ascii")}
            if has_body:
                about["Content-Type"] = "application/json"
            return httpx.Headers({**credentials, **own, **about})

        # Credentials that stay the same are spelled once, and kept where nothing shows them.
        self._headers = spelled if callable(headers) else functools.cache(spelled)

    @property
    def host(self) -> str:
        """The host of the first address."""
        return self._urls[0].host

    @property
    def named(self) -> str:
        """The address that is asked first now, as the end of a message."""
        return f" Host: {self.netloc.decode('ascii')}."

    @property
    def netloc(self) -> bytes:
        """The address that is asked first now, with its port if that is not the usual one."""
        return self._urls[self._first].netloc

    @property
    def places(self) -> int:
        """The number of addresses."""
        return len(self._urls)

    def __repr__(self) -> str:
        return f"<Endpoint {self.alias or self.label!r} at {self.host}>"

    def turn(self, tries: Tries) -> float:
        """
        Return the seconds to wait before the next request. Raises ``VaultThrottled`` where that would take too long.
        """
        if self._budget is None:
            return 0.0
        wait, has_turn = self._budget.turn(tries.remaining())
        if has_turn:
            return wait
        raise VaultThrottled(
            f"This process has made as many calls as its max_calls_per_minute allows, and may make the next one in "
            f"{wait:.1f} s, after the deadline of the operation. The Vault was not asked.{self.named}",
            alias=self.alias,
            retry_after=wait,
        )

    def request(self, path: str, payload: Mapping[str, Any] | None, tries: Tries) -> httpx.Request:
        """Build a POST of the payload, or a GET if that is None."""
        first = self._first
        headers = self._headers(first, payload is not None).copy()
        body = b""
        if payload is not None:
            body = json.dumps(payload).encode()
            headers["Content-Length"] = str(len(body))
        return httpx.Request(
            "GET" if payload is None else "POST",
            _joined(self._bases[first], path),
            headers=headers,
            # As a stream it is sent as it is; for ``content`` httpx would look through the headers, and add to them.
            stream=httpx.ByteStream(body),
            extensions={"timeout": _TimeLeft(tries)},
        )

    def reading(self, request: httpx.Request, response: httpx.Response, tries: Tries) -> Reading:
        """Return the reader for the body of the response."""
        host = request.url.netloc.decode("ascii")
        return Reading(response.status_code, response.headers, tries, self._judge, self._answers, host)

    def turn_from(self, netloc: bytes) -> None:
        """Ask the next address from now on, unless another thread has turned from this one already."""
        first = self._first
        # Two threads at once do it once: both assign the same.
        if netloc == self._urls[first].netloc:
            self._first = (first + 1) % len(self._urls)

    def connect(self, kind: type[C]) -> C:
        """Return a client for this endpoint. It opens no connection yet, but reads the certificates to trust."""
        # One address over plain http, which is on this machine, is enough for no proxy to be used for any.
        trust_env = all(url.scheme == "https" for url in self._urls)
        try:
            context = _ssl_context(trust_env, self._ca_file)
            return kind(verify=context, trust_env=trust_env, follow_redirects=False, limits=LIMITS)
        except (ImportError, OSError, ValueError, httpx.InvalidURL):
            # The faulty value is not quoted: a proxy's URL may hold a password.
            also = "" if self._ca_file is None else "in ca_file or "
            named = f"{also}named in the environment (HTTPS_PROXY, SSL_CERT_FILE…)"
            reason = f"the proxies or certificates {named} are unusable."
        raise ImproperlyConfigured(f"{self.label}: {reason}")


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
def _ssl_context(trust_env: bool, ca_file: str | None = None) -> ssl.SSLContext:
    # Reading the certificates takes 20 ms, which is too long for the start of every event loop.
    if ca_file is not None:
        return ssl.create_default_context(cafile=ca_file)
    return httpx.create_ssl_context(trust_env=trust_env)


# Parsing a URL takes longer than anything else about a request.
@functools.lru_cache(maxsize=256)
def _joined(base: str, path: str) -> httpx.URL:
    return httpx.URL(f"{base}{path}")


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def address_fault(address: str) -> str | None:
    """Return the reason why this cannot be the address of a server, as the end of a message; None if it can."""
    return _fault(_parsed(address))


@forgetful
def _checked(base_url: str, label: str, option: str) -> httpx.URL:
    # No message quotes the URL: it may hold a key by mistake.
    url = _parsed(base_url)
    if fault := _fault(url):
        raise ImproperlyConfigured(f"{label}: {option} {fault}")
    return url


def _parsed(address: str) -> httpx.URL:
    try:
        url = httpx.URL(address)
        # The system's resolver would raise this later, on every call.
        url.host.encode("idna")
    except (httpx.InvalidURL, TypeError, UnicodeError):
        return httpx.URL()
    return url


def _fault(url: httpx.URL) -> str | None:
    if url.scheme not in {"http", "https"} or not url.host or (url.port or 1) > 65535:
        return "must be a valid URL that begins with https:// and a host."
    if url.userinfo:
        return "must not hold credentials; they are options of their own."
    if url.query or url.fragment:
        return "must not have a query or a fragment."
    if url.scheme == "http" and not is_loopback(url.host):
        return "must begin with https://. Over plain http, keys and token would cross the network in the clear."
    return None


def is_loopback(host: str) -> bool:
    """Whether plain http to this host stays on this machine. No name is looked up but ``localhost``."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
