"""``manage.py vault_keystore``: make, back up, restore and upgrade the keystore of an embedded Vault."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError

from vault_fields.audit.places import where_stored
from vault_fields.embedded.database.schema import SCHEMA_VERSION
from vault_fields.management.formats import add_format, as_json
from vault_fields.management.keystores import KeystoreCommand, require_meant
from vault_fields.runtime.frames import forgetful
from vault_fields.text.counting import counted


class Command(KeystoreCommand):
    help = (
        "create: makes a new, empty keystore, once in the life of a project. backup: copies the keystore, while it is "
        "used, into a new file. restore: puts a backup in its place, in one transaction; processes that use it follow "
        "within a second. status: says which schema version it has, and whether this release works with it. upgrade: "
        "brings a keystore of an earlier release up to this one, after a backup; no process may use it meanwhile."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["create", "backup", "restore", "status", "upgrade"])
        parser.add_argument(
            "file",
            nargs="?",
            type=Path,
            help="The backup. upgrade makes it, beside the keystore if none is named; create and status take none.",
        )
        super().add_arguments(parser)
        parser.add_argument(
            "--force",
            action="store_true",
            help="For restore: even if the keystore is newer than the backup, so that keys are lost, or destroyed ones "
            "come back. For create: even if the databases hold values of a keystore that is lost, or do not answer.",
        )
        add_format(parser, ", for status")
        parser.add_argument(
            "--trust-rows",
            action="store_true",
            help="For upgrade: even if the keystore is so old that an edit of its rows cannot be detected.",
        )

    @forgetful
    def handle(self, *args: Any, action: str, file: Path | None, vault: str, **options: Any) -> None:
        if file is None and action in {"backup", "restore"}:
            raise CommandError(f"{action} needs a file.")
        if file is not None and action in {"create", "status"}:
            raise CommandError(f"{action} takes no file.")
        meant = {"create": {"force"}, "restore": {"force"}, "upgrade": {"trust_rows"}}
        require_meant(action, options, meant.get(action, ()), ["force", "trust_rows"])
        if options["format"] != "text" and action != "status":
            raise CommandError(f"--format means nothing for {action}. Leave it out.")
        with self.failures_told(vault):
            path = None if file is None else file.absolute()
            if action == "upgrade":
                self.upgrade(vault, path, options["trust_rows"])
            elif action == "create":
                self.create(vault, options["force"])
            elif path is None:
                self.status(vault, options["format"])
            elif action == "backup":
                self.back_up(vault, path)
            else:
                self.restore(vault, path, options["force"])

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
        """
        Refuse to make a keystore while values of a lost one are stored.

        An entry point that makes a keystore at every start would otherwise hide the loss.
        """
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
                "place, with `manage.py vault_keystore restore FILE` if there is a backup; or add --force to give up "
                "the encrypted values."
            )

    def back_up(self, alias: str, file: Path) -> None:
        snapshot = self.embedded(alias).service.back_up(file, progress=self.progress())
        self.stdout.write(f"{file}: {snapshot}")

    def restore(self, alias: str, file: Path, force: bool) -> None:
        snapshot, losses = self.embedded(alias).service.restore(file, force=force, progress=self.progress())
        self.stdout.write(f"Restored: {snapshot}")
        if losses:
            self.stdout.write(f"By force. {losses}")

    def status(self, alias: str, form: str) -> None:
        service = self.embedded(alias).service
        version = service.schema_version()
        if form == "json":
            versions = {"schema_version": version, "schema_version_of_release": SCHEMA_VERSION}
            self.stdout.write(as_json({"location": str(service.store.location), **versions}))
            return
        note = "as this release has it."
        if version != SCHEMA_VERSION:
            note = (
                f"and this release works with {SCHEMA_VERSION}. Stop the processes that use it, and run `manage.py "
                "vault_keystore upgrade`."
            )
        self.stdout.write(f"{service.store.location}: schema version {version}, {note}")

    def upgrade(self, alias: str, file: Path | None, trust_rows: bool) -> None:
        service = self.embedded(alias).service
        done = service.upgrade(file, trust_rows=trust_rows, progress=self.progress())
        if done.backup is None:
            self.stdout.write(f"Nothing to do: {service.store.location} has schema version {done.after}.")
            return
        self.stdout.write(f"{done.backup}: {done.snapshot}")
        self.stdout.write(f"{service.store.location}: schema version {done.after}, instead of {done.before}.")
        if done.trusted:
            self.stdout.write(
                f"{counted(done.trusted, 'row was tagged as it', 'rows were tagged as they')} stood. Earlier edits "
                "count as authentic from now on: check the states that `vault_kek list` and `vault_byok list` show."
            )
