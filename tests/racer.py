"""
A process that writes to rows as fast as it can, beside others that do the same; see ``tests/fields/test_races.py``.

    python -m tests.racer <settings as JSON> <name> <way> <turns>

Prints what it was told is written: for each row and column the last value. Of the way "values" it takes each turn when
a line names a method of the manager, and answers with a line; see ``tests/indexes/test_unique_races.py``.
"""

import json
import sys


def main(database: dict, vault: str, name: str, way: str, turns: int) -> None:
    import django
    from django.conf import settings

    from tests import settings as suite

    options = {key: getattr(suite, key) for key in dir(suite) if key.isupper()}
    vaults = {"default": {"BACKEND": "vault_fields.backends.local.LocalVault", "OPTIONS": {"path": vault}}}
    settings.configure(**options | {"DATABASES": {"default": database}, "VAULTS": vaults, "DEBUG": True})
    django.setup()
    if way == "values":
        race_for_values(name, turns)
    else:
        print(json.dumps(race(name, way, turns)))


def race_for_values(name: str, turns: int) -> None:
    """Give a row the value of each turn, which another process wants for its own at the same time."""
    from django.db import IntegrityError

    from tests.testapp.models import Athlete

    print("ready", flush=True)
    for turn in range(turns):
        method = sys.stdin.readline().strip()
        values = {"league_id": 1, "number": f"value {turn}"}
        try:
            if method == "create":
                pk, is_new = Athlete.objects.create(**values, team=name).pk, True
            else:
                row, is_new = getattr(Athlete.objects, method)(**values, defaults={"team": name})
                pk = row.pk
        except IntegrityError:
            pk, is_new = None, False
        print(json.dumps([pk, is_new]), flush=True)


def race(name: str, way: str, turns: int) -> dict[str, list]:
    from django.db import OperationalError

    from tests.testapp.models import Letter
    from vault_fields.exceptions import KeyContextError

    written: dict[str, list] = {}
    for turn in range(turns):
        letter = Letter.objects.order_by("pk")[turn % 4]
        value = f"{name} {turn}"
        try:
            if way == "move":
                letter.organization_id = 3 - letter.organization_id
                letter.save(update_fields=["organization"])
            elif way == "bulk_update":
                letter.text = [value]
                Letter.objects.bulk_update([letter], ["text"])
                written.setdefault(f"{letter.pk} text", []).append([value])
            else:
                letter.subject = value
                letter.save(update_fields=["subject"])
                written.setdefault(f"{letter.pk} subject", []).append(value)
        except (KeyContextError, OperationalError):
            continue  # It was moved by another process, or gave way to one; nothing was acknowledged.
    return written


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    main(chosen["database"], chosen["vault"], *sys.argv[2:4], turns=int(sys.argv[4]))
