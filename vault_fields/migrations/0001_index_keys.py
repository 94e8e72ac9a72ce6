import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="IndexKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("vault", models.CharField(max_length=200)),
                ("context_hash", models.CharField(max_length=64)),
                ("generation", models.PositiveIntegerField(default=1)),
                ("companion", models.TextField()),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("rewritten_at", models.DateTimeField(editable=False, null=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("vault", "context_hash", "generation"), name="vault_fields_one_index_key"
                    )
                ],
            },
        ),
    ]
