"""Every row is encrypted: plaintext is an error from here on."""

from django.db import migrations

import vault_fields.fields


class Migration(migrations.Migration):
    dependencies = [
        ("clinic", "0002_encrypt"),
    ]

    operations = [
        migrations.AlterField(
            model_name="document",
            name="content",
            field=vault_fields.fields.EncryptedJSONField(
                blank=True, key_context={"organization_id": "patient__organization_id"}, null=True
            ),
        ),
        migrations.AlterField(
            model_name="document",
            name="title",
            field=vault_fields.fields.EncryptedTextField(key_context={"organization_id": "patient__organization_id"}),
        ),
        migrations.AlterField(
            model_name="note",
            name="text",
            field=vault_fields.fields.EncryptedTextField(
                blank=True, key_context={"organization_id": "organization__workos_id"}
            ),
        ),
        migrations.AlterField(
            model_name="patient",
            name="history",
            field=vault_fields.fields.EncryptedJSONField(
                blank=True, default=dict, key_context=["organization_id"], keys_field="vault_keys"
            ),
        ),
        migrations.AlterField(
            model_name="patient",
            name="name",
            field=vault_fields.fields.EncryptedTextField(key_context=["organization_id"], keys_field="vault_keys"),
        ),
        migrations.AlterField(
            model_name="patient",
            name="ssn",
            field=vault_fields.fields.EncryptedTextField(
                blank=True, key_context=["organization_id"], keys_field="vault_keys", null=True
            ),
        ),
        migrations.AlterField(
            model_name="referral",
            name="letter",
            field=vault_fields.fields.EncryptedTextField(
                blank=True, key_context={"organization_id": "organization__workos_id", "region": "region"}, null=True
            ),
        ),
    ]
