"""The first phase of a migration, ``migrating="read"``: a value in the clear is written as it is."""

from collections.abc import Sequence

from django.db.models import Model

from vault_fields.fields.groups import Group
from vault_fields.fields.sealed import Opened, Pending, Sealed
from vault_fields.fields.sealing import encoded
from vault_fields.fields.state import is_encrypted

__all__ = ["leave_in_the_clear"]


def leave_in_the_clear(rows: Sequence[tuple[Model, Group]]) -> None:
    """
    Store new values as they are, without the Vault, in fields that only read encrypted ones.

    A value that replaces an encrypted one is left to ``seal``, and is encrypted with the data key of its row. Raises
    ``ValueRefused``, and changes no row then.
    """
    kept: list[tuple[Model, str, Sealed]] = []
    reading = {group for _, group in rows if group.writes_plaintext}
    for instance, group in rows if reading else ():
        for member in group.members:
            held = instance.__dict__.get(member.attname)
            if not member.writes_plaintext or (new := _new_plaintext(held)) is None:
                continue
            opened = encoded(member, new.value, instance)
            kept.append((instance, member.attname, Sealed(opened.text, "", opened=opened)))
    for instance, name, sealed in kept:
        instance.__dict__[name] = sealed


def _new_plaintext(held: object) -> Pending | Opened | None:
    """Return the value that was assigned, or changed in place, and that replaces no encrypted value."""
    if isinstance(held, Pending):
        return None if is_encrypted(held.previous) else held
    return held.opened if isinstance(held, Sealed) and held.is_changed and not is_encrypted(held) else None
