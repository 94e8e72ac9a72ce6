"""``manage.py vault_keystore``: back up and restore the keystore of an embedded Vault."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from vault_fields.management.keystores import KeystoreCommand


class Command(KeystoreCommand):
    help = (
        "backup: copies the keystore, while it is used, into a new file. restore: puts a backup in its place, in one "
        "transaction; processes that use it follow within a second."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["backup", "restore"])
        parser.add_argument("file", type=Path, help="The backup.")
        super().add_arguments(parser)
        parser.add_argument(
            "--force",
            action="store_true",
            help="For restore: even if the keystore is newer than the backup, so that keys are lost, or destroyed ones "
            "come back.",
        )

    def handle(self, *args: Any, action: str, file: Path, vault: str, force: bool, **options: Any) -> None:
        file = file.absolute()
        with self.failures_told(vault):
            service = self.embedded(vault).service
            if action == "backup":
                snapshot = service.back_up(file)
                self.stdout.write(f"{file}: {snapshot}")
                return
            snapshot, losses = service.restore(file, force=force)
        self.stdout.write(f"Restored: {snapshot}")
        if losses:
            self.stdout.write(f"By force. {losses}")
