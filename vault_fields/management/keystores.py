"""What the commands share that work on the keystore of an embedded Vault."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.exceptions import VaultError, VaultFieldsError
from vault_fields.vaults import DEFAULT_VAULT_ALIAS, vaults

__all__ = ["KeystoreCommand", "item_of", "shown"]


class KeystoreCommand(BaseCommand):
    """A command with the alias of an embedded vault."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--vault", default=DEFAULT_VAULT_ALIAS, help="The alias in VAULTS (default: %(default)s).")

    def embedded(self, alias: str) -> EmbeddedBackend:
        vault = vaults[alias]
        if not isinstance(vault, EmbeddedBackend):
            raise CommandError(f"Only an embedded vault has a keystore, and {alias!r} is {vault!r}.")
        return vault

    @contextmanager
    def failures_told(self, alias: str) -> Iterator[None]:
        """The embedded Vault does not know by what alias it is called, so its errors are completed here."""
        try:
            yield
        except VaultError as error:
            error.alias = alias
            raise CommandError(str(error)) from error
        except ImproperlyConfigured as error:
            prefix = f"VAULTS[{alias!r}]: "
            raise CommandError(prefix + str(error).removeprefix(prefix)) from error
        except (VaultFieldsError, FileExistsError) as error:
            raise CommandError(str(error)) from error


def item_of(text: str) -> tuple[str, str]:
    """A context item from NAME=VALUE. An equals sign, or a backslash, in the name stands behind a backslash."""
    match = re.fullmatch(r"((?:[^=\\]|\\.)+)=(.*)", text, re.DOTALL)
    if match is None:
        raise CommandError(f"{text!r} is not a context item. Write NAME=VALUE, and \\= for an = in the name.")
    return re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL), match[2]


def shown(text: str) -> str:
    """A name or value as it is, unless it could be taken for other output, or for commands to the terminal."""
    return text if text.isprintable() else ascii(text)
