"""Columns that are not text: each database would choose how their values are spelled."""

from datetime import timedelta

import pytest
from django.db import connection, migrations, models
from django.db.migrations.state import ProjectState

from vault_fields.exceptions import MigrationRefused
from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField


class OwnText(models.Field):
    def db_type(self, connection) -> str:
        return "varchar(50)"


class OwnList(models.Field):
    def db_type(self, connection) -> str:
        return "varchar(50)[]"


TEXT, DATA = EncryptedTextField, EncryptedJSONField
KEPT = [
    (models.CharField(max_length=50), TEXT, "text"),
    (models.EmailField(), TEXT, "a@example.org"),
    (models.URLField(), TEXT, "https://example.org"),
    (models.SlugField(), TEXT, "slug"),
    (models.FileField(), TEXT, "file.txt"),
    (models.BigIntegerField(), TEXT, 2**40),
    (models.PositiveSmallIntegerField(), DATA, 7),
    (models.JSONField(), DATA, {"a": [1]}),
    (OwnText(), TEXT, "text"),
]
REFUSED = [
    (models.BooleanField(), TEXT, True),
    (models.DecimalField(max_digits=5, decimal_places=2), TEXT, "1.20"),
    (models.FloatField(), TEXT, 0.1),
    (models.DurationField(), TEXT, timedelta(days=1)),
    (models.DateTimeField(), TEXT, "2020-01-02T03:04:05Z"),
    (models.DateField(), TEXT, "2020-01-02"),
    (models.GenericIPAddressField(), TEXT, "192.0.2.1"),
    (models.UUIDField(), TEXT, "00000000-0000-0000-0000-000000000001"),
    (models.BinaryField(), TEXT, b"x"),
    (models.JSONField(), TEXT, {"a": 1}),
]


@pytest.fixture
def alter(transactional_db):
    """Make a table with one row, and its column an encrypted one; return what the row holds then."""
    created = []

    def run(field, encrypted, value):
        create = migrations.CreateModel(
            "Row",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("tenant", models.IntegerField(default=1)),
                ("value", field.clone()),
            ],
        )
        change = [
            migrations.AddField("row", "value_keys", CompanionField()),
            migrations.AlterField("row", "value", encrypted(key_context=["tenant"], migrating=True)),
        ]
        state = apply([create], ProjectState())
        created.append(state)
        if value is not None:
            state.apps.get_model("conversion", "Row").objects.create(value=value)
        created[-1] = apply(change, state)
        return created[-1].apps.get_model("conversion", "Row").objects.values_list("value", flat=True).first()

    yield run
    with connection.schema_editor() as editor:
        editor.delete_model(created[-1].apps.get_model("conversion", "Row"))


def apply(operations, state, **options):
    migration = type("Migration", (migrations.Migration,), {"operations": operations})("m", "conversion")
    with connection.schema_editor(**options) as editor:
        return migration.apply(state.clone(), editor)


def kind(value):
    return type(value).__name__ if isinstance(value, models.Field) else getattr(value, "__name__", "")


@pytest.mark.parametrize(("field", "encrypted", "value"), KEPT, ids=kind)
def test_text_json_and_whole_numbers_become_what_they_were(alter, field, encrypted, value) -> None:
    assert alter(field, encrypted, value) == (str(value) if encrypted is TEXT else value)


@pytest.mark.parametrize(("field", "encrypted", "value"), REFUSED, ids=kind)
def test_other_columns_with_values_are_refused_before_anything_is_changed(alter, field, encrypted, value) -> None:
    with pytest.raises(
        MigrationRefused, match=rf"^conversion\.Row\.value is a {kind(field)}, .* nothing was changed\. (Add|Declare) "
    ):
        alter(field, encrypted, value)


@pytest.mark.parametrize("field", [models.BooleanField(), models.DateField()], ids=kind)
def test_columns_of_empty_tables_are_not_asked_about(alter, field) -> None:
    assert alter(field, TEXT, None) is None


def test_a_list_of_texts_is_not_text() -> None:
    from vault_fields.fields.conversion import holds_text

    assert not holds_text(OwnList(), TEXT(key_context=["tenant"]), connection)


def test_where_the_table_is_not_nothing_is_asked(alter, settings) -> None:
    settings.DATABASE_ROUTERS = [Nowhere()]
    field = models.BooleanField()
    create = migrations.CreateModel("Row", [("id", models.BigAutoField(primary_key=True)), ("value", field)])
    change = migrations.AlterField("row", "value", TEXT(key_context=["id"], migrating=True))
    apply([change], apply([create], ProjectState()))
    settings.DATABASE_ROUTERS = []
    alter(models.TextField(), TEXT, "x")


class Nowhere:
    def allow_migrate(self, db, app_label, **hints) -> bool:
        return False
