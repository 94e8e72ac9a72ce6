"""The tables of options in the documentation are those of the constructors."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest
from django.test import override_settings

from vault_fields.backends.base import BaseVault
from vault_fields.backends.local import LocalVault
from vault_fields.backends.openbao import OpenBaoVault
from vault_fields.backends.workos import WorkOSVault
from vault_fields.embedded.managed.keyring import KeyRing
from vault_fields.webhooks.configuration import WebhookSettings, webhook_settings

PAGE_OF_THE_EMBEDDED_VAULT = (Path(__file__).parent.parent.parent / "docs" / "embedded-vault.md").read_text("utf-8")
PAGE = (Path(__file__).parent.parent.parent / "docs" / "vaults.md").read_text("utf-8")


def documented(heading: str) -> dict[str, str]:
    rows = PAGE.partition(f"{heading}\n\n")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| `?(.+?)`? \|", rows, re.MULTILINE))


def options(backend: type[BaseVault]) -> dict[str, str]:
    """Those of the class, and of its ancestors up to the one that every backend has."""
    constructors = [each for each in backend.__mro__ if "__init__" in vars(each) and issubclass(each, BaseVault)]
    constructors = constructors[:-1] or constructors  # BaseVault's are in a table of their own.
    return {
        name: "required" if parameter.default is parameter.empty else repr(parameter.default).replace("'", '"')
        for constructor in constructors
        for name, parameter in inspect.signature(constructor).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def test_the_defaults_of_webhooks_are_as_said() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "byok.md").read_text("utf-8")
    table = page.partition("| `VAULT_WEBHOOKS` | default | meaning |\n|---|---|---|\n")[2].partition("\n\n")[0]
    said = dict(re.findall(r"^\| `(\w+)` \| `?(.+?)`? \|", table, re.MULTILINE))
    with override_settings(VAULT_WEBHOOKS={"secrets": ["whsec_long_enough"]}):
        found = {field.name: getattr(webhook_settings(), field.name) for field in fields(WebhookSettings)}
    assert said == {name: str(value) for name, value in {**found, "secrets": "required"}.items()} | {
        name: f'"{found[name]}"' for name in ("item_name", "cache")
    }


@pytest.mark.parametrize(
    ("heading", "backend"),
    [
        ("Every backend has these.", BaseVault),
        ("`LocalVault`:", LocalVault),
        ("`WorkOSVault`:", WorkOSVault),
        ("`OpenBaoVault`:", OpenBaoVault),
    ],
)
def test_every_option_is_documented_with_its_default(heading, backend) -> None:
    assert documented(heading) == options(backend)


def test_so_many_keks_are_held_as_the_page_says() -> None:
    assert f"up to {inspect.signature(KeyRing.__init__).parameters['max_keks'].default:,} and" in (
        PAGE_OF_THE_EMBEDDED_VAULT
    )
