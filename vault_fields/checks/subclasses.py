"""Finding the subclasses that a project has derived from classes of other packages, as far as they are imported."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage
from django.urls import get_resolver

from vault_fields.checks.guarded import guarded

__all__ = ["import_views", "subclasses"]


def import_views() -> Iterator[CheckMessage]:
    """
    Import everything that the URLs of the project lead to: views, and the serializers, schemas and filters they use.

    Django's own check of URLs imports them too, before or after this one, and not at all with ``check --tag``.
    """
    if getattr(settings, "ROOT_URLCONF", None):
        yield from guarded(_import_urls, get_resolver(), f"What {settings.ROOT_URLCONF} leads to")


def _import_urls(resolver: Any) -> list[CheckMessage]:
    _ = resolver.url_patterns
    return []


def subclasses(cls: Any) -> Iterator[Any]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)
