from django.db import migrations, models

import vault_fields.fields


class Migration(migrations.Migration):
    dependencies = [
        ("migrated", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="employee",
            name="salary_keys",
            field=vault_fields.fields.CompanionField(),
        ),
        migrations.AddField(
            model_name="letter",
            name="vault_keys",
            field=vault_fields.fields.CompanionField(),
        ),
        migrations.AddField(
            model_name="note",
            name="data_keys",
            field=vault_fields.fields.CompanionField(),
        ),
        migrations.AddField(
            model_name="note",
            name="text_keys",
            field=vault_fields.fields.CompanionField(),
        ),
        migrations.AlterField(
            model_name="employee",
            name="salary",
            field=vault_fields.fields.EncryptedTextField(key_context=["tenant_id"], migrating=True),
        ),
        migrations.AlterField(
            model_name="letter",
            name="body",
            field=vault_fields.fields.EncryptedJSONField(
                default=dict, key_context=["tenant_id"], keys_field="vault_keys", migrating=True
            ),
        ),
        migrations.AlterField(
            model_name="letter",
            name="subject",
            field=vault_fields.fields.EncryptedTextField(
                key_context=["tenant_id"], keys_field="vault_keys", migrating=True, null=True
            ),
        ),
        migrations.AlterField(
            model_name="note",
            name="data",
            field=vault_fields.fields.EncryptedJSONField(key_context=["tenant_id"], migrating=True, null=True),
        ),
        migrations.AlterField(
            model_name="note",
            name="text",
            field=vault_fields.fields.EncryptedTextField(
                key_context={"purpose": models.Value("notes"), "tenant": "tenant__name"}, migrating=True, null=True
            ),
        ),
    ]
