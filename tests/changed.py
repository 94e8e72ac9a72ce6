"""A table whose declaration changes by migrations that exist in memory only, with rows in it, on the real database."""

from django.db import connection, migrations, models
from django.db.migrations.state import ProjectState

from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField
from vault_fields.schemachange import guard
from vault_fields.schemachange.effects import effects
from vault_fields.schemachange.resolved import losses_on_purpose

CONTEXT = {"key_context": ["tenant_id"]}


class Table:
    """``changed.Record``: migrate it, take migrations back, and look at its rows, with the models of that moment."""

    app_label = "changed"

    def __init__(self, **fields):
        self.state = ProjectState()
        self._done = []
        self.migrate(self._create("Record", models.BigAutoField(primary_key=True), fields))

    def _create(self, name, key, fields, bases=(models.Model,)):
        columns = [("id", key)] if key else []
        columns += [(name, field) for name, field in fields.items()]
        return migrations.CreateModel(name, columns, bases=bases)

    def create(self, name, bases, **fields) -> None:
        self.migrate(self._create(name, None, fields, bases))

    def migrate(self, *operations, atomic=True) -> None:
        migration = self._migration(operations, atomic)
        with connection.schema_editor(atomic=atomic) as editor:
            self.state = migration.apply(self.state.clone(), editor)
        self._done.append((operations, atomic))

    def undo(self, number=1) -> None:
        """Take the last migrations back, as ``migrate`` does."""
        plan = []
        for _ in range(number):
            operations, atomic = self._done.pop()
            before = ProjectState()
            for done, _ in self._done:
                self._migration(done, True).mutate_state(before, preserve=False)
            plan.append((self._migration(operations, atomic), before))
        allowed = losses_on_purpose([effects(migration, before, backwards=True) for migration, before in plan])
        token = guard._on_purpose.set(allowed)
        for migration, before in plan:
            with connection.schema_editor(atomic=migration.atomic) as editor:
                self.state = migration.unapply(before.clone(), editor)
            self.state = before
        guard._on_purpose.reset(token)

    def drop(self) -> None:
        with connection.cursor() as cursor:
            tables = [name for name in connection.introspection.table_names(cursor) if name.startswith("changed_")]
            for table in sorted(tables):
                cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)}")

    def _migration(self, operations, atomic):
        attributes = {"operations": list(operations), "atomic": atomic}
        return type("Migration", (migrations.Migration,), attributes)("0001", self.app_label)

    def model(self, name="Record"):
        return self.state.apps.get_model(self.app_label, name)

    def objects(self, name="Record"):
        return self.model(name)._base_manager

    def values(self, *names, model="Record"):
        return {row.pop("pk"): row for row in self.objects(model).order_by("pk").values("pk", *names)}


def text(**options):
    return EncryptedTextField(null=True, **{**CONTEXT, **options})


def data(**options):
    return EncryptedJSONField(null=True, **{**CONTEXT, **options})


def keys():
    return CompanionField()
