from django.db import migrations

from vault_fields.operations import EncryptField


class Migration(migrations.Migration):
    # Each batch is committed by itself.
    atomic = False

    dependencies = [("migrated", "0002_encrypted")]

    operations = [
        EncryptField("note", "text", batch_size=4),
        EncryptField("note", "data", batch_size=4),
        EncryptField("letter", "subject", batch_size=4),
        EncryptField("letter", "body", batch_size=4),
        EncryptField("employee", "salary", batch_size=4),
    ]
