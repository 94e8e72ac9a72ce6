"""The output formats of commands: sentences for people, or JSON for programs."""

import json
from typing import Any

from django.core.management.base import CommandParser

__all__ = ["FORMATS", "add_format", "as_json"]

FORMATS = ["text", "json"]


def add_format(parser: CommandParser, applies: str = "") -> None:
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help=f"The format of the report: sentences, or one JSON document{applies} (default: %(default)s).",
    )


def as_json(found: Any) -> str:
    """Return one JSON document. Primary keys of rows, and other values that JSON does not have, become texts."""
    return json.dumps(found, indent=2, ensure_ascii=False, default=str)
