from django.db import migrations, models

import tests.tenants.clinic.models
import vault_fields.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Patient",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100)),
                (
                    "ssn",
                    vault_fields.fields.EncryptedTextField(
                        key_context={"tenant": tests.tenants.clinic.models.current_schema}, null=True
                    ),
                ),
                ("ssn_keys", vault_fields.fields.CompanionField()),
            ],
        ),
    ]
