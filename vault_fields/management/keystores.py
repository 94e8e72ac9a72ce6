"""The base of the commands that work on the keystore of an embedded Vault."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from vault_fields.backends.embedded import EmbeddedBackend
from vault_fields.embedded.vault import EmbeddedVault
from vault_fields.exceptions import VaultError, VaultFieldsError
from vault_fields.runtime.frames import forgetful
from vault_fields.runtime.progress import Progress, progress_bar, silent
from vault_fields.server.configuration import configured_environments
from vault_fields.vaults import DEFAULT_VAULT_ALIAS, vaults

__all__ = [
    "KeystoreCommand",
    "interruption_told",
    "item_of",
    "known_names",
    "require_environment",
    "require_meant",
    "shown",
]


class KeystoreCommand(BaseCommand):
    """A command that takes the alias of an embedded vault."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--vault", default=DEFAULT_VAULT_ALIAS, help="The alias in VAULTS (default: %(default)s).")

    @forgetful
    def execute(self, *args: Any, **options: Any) -> Any:
        with interruption_told():
            return super().execute(*args, **options)

    def embedded(self, alias: str) -> EmbeddedBackend:
        vault = vaults[alias]
        if not isinstance(vault, EmbeddedBackend):
            raise CommandError(f"Only an embedded vault has a keystore, and {alias!r} is {vault!r}.")
        return vault

    def progress(self) -> Progress:
        """Return a progress bar on a terminal, unless the report goes there too and the two would mix."""
        return silent if self.stdout.isatty() else progress_bar

    @contextmanager
    def failures_told(self, alias: str) -> Iterator[None]:
        """Turn errors into those of a command, with the alias. The embedded Vault does not know its own alias."""
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


@contextmanager
def interruption_told() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        # The status of a process that SIGINT ended, for scripts that run this.
        raise CommandError("Interrupted. Finished work stays; the command can be run again.", returncode=130) from None


def require_environment(vault: EmbeddedVault, environment: str) -> None:
    """
    Refuse an environment in which nothing was ever encrypted, and to which no API key belongs.

    A mistyped name would otherwise report on, or close, an environment that nobody uses.
    """
    known = {vault.environment, *vault.store.environments(), *configured_environments()}
    if environment not in known:
        near = get_close_matches(environment, sorted(known), n=3)
        raise CommandError(
            f"There is no environment {environment!r} in this vault. "
            + (f"Did you mean {' or '.join(near)}?" if near else f"It has {', '.join(sorted(known))}.")
        )


def known_names(vault: EmbeddedVault, name: str) -> str:
    """Return help for a mistyped item: the names of known items. Models spell names out; values may be anything."""
    names = vault.keks.names()
    if name in names or not names:
        return "Values are compared exactly; `vault_kek list` shows those that have a key."
    near = get_close_matches(name, names, n=3) or names[:10]
    return f"Items that have a key are called {', '.join(map(shown, near))}."


def require_meant(
    action: str, options: Mapping[str, Any], meant: Collection[str], all_options: Collection[str]
) -> None:
    """Refuse options that the action does not use: a person who writes them expects an effect."""
    given = [name for name in all_options if name not in meant and options[name] not in (None, False, [])]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise CommandError(f"{flags} means nothing for {action}. Leave it out.")


def item_of(text: str) -> tuple[str, str]:
    """Return the context item of NAME=VALUE. A backslash in the name escapes an equals sign or a backslash."""
    match = re.fullmatch(r"((?:[^=\\]|\\.)+)=(.*)", text, re.DOTALL)
    if match is None:
        # It is not shown: it may be a key.
        raise CommandError("A context item is written NAME=VALUE, with \\= for an = in the name. The argument is not.")
    return re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL), match[2]


def shown(text: str) -> str:
    """Return a name or value as it is, unless it could be taken for other output, or for commands to the terminal."""
    return text if text.isprintable() else ascii(text)
