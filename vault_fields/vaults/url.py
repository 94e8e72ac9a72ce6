"""``vault_config``: one entry of ``VAULTS`` from a URL, as django-environ's users write databases and caches."""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from vault_fields.runtime.frames import forgetful
from vault_fields.text.naming import named

__all__ = ["vault_config"]

LOCAL = "vault_fields.backends.local.LocalVault"
MEMORY = "vault_fields.backends.memory.InMemoryVault"
OPENBAO = "vault_fields.backends.openbao.OpenBaoVault"
WORKOS = "vault_fields.backends.workos.WorkOSVault"

# Narrower than Env, which takes every unknown word for false.
BOOLEANS = {"true", "1", "false", "0"}

# Options that have their own place in a URL, or must not be in one: query strings end up in logs and process lists.
NOT_IN_QUERY = {
    "addresses": "the host stands after the @, and several go beside the URL as addresses=[…]",
    "alias": "the alias is the key of the entry in VAULTS",
    "api_key": "the API key stands before the host: workos://:KEY@HOST",
    "base_url": "the host stands after the @: workos://:KEY@HOST",
    "former_root_keys": "root keys must not be part of a URL; give them as former_root_keys=[…] beside the URL",
    "mount": "the mount stands after the host: openbao://TOKEN@HOST:8200/transit",
    "path": "the path stands after the scheme: local:///absolute/path.sqlite3",
    "role_id": "AppRole credentials stand before the host: openbao://ROLE_ID:SECRET_ID@HOST:8200",
    "root_key": "a root key must not be part of a URL; give it as root_key=env(…) beside the URL",
    "secret_id": "AppRole credentials stand before the host: openbao://ROLE_ID:SECRET_ID@HOST:8200",
    "token": "the token stands before the host: openbao://TOKEN@HOST:8200",
}


@forgetful
def vault_config(url: str, **options: Any) -> dict[str, Any]:
    """
    Return the entry of ``VAULTS`` for a URL; ``options`` are added to its ``OPTIONS``.

    ``local:///absolute/path.sqlite3``, ``memory://``, ``workos://:sk_KEY@api.workos.com`` (the host may be left out),
    ``openbao://TOKEN@HOST:8200/mount`` or ``openbao://ROLE_ID:SECRET_ID@HOST:8200``; over https, or with ``+http``
    behind the name over plain http. Further options follow as a query string: ``?timeout=2.5``. Characters that mean
    something in a URL are percent-encoded where they belong to a key or a path.

    A URL that cannot be used raises ``ImproperlyConfigured``, which never quotes it: it may hold a key.
    """
    parts = _split(url)
    if parts.scheme not in SCHEMES:
        raise _invalid(f"the scheme must be one of {', '.join(SCHEMES)}.")
    if parts.fragment:
        raise _invalid("it has a fragment. Write a # that belongs to a key or a path as %23.")
    backend, read = SCHEMES[parts.scheme]
    found = read(parts) | _options_in_query(parts.query, backend)
    if twice := sorted(found.keys() & options.keys()):
        raise _invalid(f"{', '.join(twice)} is given in the URL and beside it.")
    if backend == WORKOS and "api_key" not in found and "api_key" not in options:
        raise _invalid(
            "the API key is missing. Write workos://:sk_KEY@api.workos.com, or give api_key=env(…) beside the URL."
        )
    return {"BACKEND": backend, "OPTIONS": {**found, **options}}


@forgetful
def _split(url: object) -> SplitResult:
    if not isinstance(url, str):
        raise _invalid(f"it must be a string, not {type(url).__name__}.")
    if not url.isprintable() or url != url.strip():
        # urlsplit() would drop some of these silently and so change a key.
        raise _invalid("it has spaces around it or control characters in it.")
    parts = None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - a port that is not a number is found out on access only.
    except ValueError:
        parts = None
    if parts is None:
        # Raised here and not above, because the ValueError would quote the URL.
        raise _invalid("it is not a valid URL. Percent-encode special characters in the key.")
    return parts


@forgetful
def _read_local(parts: SplitResult) -> dict[str, Any]:
    # A relative path is ambiguous: two processes started in two directories would each make a keystore.
    if parts.netloc or not parts.path.startswith("/") or not parts.path.strip("/"):
        raise _invalid("the path must be absolute, with three slashes: local:///srv/vault.sqlite3.")
    return {"path": unquote(parts.path)}


@forgetful
def _read_memory(parts: SplitResult) -> dict[str, Any]:
    if parts.netloc or parts.path:
        raise _invalid("memory:// takes no host and no path.")
    return {}


@forgetful
def _read_workos(parts: SplitResult) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if parts.username:
        raise _invalid("the API key goes after a colon: workos://:sk_KEY@api.workos.com.")
    if parts.password:
        options["api_key"] = unquote(parts.password)
    if parts.hostname:
        options["base_url"] = f"{_origin(parts)}{parts.path.rstrip('/')}"
    elif parts.scheme == "workos+http" or parts.port is not None or parts.path.strip("/"):
        raise _invalid("the host is missing.")
    return options


@forgetful
def _read_openbao(parts: SplitResult) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if parts.password:
        options |= {"role_id": unquote(parts.username or ""), "secret_id": unquote(parts.password)}
    elif parts.username:
        options["token"] = unquote(parts.username)
    if parts.hostname:
        options["addresses"] = [_origin(parts)]
    elif parts.scheme == "openbao+http" or parts.port is not None:
        raise _invalid("the host is missing.")
    if mount := unquote(parts.path).strip("/"):
        options["mount"] = mount
    return options


def _origin(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port is None else f":{parts.port}"
    return f"{'http' if parts.scheme.endswith('+http') else 'https'}://{host}{port}"


SCHEMES: Mapping[str, tuple[str, Callable[[SplitResult], dict[str, Any]]]] = {
    "local": (LOCAL, _read_local),
    "memory": (MEMORY, _read_memory),
    "openbao": (OPENBAO, _read_openbao),
    "openbao+http": (OPENBAO, _read_openbao),
    "workos": (WORKOS, _read_workos),
    "workos+http": (WORKOS, _read_workos),
}


@forgetful
def _options_in_query(query: str, backend: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    pairs = parse_qsl(query, keep_blank_values=True)
    known = _option_types(import_string(backend)) if pairs else {}
    for name, text in pairs:
        if name in NOT_IN_QUERY:
            raise _invalid(f"{name} cannot stand in the query string: {NOT_IN_QUERY[name]}.")
        if name not in known:
            # Behind a stray "?" it could be a part of the key.
            raise _invalid(
                f"unknown option {named(name)}. {backend.rpartition('.')[2]} has: {', '.join(sorted(known))}."
            )
        if name in options:
            raise _invalid(f"{name} is given twice.")
        options[name] = _convert(name, text, known[name])
    return options


def _option_types(backend: type) -> dict[str, Any]:
    """
    Return the options that can be written as text, with their types: the keywords of all constructors in the ancestry.
    """
    found: dict[str, Any] = {}
    for ancestor in reversed(backend.__mro__[:-1]):
        if (constructor := vars(ancestor).get("__init__")) is None:
            continue
        hints = get_type_hints(constructor)
        for parameter in inspect.signature(constructor).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in NOT_IN_QUERY:
                found[parameter.name] = hints.get(parameter.name, str)
    return found


def _convert(name: str, text: str, hint: Any) -> Any:
    kinds = set(get_args(hint)) - {NoneType} if get_origin(hint) in (Union, UnionType) else {hint}
    if bool in kinds:
        if text.lower() not in BOOLEANS:
            raise _invalid(f"{name} must be true or false.")
        return _parsed(text, bool)
    if kinds & {int, float}:
        return _number(name, text, whole=float not in kinds)
    if kinds & {str, Path}:
        return text
    raise _invalid(f"{name} cannot be written in a URL; give it as {name}=… beside the URL.")


def _number(name: str, text: str, *, whole: bool) -> Any:
    # Narrower than Env, whose int() takes underscores and white space, and whose float ignores letters.
    if re.fullmatch(r"[0-9]{1,15}", text):
        return _parsed(text, int)
    if whole or not re.fullmatch(r"[0-9]{1,15}\.[0-9]{1,15}", text):
        raise _invalid(f"{name} must be a {'whole ' if whole else ''}number.")
    return _parsed(text, float)


def _parsed(text: str, kind: type) -> Any:
    """Return the value that django-environ reads in ``text``, as it does for a variable of the environment."""
    # Imported where a URL has options: most have none, and every import of a field imports this module.
    from environ import Env

    return Env.parse_value(text, kind)


def _invalid(reason: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"VAULT_URL: {reason}")
