"""
A process that writes the first value of tenants, at the same time as others do; see ``test_first_keys.py``.

    python -m tests.indexes.firstkey <settings as JSON> <name>

Prints how often the database broke its transactions off, for each of the rounds.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(chosen: dict[str, Any], name: str) -> None:
    import django
    from django.conf import settings

    from tests import settings as suite

    options = {key: getattr(suite, key) for key in dir(suite) if key.isupper()}
    vaults = {"default": {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": {"path": chosen["vault"]}}}
    databases = {"default": chosen["database"]}
    settings.configure(**options | {"DATABASES": databases, "VAULTS": vaults, "DEBUG": True})
    django.setup()
    try:
        print(json.dumps([race(round_, chosen, name) for round_ in chosen["rounds"]]))
    except BaseException:
        (Path(chosen["meeting"]) / "failed").touch()
        raise


def race(round_: dict[str, Any], chosen: dict[str, Any], name: str) -> int:
    from django.db import OperationalError, connection, transaction

    from tests.testapp.models import Contact

    connection.close()
    connection.settings_dict["OPTIONS"] = {**chosen["database"]["OPTIONS"], **round_["options"]}
    broken_off = 0
    for tenant in round_["tenants"]:
        # Where a transaction begins with the lock of a writer, only one process at a time can be in one.
        is_met = round_["options"].get("transaction_mode") == "IMMEDIATE" and meet(chosen, f"{tenant}", name)
        while True:
            try:
                if round_["atomic"]:
                    with transaction.atomic():
                        list(Contact.objects.filter(organization=tenant))  # It sees the database as it is now.
                        is_met = is_met or meet(chosen, f"{tenant}", name)
                        Contact.objects.create(organization_id=tenant, ssn=name)
                else:
                    is_met = is_met or meet(chosen, f"{tenant}", name)
                    Contact.objects.create(organization_id=tenant, ssn=name)
            except OperationalError:
                broken_off += 1  # A deadlock, a serialization failure or a locked database: begin again.
            else:
                break
    return broken_off


def meet(chosen: dict[str, Any], place: str, name: str) -> bool:
    """Wait until all processes are at this place."""
    directory = Path(chosen["meeting"])
    (directory / f"{place} {name}").touch()
    while len([*directory.glob(f"{place} *")]) < chosen["processes"]:
        if (directory / "failed").exists():
            raise SystemExit("Another process has failed.")
        time.sleep(0.002)
    return True


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
