"""The columns become encrypted ones; the operations after what makemigrations wrote encrypt their rows."""

from django.db import migrations

import vault_fields.fields
from vault_fields.operations import EncryptField


class Migration(migrations.Migration):
    dependencies = [
        ("clinic", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="document",
            name="content_keys",
            field=vault_fields.fields.CompanionField(),
        ),
        migrations.AddField(
            model_name="document",
            name="title_keys",
            field=vault_fields.fields.CompanionField(),
        ),
        migrations.AddField(
            model_name="note",
            name="text_keys",
            field=vault_fields.fields.CompanionField(),
        ),
        migrations.AddField(
            model_name="patient",
            name="vault_keys",
            field=vault_fields.fields.CompanionField(),
        ),
        migrations.AddField(
            model_name="referral",
            name="letter_keys",
            field=vault_fields.fields.CompanionField(),
        ),
        migrations.AlterField(
            model_name="document",
            name="content",
            field=vault_fields.fields.EncryptedJSONField(
                blank=True, key_context={"organization_id": "patient__organization_id"}, migrating=True, null=True
            ),
        ),
        migrations.AlterField(
            model_name="document",
            name="title",
            field=vault_fields.fields.EncryptedTextField(
                key_context={"organization_id": "patient__organization_id"}, migrating=True
            ),
        ),
        migrations.AlterField(
            model_name="note",
            name="text",
            field=vault_fields.fields.EncryptedTextField(
                blank=True, key_context={"organization_id": "organization__workos_id"}, migrating=True
            ),
        ),
        migrations.AlterField(
            model_name="patient",
            name="history",
            field=vault_fields.fields.EncryptedJSONField(
                blank=True, default=dict, key_context=["organization_id"], keys_field="vault_keys", migrating=True
            ),
        ),
        migrations.AlterField(
            model_name="patient",
            name="name",
            field=vault_fields.fields.EncryptedTextField(
                key_context=["organization_id"], keys_field="vault_keys", migrating=True
            ),
        ),
        migrations.AlterField(
            model_name="patient",
            name="ssn",
            field=vault_fields.fields.EncryptedTextField(
                blank=True, key_context=["organization_id"], keys_field="vault_keys", migrating=True, null=True
            ),
        ),
        migrations.AlterField(
            model_name="referral",
            name="letter",
            field=vault_fields.fields.EncryptedTextField(
                blank=True,
                key_context={"organization_id": "organization__workos_id", "region": "region"},
                migrating=True,
                null=True,
            ),
        ),
        EncryptField("patient", "name"),
        EncryptField("patient", "ssn"),
        EncryptField("patient", "history"),
        EncryptField("note", "text"),
        EncryptField("document", "title"),
        EncryptField("document", "content"),
        EncryptField("referral", "letter"),
    ]
