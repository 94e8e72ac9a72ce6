from django.db import migrations, models

import tests.tenants.clinic.models
import vault_fields.fields


class Migration(migrations.Migration):
    dependencies = [
        ("clinic", "0001_initial"),
        ("vault_fields", "0001_index_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="Member",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("ward", models.CharField(max_length=20)),
                ("name", models.CharField(max_length=100)),
                ("phone", vault_fields.fields.EncryptedTextField(key_context=["ward"])),
                (
                    "email",
                    vault_fields.fields.EncryptedTextField(
                        key_context={"tenant": tests.tenants.clinic.models.current_schema}
                    ),
                ),
                (
                    "badge",
                    vault_fields.fields.EncryptedTextField(
                        key_context={"tenant": tests.tenants.clinic.models.current_schema}, null=True
                    ),
                ),
                ("phone_keys", vault_fields.fields.CompanionField()),
                ("phone_index", vault_fields.fields.IndexField()),
                ("email_keys", vault_fields.fields.CompanionField()),
                ("email_index", vault_fields.fields.IndexField(scope="global")),
                ("badge_keys", vault_fields.fields.CompanionField()),
                ("badge_index", vault_fields.fields.IndexField()),
            ],
            options={
                "constraints": [
                    vault_fields.fields.UniqueInContext(fields=("email",), name="clinic_member_email_8f279bfa_uniq"),
                    vault_fields.fields.UniqueInContext(fields=("badge",), name="clinic_member_badge_6bffc013_uniq"),
                ],
            },
        ),
    ]
