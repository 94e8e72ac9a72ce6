"""The text of a refused migration: the field, the number of rows, and the lines to write."""

from vault_fields.schemachange.losses import Loss
from vault_fields.schemachange.respelling import Respelling
from vault_fields.text.counting import counted

__all__ = ["another_type", "exchanged", "lost", "read_as_stored", "respelled"]


def lost(loss: Loss, rows: int) -> str:
    operation = loss.effect.operation
    where = f"{loss.effect.migration}: " if loss.effect.migration else ""
    way = "undone" if loss.effect.backwards else "applied"
    app_label, model, field = loss.label.split(".")
    command = f"manage.py vault_decrypt {app_label}.{model} {field}"
    advice = f"write vault_fields.operations.{loss.remedy} before it in a migration"
    if loss.effect.backwards:
        encrypt = loss.remedy.replace("Decrypt", "Encrypt")
        advice = f"write vault_fields.operations.{encrypt} after it in a migration, which is undone first"
    if loss.remedy.startswith("RenameField"):
        advice = f"rename that companion together with the field: migrations.{loss.remedy}, in place of a new companion"
    decrypt = f", or run `{command}`" if "Decrypt" in loss.remedy else ""
    return (
        f"{where}{loss.label} has {counted(rows, 'row', 'rows')} with an encrypted value, which nothing could open any "
        "more after "
        f'"{operation.describe()}" was {way}: it would {loss.deed}. To keep the values, {advice}{decrypt}. '
        'See "Stop encrypting, and other changes of a field" in the documentation.'
    )


def respelled(found: Respelling, rows: int) -> str:
    effect = found.cause
    where = f"{effect.migration}: " if effect.migration else ""
    way = "undone" if effect.backwards else "applied"
    _, model, field = found.label.split(".")
    names = f'("{model.lower()}", "{field}")'
    return (
        f"{where}{found.label} has {counted(rows, 'row', 'rows')} whose value would not open any more after "
        f'"{effect.operation.describe()}" was {way}: the columns that its key context and bind_to come from '
        f"({', '.join(found.first.names)}) would have another text than the one that the value was encrypted for. To "
        f"keep the values, write vault_fields.operations.DecryptField{names} and an AlterField of {field!r} with "
        f"migrating=True before it in a migration, and EncryptField{names} and an AlterField without migrating=True "
        'after it. See "Another type of a context\'s column" in the documentation.'
    )


def exchanged(label: str, rows: int) -> str:
    return (
        f"{label}: {counted(rows, 'row has its', 'rows have their')} data keys in another column than the one that "
        "would be its companion afterwards. Were several fields renamed, and their companions taken for one another? "
        "Rename each companion together with its field."
    )


def another_type(label: str, later: str, rows: int) -> str:
    _, model, field = label.split(".")
    names = f'("{model.lower()}", "{field}")'
    return (
        f"{label} has {counted(rows, 'row', 'rows')} with an encrypted value, and {later} reads other texts than those "
        f"that were encrypted; nothing was changed. Write vault_fields.operations.DecryptField{names} before it, give "
        f"the new field migrating=True, and write EncryptField{names} after it."
    )


def read_as_stored(label: str, rows: int) -> str:
    _, model, field = label.split(".")
    return (
        f"{label}: {counted(rows, 'row holds', 'rows hold')} an encrypted value, and it would be a plain field "
        "afterwards, which is read as it is stored. To keep the values, write "
        f'vault_fields.operations.DecryptField("{model.lower()}", "{field}") '
        "before that in a migration, where the field is an encrypted one still, or run `manage.py vault_decrypt`. "
        'See "Stop encrypting, and other changes of a field" in the documentation.'
    )
