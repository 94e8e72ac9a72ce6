from django.db import migrations, models

import vault_fields.fields


class Migration(migrations.Migration):
    dependencies = [
        ("migrated", "0003_encrypt_rows"),
    ]

    operations = [
        migrations.AlterField(
            model_name="employee",
            name="salary",
            field=vault_fields.fields.EncryptedTextField(key_context=["tenant_id"]),
        ),
        migrations.AlterField(
            model_name="letter",
            name="body",
            field=vault_fields.fields.EncryptedJSONField(
                default=dict, key_context=["tenant_id"], keys_field="vault_keys"
            ),
        ),
        migrations.AlterField(
            model_name="letter",
            name="subject",
            field=vault_fields.fields.EncryptedTextField(key_context=["tenant_id"], keys_field="vault_keys", null=True),
        ),
        migrations.AlterField(
            model_name="note",
            name="data",
            field=vault_fields.fields.EncryptedJSONField(key_context=["tenant_id"], null=True),
        ),
        migrations.AlterField(
            model_name="note",
            name="text",
            field=vault_fields.fields.EncryptedTextField(
                key_context={"purpose": models.Value("notes"), "tenant": "tenant__name"}, null=True
            ),
        ),
    ]
