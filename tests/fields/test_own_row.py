"""Secrets on the row of the tenant itself, whose key the database counts up."""

import hashlib
from typing import Never

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Value
from django.test.utils import CaptureQueriesContext, isolate_apps

from tests.testapp.models import ApiKey, Certificate, Document, Letter, Organization, Patient
from vault_fields.exceptions import KeyContextError, ValueRefused, VaultUnavailable
from vault_fields.fields import CompanionField, EncryptedJSONField, EncryptedTextField, context_from
from vault_fields.stored import companion
from vault_fields.testing import assert_vault_calls
from vault_fields.vaults import vaults

pytestmark = pytest.mark.django_db


class Digest(models.CharField):
    """A column that is made of the value beside it."""

    def pre_save(self, model_instance, add):
        model_instance.title = hashlib.sha256((model_instance.subject or "").encode()).hexdigest()
        return model_instance.title


class Stamped(EncryptedTextField):
    def pre_save(self, model_instance, add) -> str:
        return f"{super().pre_save(model_instance, add) or ''}{'+' if add else '-'}"


@context_from("id")
def tenant_of(row):
    return {"org": f"tenant-{row.id}"}


@pytest.fixture
def apps():
    with isolate_apps("tests.testapp"):
        yield


def over(class_name, table, /, *bases, **fields):
    """A model over the table of another."""
    if not bases:
        fields["organization"] = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    meta = type("Meta", (), {"app_label": "testapp", "db_table": table._meta.db_table, "managed": False})
    return type(class_name, bases or (models.Model,), {**fields, "Meta": meta, "__module__": __name__})


@pytest.fixture
def tenant(apps):
    """Values that may be NULL, and one whose context has nothing to do with the key."""
    return over(
        "Tenant",
        Patient,
        name=models.CharField(max_length=100, default=""),
        token=EncryptedTextField(key_context={"org": "id"}, null=True, db_column="ssn", keys_field="token_keys"),
        token_keys=CompanionField(db_column="ssn_keys"),
        notes=EncryptedTextField(key_context=["organization_id"], null=True),
        history=EncryptedJSONField(key_context={"org": "id", "purpose": Value("history")}, null=True),
    )


@pytest.fixture
def shared(apps):
    """Values that share a companion, and a column that is made of one of them."""
    options = {"key_context": ["id", "organization_id"], "keys_field": "vault_keys", "null": True}
    return over(
        "Shared",
        Letter,
        title=Digest(max_length=100, default=""),
        subject=EncryptedTextField(**options),
        text=EncryptedJSONField(**options),
        vault_keys=CompanionField(),
    )


def required(**options):
    return over("Required", Document, body=EncryptedTextField(**options))


def created(model, **values):
    return model.objects.create(**values)


def saved(model, **values):
    row = model(**values)
    row.save()
    return row


def bulk_created(model, **values):
    return model.objects.bulk_create([model(**values)])[0]


def got_or_created(model, **values):
    return model.objects.get_or_create(pk=None, defaults=values)[0]


def updated_or_created(model, **values):
    return model.objects.update_or_create(pk=None, defaults=values)[0]


WAYS = [created, saved, bulk_created, got_or_created, updated_or_created]


@pytest.mark.parametrize("write", WAYS)
def test_value_may_be_null_or_not(tenant, organization, stored, write) -> None:
    with assert_vault_calls(create=3):
        row = write(tenant, organization=organization, token="secret", history=[1], notes="seen")
    assert (row.token, row.history, row.notes) == ("secret", [1], "seen")
    with assert_vault_calls():
        again = tenant.objects.get()
        assert (again.pk, again.token, again.history, again.notes) == (row.pk, "secret", [1], "seen")
    text, keys, history = stored(row, "ssn", "ssn_keys", "history_keys")
    assert "secret" not in text
    assert companion.decode(keys).context == {"org": str(row.pk)}
    assert companion.decode(history).context == {"org": str(row.pk), "purpose": "history"}


@pytest.mark.parametrize("write", WAYS)
@pytest.mark.parametrize(
    "options",
    [
        {"key_context": ["id"]},
        {"key_context": tenant_of},
        {"key_context": ["organization_id"], "bind_to": ["id"]},
        {"key_context": {"org": "id", "other": "organization__workos_id"}},
    ],
    ids=["list", "function", "bound", "path"],
)
@pytest.mark.usefixtures("apps")
def test_value_that_has_to_be_there(organization, options, write) -> None:
    model = required(**options)
    with assert_vault_calls(create=1):
        row = write(model, organization=organization, body="secret")
    row.body = "changed"
    with assert_vault_calls():
        row.save()
    vaults["default"].purge()
    assert model.objects.get(pk=row.pk).body == "changed"
    assert model.objects.count() == 1


@pytest.mark.parametrize("write", WAYS)
def test_shared_companion_and_a_column_that_is_made_of_the_value(shared, organization, write) -> None:
    with assert_vault_calls(create=1):
        row = write(shared, organization=organization, subject="secret", text={"a": 1})
    again = shared.objects.get(pk=row.pk)
    assert (again.subject, again.text) == ("secret", {"a": 1})
    assert again.title == hashlib.sha256(b"secret").hexdigest()


@pytest.mark.parametrize("write", WAYS)
def test_row_without_values_costs_nothing(tenant, organization, stored, write) -> None:
    with assert_vault_calls():
        row = write(tenant, organization=organization)
    assert stored(row, "ssn", "ssn_keys") == (None, None)
    row.token = "secret"
    row.save(update_fields=["token"])
    assert tenant.objects.get().token == "secret"


def test_insert_and_update_are_all_that_is_sent(tenant, organization) -> None:
    row = tenant(organization=organization, token="secret")
    with CaptureQueriesContext(connection) as queries:
        row.save()
    assert [query["sql"].split()[0] for query in queries] == ["INSERT", "UPDATE"]
    assert "history" not in queries[1]["sql"]


def test_each_row_of_many_has_a_key_of_its_own(tenant, organization, stored) -> None:
    rows = [tenant(organization=organization, token=f"secret {number}") for number in range(5)]
    rows.insert(2, tenant(organization=organization, name="no value"))
    rows.append(tenant(pk=10_000, organization=organization, token="own number"))
    with assert_vault_calls(create=6):
        tenant.objects.bulk_create(rows, batch_size=2)
    again = tenant.objects.in_bulk([row.pk for row in rows])
    assert [again[row.pk].token for row in rows] == [row.token for row in rows]
    assert len({stored(row, "ssn_keys") for row in rows}) == 7


@pytest.mark.usefixtures("apps")
def test_rows_that_are_only_bound_share_a_key(organization) -> None:
    model = required(key_context=["organization_id"], bind_to=["id"])
    with assert_vault_calls(create=1):
        model.objects.bulk_create([model(organization=organization, body=f"secret {number}") for number in range(3)])
    assert sorted(row.body for row in model.objects.all()) == ["secret 0", "secret 1", "secret 2"]


@pytest.mark.usefixtures("apps")
def test_asynchronous_ways(organization) -> None:
    model = required(key_context=["id"])

    async def write() -> None:
        await model.objects.acreate(organization=organization, body="created")
        await model(organization=organization, body="saved").asave()
        await model.objects.abulk_create([model(organization=organization, body="bulk")])

    async_to_sync(write)()
    assert sorted(row.body for row in model.objects.all()) == ["bulk", "created", "saved"]


@pytest.mark.usefixtures("apps")
@pytest.mark.parametrize("values", [{"body": "secret"}, {}])
def test_field_that_chooses_its_value_is_not_asked_again(organization, values) -> None:
    model = over("Stamps", Document, body=Stamped(key_context=["id"], null=True))
    for write in [created, bulk_created]:
        row = write(model, organization=organization, **values)
        assert row.body == model.objects.get(pk=row.pk).body
        # Django may ask more than once when it inserts.
        assert row.body.rstrip("+") == values.get("body", "") != row.body


def test_copy_of_a_row_is_encrypted_for_its_own_key(tenant, organization, stored) -> None:
    row = created(tenant, organization=organization, token="secret", history=[1])
    copied = tenant.objects.get(pk=row.pk)
    copied.pk, copied._state.adding = None, True
    copied.save()
    assert copied.pk != row.pk
    assert [each.token for each in tenant.objects.all()] == ["secret", "secret"]
    assert companion.decode(stored(copied, "ssn_keys")[0]).context == {"org": str(copied.pk)}


@pytest.mark.usefixtures("apps")
@pytest.mark.parametrize("write", [created, bulk_created])
def test_nothing_stays_written_if_the_vault_does_not_answer(organization, monkeypatch, write) -> None:
    model = required(key_context=["id"])
    values = {"organization": organization, "body": "secret"}

    def fail(*args, **kwargs) -> Never:
        raise VaultUnavailable("no answer")

    monkeypatch.setattr(type(vaults["default"]), "create_data_key", fail)
    with pytest.raises(VaultUnavailable), transaction.atomic():
        write(model, **values)
    assert not model.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("apps")
@pytest.mark.parametrize("write", [saved, bulk_created])
def test_nobody_sees_a_row_before_it_has_its_values(organization, monkeypatch, write) -> None:
    model = required(key_context=["id"])
    create = type(vaults["default"]).create_data_key
    open_transactions = []

    def watched(*args, **kwargs):
        open_transactions.append(connection.in_atomic_block and model.objects.count())
        if len(open_transactions) == 1:
            raise VaultUnavailable("no answer")
        return create(*args, **kwargs)

    monkeypatch.setattr(type(vaults["default"]), "create_data_key", watched)
    with pytest.raises(VaultUnavailable):
        write(model, organization=organization, body="secret")
    assert not model.objects.exists()
    write(model, organization=organization, body="secret")
    assert open_transactions == [1, 1]
    assert model.objects.get().body == "secret"


@pytest.mark.parametrize("write", ["save", "bulk_create"])
def test_instance_is_as_it_was_after_an_error(shared, organization, monkeypatch, write) -> None:
    row = shared(organization=organization, subject="secret")
    before = dict(vars(row))

    def save():
        return row.save() if write == "save" else shared.objects.bulk_create([row])

    def fail(*args, **kwargs) -> Never:
        raise IntegrityError("no update")

    for method in ("_update", "update"):
        monkeypatch.setattr(models.QuerySet, method, fail)
    with pytest.raises(IntegrityError), transaction.atomic():
        save()
    assert {name: vars(row)[name] for name in before if name != "title"} == {
        name: held for name, held in before.items() if name != "title"
    }
    assert not shared.objects.exists()
    monkeypatch.undo()
    save()
    assert shared.objects.get().subject == "secret"


def test_caller_may_go_on_after_a_bulk_create_that_failed(tenant, organization) -> None:
    with transaction.atomic():
        first = created(tenant, organization=organization, token="first")
        with pytest.raises(ValueRefused):
            tenant.objects.bulk_create([tenant(organization=organization, token="second", history=[object()])])
        assert tenant.objects.get().pk == first.pk


def test_transaction_of_the_caller_takes_the_row_along(tenant, organization) -> None:
    with transaction.atomic():
        row = created(tenant, organization=organization, token="secret")
        transaction.set_rollback(True)
    assert not tenant.objects.exists()
    row.save()
    assert tenant.objects.get().token == "secret"


@pytest.mark.parametrize("options", [{"ignore_conflicts": True}, {"update_conflicts": True}])
def test_upsert_of_rows_without_keys_is_refused(tenant, organization, options) -> None:
    if "update_conflicts" in options:
        options = options | {"update_fields": ["name"]}
        if connection.features.supports_update_conflicts_with_target:
            options["unique_fields"] = ["id"]
    with pytest.raises(KeyContextError, match="'id' of its row, which bulk_create.. with update_conflicts or ignore"):
        tenant.objects.bulk_create([tenant(organization=organization, token="secret")], **options)
    tenant.objects.bulk_create([tenant(organization=organization, name="no value")], **options)
    assert tenant.objects.get().name == "no value"


def test_database_that_does_not_tell_keys_is_named(tenant, organization, monkeypatch) -> None:
    monkeypatch.setattr(type(connection.features), "can_return_rows_from_bulk_insert", False)
    with pytest.raises(KeyContextError, match="of this database does not tell; save.. each row"):
        tenant.objects.bulk_create([tenant(organization=organization, token="secret")])
    assert not tenant.objects.exists()


def test_one_instance_cannot_be_two_rows(tenant, organization) -> None:
    row = tenant(organization=organization, token="secret")
    with pytest.raises(KeyContextError, match="gives one instance several keys"):
        tenant.objects.bulk_create([row, row])
    assert not tenant.objects.exists()


def test_update_of_a_row_that_has_no_key_is_refused_by_django(tenant, organization) -> None:
    row = tenant(organization=organization, token="secret")
    with pytest.raises(ValueError, match="Cannot force an update in save"):
        row.save(force_update=True)
    assert row.token == "secret"


@pytest.mark.usefixtures("apps")
def test_row_in_several_tables_whose_parent_has_the_secret(organization) -> None:
    parent = over(
        "Parent",
        ApiKey,
        label=models.CharField(max_length=100, default=""),
        secret=EncryptedTextField(key_context={"org": "id"}),
    )
    link = models.OneToOneField(
        parent, models.CASCADE, parent_link=True, db_column="apikey_ptr_id", related_name="child"
    )
    chain = EncryptedTextField(key_context=["organization_id"])
    child = over("Child", Certificate, parent, parent_ptr=link, chain=chain)
    with assert_vault_calls(create=2):
        row = child.objects.create(organization=organization, secret="of the parent", chain="of the child")
    again = child.objects.get()
    assert (again.pk, again.secret, again.chain) == (row.pk, "of the parent", "of the child")


@pytest.mark.usefixtures("apps")
@pytest.mark.parametrize("name", ["parent_ptr", "id"])
def test_row_whose_own_table_has_no_key_of_its_own_is_refused(organization, name) -> None:
    parent = over("Parent", ApiKey, label=models.CharField(max_length=100, default=""))
    link = models.OneToOneField(
        parent, models.CASCADE, parent_link=True, db_column="apikey_ptr_id", related_name="child"
    )
    child = over("Child", Certificate, parent, parent_ptr=link, chain=EncryptedTextField(key_context={"org": name}))
    with pytest.raises(KeyContextError, match="set it before saving|only when it is inserted"), transaction.atomic():
        child.objects.create(organization=organization, chain="secret")
    assert not parent.objects.exists()
