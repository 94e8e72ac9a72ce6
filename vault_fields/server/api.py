"""The HTTP API of an embedded Vault: its callers, their environments, and the answers to failures."""

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.http import HttpRequest, JsonResponse, RawPostDataException

from vault_fields.embedded.customer.provider import ProviderRefused
from vault_fields.embedded.events.event import acting_as
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.errorcodes import KEY_AWAY_BODY, KEY_AWAY_STATUS, REVOKED_BODY, REVOKED_STATUS
from vault_fields.exceptions import (
    KeyContextError,
    KeyRevoked,
    KeyUnavailable,
    ObjectConflict,
    ObjectMissing,
    ValueRefused,
    VaultRefused,
    VaultUnavailable,
)
from vault_fields.runtime.frames import forget
from vault_fields.server.accesslog import log_access
from vault_fields.server.apikeys import ApiKey, ApiKeys
from vault_fields.server.bodies import Rejected
from vault_fields.server.calls import Answer, Call
from vault_fields.server.routes import Probe, Route

__all__ = ["VaultApi", "new_request_id", "refusal", "safely"]

logger = logging.getLogger("vault_fields.server")

MAX_DRAINED_BYTES = 1024 * 1024

# The part of the vault's timeout that customers' providers have. A client with the same timeout, which is the default,
# is told that one of them did not answer, rather than left to believe that the vault is away.
PATIENCE = 3 / 4


class VaultApi:
    """
    An embedded Vault and the API keys that may call it, each in its environment.

    ``record_key_events`` says whether an event is recorded for every data key that is handed out.
    """

    def __init__(self, vault: EmbeddedVault, api_keys: ApiKeys, *, record_key_events: bool = True) -> None:
        self._vault = vault
        self._api_keys = api_keys
        self._record_key_events = record_key_events

    def admit(self, request: HttpRequest) -> ApiKey | None:
        return self._api_keys.admit(request.META.get("HTTP_AUTHORIZATION"))

    def require_ready(self) -> None:
        """Check the keystore, and open it if it is not open. Raises what a call would raise that it cannot answer."""
        self._vault.unlock()
        self._vault.store.mark()

    def answer(self, request: HttpRequest, key: ApiKey, route: Route, path: Mapping[str, str]) -> JsonResponse:
        operation = route.operations.get(request.method or "")
        if operation is None:
            return _not_allowed(route.operations)
        vault = self._vault.for_environment(
            key.environment, record_key_events=self._record_key_events, patience=PATIENCE
        )
        try:
            with acting_as(key.actor):
                return respond(operation(Call(vault, request, path)))
        except Rejected as rejected:
            return refusal(rejected.status, rejected.reason)
        except (KeyContextError, ValueRefused) as error:
            return refusal(422, str(error))
        except ObjectMissing:
            return refusal(404, "There is no such object.")
        except ObjectConflict as error:
            return refusal(409, str(error))
        except KeyRevoked:
            return respond(Answer(REVOKED_BODY, REVOKED_STATUS))
        except ProviderRefused:
            raise
        except VaultRefused:
            return refusal(400, "The encrypted keys do not open in this vault.")
        except SuspiciousOperation:
            # Django raises it for more parameters than it reads, and similar faults.
            return refusal(400, "The request is malformed.")


def safely(
    api: Callable[[], VaultApi], request: HttpRequest, route: Route | Probe | None, path: Mapping[str, str]
) -> JsonResponse:
    """
    Return the answer of an API, whatever happens: a failure on this side is logged, and only its kind is answered.

    Without this Django's debug page would show the local variables, and with them data keys.
    """
    started = time.perf_counter()
    request_id = new_request_id()
    key: ApiKey | None = None
    built: VaultApi | None = None
    try:
        if isinstance(route, Probe):
            response = _probe(api, request, route)
        else:
            built = api()
            key = built.admit(request)
            # Before anything else: a caller without a key learns nothing about what is here.
            if key is None:
                content = {"message": "Unauthorized", "code": "unauthorized"}
                response = respond(Answer(content, 401), {"WWW-Authenticate": "Bearer"})
            elif route is None:
                response = refusal(404, "There is nothing here.")
            else:
                response = built.answer(request, key, route, path)
    except (VaultUnavailable, ProviderRefused, ImproperlyConfigured) as error:
        logger.error("The vault cannot answer (request %s): %s", request_id, error)  # noqa: TRY400 - it says it all.
        if isinstance(error, KeyUnavailable | ProviderRefused):
            response = respond(Answer(KEY_AWAY_BODY, KEY_AWAY_STATUS))
        else:
            response = refusal(503, "The vault is not available.")
    except Exception as error:
        # Whatever it was, the client gets an answer of the usual shape and no stack. The log has the stack.
        built = None
        forget(error)
        logger.exception("The vault failed (request %s).", request_id)
        response = refusal(500, "The vault failed.")
    response["X-Request-ID"] = request_id
    _drain(request)
    if request.method == "HEAD":
        response.content = b""  # Not every server removes the body. The length stays that of the answer.
    log_access(
        request_id=request_id,
        method=request.method,
        template="" if route is None else route.template,
        key=key,
        status=response.status_code,
        seconds=time.perf_counter() - started,
    )
    return response


def _probe(api: Callable[[], VaultApi], request: HttpRequest, probe: Probe) -> JsonResponse:
    if request.method not in {"GET", "HEAD"}:
        return _not_allowed(["GET", "HEAD"])
    # A process with a wrong setting is alive. A container would otherwise restart it, which does not help.
    if probe.asks_vault:
        api().require_ready()
    return respond(Answer({"status": "ok"}))


def _drain(request: HttpRequest) -> None:
    """Read what is left of a body: some servers would take it for the beginning of the next request."""
    left = MAX_DRAINED_BYTES
    with suppress(OSError, RawPostDataException):
        while left > 0 and (chunk := request.read(min(left, 65536))):
            left -= len(chunk)


def new_request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


def _not_allowed(methods: Iterable[str]) -> JsonResponse:
    allowed = ", ".join(sorted(methods))
    return refusal(405, f"Only {allowed.replace(', ', ' and ')} is allowed here.", {"Allow": allowed})


def refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> JsonResponse:
    return respond(Answer({"error": reason}, status), headers)


def respond(answer: Answer, headers: Mapping[str, str] | None = None) -> JsonResponse:
    response = JsonResponse(answer.content, status=answer.status, headers=dict(headers or {}))
    response["Content-Length"] = str(len(response.content))
    response["Cache-Control"] = "no-store"
    return response
