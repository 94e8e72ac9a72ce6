"""
A column becomes an encrypted one and a plain one again, in models of every shape, by what makemigrations writes.

The models of a shape are built three times: with plain fields, with encrypted ones that are ``migrating``, and with
encrypted ones.
"""

import uuid

import pytest
from django.apps import apps as global_apps
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.db import connection, migrations, models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ModelState, ProjectState
from django.test import override_settings
from django.test.utils import isolate_apps

from vault_fields.fields import EncryptedJSONField, EncryptedTextField
from vault_fields.operations import EncryptField

APP = "shapes"
TEXTS = ["one", "", "zwei", "$vf is not yet one"]
VALUES = [{"a": [1, None]}, [], "text", 0]


class Plain:
    def text(self, context, **options):
        return models.TextField(**options)

    def data(self, context, **options):
        return models.JSONField(**options)


class Encrypted:
    def __init__(self, **options):
        self.options = options

    def text(self, context, **options):
        return EncryptedTextField(key_context=context, **self.options, **options)

    def data(self, context, **options):
        return EncryptedJSONField(key_context=context, **self.options, **options)


def define(name, /, *fields_of, bases=(models.Model,), meta=(), **fields):
    options = type("Meta", (), {"app_label": APP, **dict(meta)})
    return type(name, bases, {"__module__": __name__, "Meta": options, **fields})


def tag():
    return define("Tag", name=models.CharField(max_length=20))


def tenant():
    return models.CharField(max_length=20)


def columns(kind, context=("tenant",)):
    return {"tenant": tenant(), "text": kind.text(list(context), null=True), "data": kind.data(list(context))}


def many_to_many(kind):
    return [tag(), define("Note", tags=models.ManyToManyField("shapes.Tag", related_name="notes"), **columns(kind))]


def many_to_many_first(kind):
    """The relation stands before the columns, and another model relates to this one."""
    note = define("Note", **columns(kind), tags=models.ManyToManyField("shapes.Tag"))
    return [note, tag(), define("Folder", notes=models.ManyToManyField("shapes.Note"))]


def many_to_many_with_itself(kind):
    fields = columns(kind)
    return [define("Note", **fields, seen=models.ManyToManyField("self"))]


def many_to_many_through(kind):
    """The model between the two is encrypted too."""
    return [
        tag(),
        define("Note", tags=models.ManyToManyField("shapes.Tag", through="shapes.Tagging"), **columns(kind)),
        define(
            "Tagging",
            note=models.ForeignKey("shapes.Note", models.CASCADE, null=True),
            tag=models.ForeignKey("shapes.Tag", models.CASCADE, null=True),
            **columns(kind),
        ),
    ]


def generic_relation(kind):
    label = define(
        "Label",
        content_type=models.ForeignKey("contenttypes.ContentType", models.CASCADE, null=True),
        object_id=models.PositiveIntegerField(null=True),
        target=GenericForeignKey(),
        **columns(kind),
    )
    return [label, define("Note", labels=GenericRelation(label), **columns(kind))]


def multi_table_inheritance(kind):
    """The parent is encrypted, and so is the child, for a column of the parent."""
    parent = define("Note", **columns(kind), friends=models.ManyToManyField("self"))
    child = define(
        "LongNote", bases=(parent,), more=kind.text(["tenant"], null=True), tags=models.ManyToManyField("shapes.Tag")
    )
    return [tag(), parent, child]


def abstract_inheritance(kind):
    base = define("Base", meta={"abstract": True}, tags=models.ManyToManyField("shapes.Tag"), **columns(kind))
    return [
        tag(),
        define("Note", bases=(base,)),
        define("OtherNote", bases=(base,), extra=kind.text(["tenant"], null=True)),
    ]


def proxy(kind):
    note = define("Note", tags=models.ManyToManyField("shapes.Tag"), **columns(kind))
    return [tag(), note, define("NoteProxy", bases=(note,), meta={"proxy": True})]


def reference_to_itself(kind):
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")
    twin = models.OneToOneField("self", models.CASCADE, null=True)
    return [define("Note", parent=parent, twin=twin, **columns(kind))]


def context_behind_a_relation(kind):
    owner = define("Owner", tenant=tenant(), tags=models.ManyToManyField("shapes.Tag"))
    fields = columns(kind, ["tenant"])
    fields["text"] = kind.text({"tenant": "owner__tenant"}, null=True)
    return [tag(), owner, define("Note", owner=models.ForeignKey("shapes.Owner", models.CASCADE), **fields)]


def composite_key(kind):
    key = {"pk": models.CompositePrimaryKey("tenant", "number"), "number": models.IntegerField()}
    return [define("Note", **key, **columns(kind))]


def uuid_key(kind):
    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
    return [tag(), define("Note", id=key, **columns(kind), tags=models.ManyToManyField("shapes.Tag"))]


def text_key(kind):
    key = models.CharField(max_length=40, primary_key=True, default=uuid.uuid4)
    return [define("Note", code=key, **columns(kind), others=models.ManyToManyField("self"))]


def swapped(kind):
    """The model of a library is not there; the project's own takes its place, and others relate to it."""
    library = define("LibraryNote", meta={"swappable": "SHAPES_NOTE"}, **columns(kind))
    other = define(
        "Folder", note=models.ForeignKey("shapes.Note", models.CASCADE), tags=models.ManyToManyField("shapes.Tag")
    )
    return [tag(), library, define("Note", tags=models.ManyToManyField("shapes.Tag"), **columns(kind)), other]


def odd_names(kind):
    fields = {
        "tenant": models.CharField(max_length=20, db_column="the tenant"),
        "text": kind.text(["tenant"], null=True, db_column="Text; -- of note"),
        "data": kind.data(["tenant"], db_column="select"),
    }
    return [
        tag(),
        define("Note", meta={"db_table": "Odd table.1"}, **fields, tags=models.ManyToManyField("shapes.Tag")),
    ]


SHAPES = [many_to_many, many_to_many_first, many_to_many_with_itself, many_to_many_through, generic_relation]
SHAPES += [multi_table_inheritance, abstract_inheritance, proxy, reference_to_itself, context_behind_a_relation]
SHAPES += [composite_key, uuid_key, text_key, swapped, odd_names]


def state_of(shape, kind):
    state = ProjectState.from_apps(global_apps)
    with isolate_apps("django.contrib.contenttypes"):
        for model in shape(kind):
            state.add_model(ModelState.from_model(model))
    return state


class Table:
    """A database that is migrated from one state of the project to another."""

    def __init__(self, state):
        self.state = state
        self.applied = []

    def migrate(self, state=None, operations=()) -> None:
        """By what ``makemigrations`` finds between the two states, or by these operations."""
        batches = [operations]
        if state is not None:
            changes = MigrationAutodetector(self.state, state)._detect_changes()
            batches = [migration.operations for migration in changes.get(APP, ())]
        for batch in batches:
            migration = type("Migration", (migrations.Migration,), {"operations": batch})("m", APP)
            before = self.state
            with connection.schema_editor() as editor:
                self.state = migration.apply(self.state.clone(), editor)
            self.applied.append((migration, before))

    def migrate_back(self) -> None:
        migration, before = self.applied.pop()
        with connection.schema_editor() as editor:
            migration.unapply(before.clone(), editor)
        self.state = before

    @property
    def models(self):
        found = (
            model for model in self.state.clone().apps.get_models(include_swapped=False) if model._meta.app_label == APP
        )
        return {model.__name__: model for model in found if not model._meta.proxy}


def secret_columns(model):
    return [field.name for field in model._meta.local_fields if field.name in {"text", "data", "extra", "more"}]


def fill(table) -> None:
    found = table.models
    for name, model in found.items():
        if not secret_columns(model) or model._meta.parents:
            continue
        child = found["LongNote"] if name == "Note" and "LongNote" in found else model
        for number, (text, value) in enumerate(zip(TEXTS, VALUES, strict=True)):
            known = {field.name for field in child._meta.fields}
            row = {
                "tenant": f"t{number % 2}",
                "text": text,
                "data": value,
                "extra": text,
                "more": text,
                "number": number,
            }
            if "Owner" in found:
                row["owner"] = found["Owner"].objects.create(tenant=row["tenant"])
            child.objects.create(**{key: given for key, given in row.items() if key in known})


def contents(table):
    return {
        (name, row["pk"]): row
        for name, model in table.models.items()
        if secret_columns(model)
        for row in model.objects.values("pk", *secret_columns(model))
    }


def stored(table):
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for model in table.models.values():
            for name in secret_columns(model):
                column = model._meta.get_field(name).column
                cursor.execute(f"SELECT {quote(column)} FROM {quote(model._meta.db_table)}")
                yield from (value for (value,) in cursor.fetchall() if value is not None)


@pytest.fixture
def tables(transactional_db):
    made = []
    with override_settings(SHAPES_NOTE="shapes.Note"):

        def make(shape):
            made.append(Table(ProjectState.from_apps(global_apps)))
            made[-1].migrate(state_of(shape, Plain()))
            return made[-1]

        yield make
        for table in made:
            while table.applied:
                table.migrate_back()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_column_is_encrypted_and_becomes_plain_again(shape, tables) -> None:
    table = tables(shape)
    fill(table)
    plain = contents(table)
    assert len(plain) >= len(TEXTS)

    table.migrate(state_of(shape, Encrypted(migrating=True)))
    assert contents(table) == plain
    names = [(name, column) for name, model in table.models.items() for column in secret_columns(model)]
    table.migrate(operations=[EncryptField(name, column, batch_size=3) for name, column in names])
    assert all(value.startswith("$vf$1$") for value in stored(table))
    assert contents(table) == plain

    table.migrate(state_of(shape, Encrypted()))
    assert contents(table) == plain
    assert len(list(stored(table))) >= len(plain)

    table.migrate_back()
    table.migrate_back()
    assert not any(value.startswith("$vf$1$") for value in stored(table))
    assert contents(table) == plain
    table.migrate_back()
    assert contents(table) == plain


def unmanaged(kind):
    return [tag(), define("Note", meta={"managed": False}, **columns(kind))]


def test_the_rows_of_a_table_that_django_does_not_manage_are_encrypted_where_it_is(tables) -> None:
    """Nothing is generated for it: whoever makes the table alters it too, and writes the operation."""
    table = tables(unmanaged)
    note = table.models["Note"]
    operation = [EncryptField("note", "text")]
    table.state = state_of(unmanaged, Encrypted(migrating=True))
    table.migrate(operations=operation)  # As in a test database, where there is no such table.
    table.migrate_back()
    with connection.schema_editor() as editor:
        editor.create_model(table.models["Note"])
    try:
        note.objects.create(tenant="a", text="one", data={})
        table.migrate(operations=operation)
        (text,) = [value for value in stored(table) if value != "{}"]
        assert text.startswith("$vf$1$")
        assert table.models["Note"].objects.get().text == "one"
        table.migrate_back()
        assert set(stored(table)) == {"one", "{}"}
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(note)
