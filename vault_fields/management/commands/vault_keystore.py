"""``manage.py vault_keystore``: make, back up and restore the keystore of an embedded Vault."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError

from vault_fields.frames import forgetful
from vault_fields.management.keystores import KeystoreCommand
from vault_fields.storedkeys import where_stored


class Command(KeystoreCommand):
    help = (
        "create: makes a new, empty keystore, once in the life of a project. backup: copies the keystore, while it is "
        "used, into a new file. restore: puts a backup in its place, in one transaction; processes that use it follow "
        "within a second."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["create", "backup", "restore"])
        parser.add_argument("file", nargs="?", type=Path, help="The backup; create takes none.")
        super().add_arguments(parser)
        parser.add_argument(
            "--force",
            action="store_true",
            help="For restore: even if the keystore is newer than the backup, so that keys are lost, or destroyed ones "
            "come back. For create: even if the databases hold values of a keystore that is lost, or do not answer.",
        )

    @forgetful
    def handle(self, *args: Any, action: str, file: Path | None, vault: str, force: bool, **options: Any) -> None:
        if (file is None) != (action == "create"):
            raise CommandError(f"{action} {'needs a file' if file is None else 'takes no file'}.")
        if force and action == "backup":
            raise CommandError("--force means nothing for backup, which never replaces a file. Leave it out.")
        with self.failures_told(vault):
            if file is None:
                self.create(vault, force)
            elif action == "backup":
                self.back_up(vault, file.absolute())
            else:
                self.restore(vault, file.absolute(), force)

    def create(self, alias: str, force: bool) -> None:
        service = self.embedded(alias).service
        if not force:
            self.require_nothing_stored(alias)
        vault_id = service.create_keystore()
        self.stdout.write(
            f"{service.store.location}: vault {vault_id}, empty. Back it up, now and whenever it has new keys, with "
            "`manage.py vault_keystore backup FILE`: what it encrypts opens with no other keystore."
        )

    def require_nothing_stored(self, alias: str) -> None:
        """An entry point that makes a keystore at every start would undo what it is missed for."""
        try:
            label = where_stored(alias)
        except DatabaseError as error:
            raise CommandError(
                f"Whether the databases hold values of a lost keystore cannot be told ({type(error).__name__}). Once "
                "they answer, run this again; or add --force."
            ) from error
        if label is not None:
            raise CommandError(
                f"{label} holds keys of the vault {alias!r}, which a new keystore cannot open. Put the old one in its "
                "place, with `manage.py vault_keystore restore FILE` if there is a backup; or add --force to go "
                "without what is encrypted."
            )

    def back_up(self, alias: str, file: Path) -> None:
        snapshot = self.embedded(alias).service.back_up(file, progress=self.progress())
        self.stdout.write(f"{file}: {snapshot}")

    def restore(self, alias: str, file: Path, force: bool) -> None:
        snapshot, losses = self.embedded(alias).service.restore(file, force=force, progress=self.progress())
        self.stdout.write(f"Restored: {snapshot}")
        if losses:
            self.stdout.write(f"By force. {losses}")
