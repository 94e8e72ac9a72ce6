"""A row that is written to a parent's table, in whatever way: what its children hold for it comes along."""

from contextlib import nullcontext

import pytest
from django.core import serializers
from django.core.management.color import no_style
from django.db import DatabaseError, connection, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.test.utils import CaptureQueriesContext, isolate_apps

from tests.fields.test_moving import Meanwhile
from tests.testapp.models import ApiKey, Branch, Certificate, Depot, Folder, Office, Organization, WildcardCertificate
from vault_fields.exceptions import DecryptionError, KeyContextError
from vault_fields.fields import EncryptedTextField, moving
from vault_fields.fields.sealing import seal
from vault_fields.stored import companion
from vault_fields.testing import assert_vault_calls


def upsert(model, rows, *names, unique="id"):
    """MariaDB takes whatever is unique."""
    options = {} if connection.vendor == "mysql" else {"unique_fields": [unique]}
    return model.objects.bulk_create(rows, update_conflicts=True, update_fields=names, **options)


def upsert_twice(rows) -> None:
    """Rows of which two are one. PostgreSQL refuses a statement that updates a row twice."""
    refused = pytest.raises(DatabaseError) if connection.vendor == "postgresql" else nullcontext()
    with refused, transaction.atomic():
        upsert(Office, rows, "organization", "region")


def taken_twice(organization, region):
    return None if connection.vendor == "postgresql" else (organization.pk, region, "s")


def saved(office) -> None:
    office.save()


def saved_by_force(office) -> None:
    office.save(force_update=True)


def saved_by_name(office) -> None:
    office.save(update_fields=["organization"])


def saved_as_what_it_is(office) -> None:
    stored = Office.objects.get()
    stored.organization_id = office.organization_id
    stored.save(force_update=True)


def updated_or_created(office) -> None:
    Office.objects.update_or_create(pk=office.pk, defaults={"organization_id": office.organization_id})


def saved_raw(office) -> None:
    office.save_base(raw=True)


def loaded(office) -> None:
    for each in serializers.deserialize("json", serializers.serialize("json", [office])):
        each.save()


def upserted(office) -> None:
    upsert(Office, [office], "organization")


def upserted_by_another_key(office) -> None:
    Office.objects.update(code="c")
    upsert(Office, [Office(code="c", organization_id=office.organization_id)], "organization", unique="code")


WAYS = [
    saved,
    saved_by_force,
    saved_by_name,
    saved_as_what_it_is,
    updated_or_created,
    saved_raw,
    loaded,
    upserted,
    upserted_by_another_key,
]


@pytest.fixture
def branch(organization):
    return Branch.objects.create(organization=organization, secret="s")


def branches():
    return list(Branch.objects.order_by("pk").values_list("organization", "region", "secret"))


@pytest.mark.parametrize("write", WAYS)
def test_whatever_writes_to_a_parent_takes_along_what_its_children_hold(branch, other_organization, write) -> None:
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        write(Office(pk=branch.pk, organization=other_organization))
    assert branches() == [(other_organization.pk, "", "s")]
    with assert_vault_calls(cold=True):
        write(Office(pk=branch.pk, organization=other_organization))
    assert branches() == [(other_organization.pk, "", "s")]


@pytest.mark.parametrize("write", WAYS)
def test_a_value_that_does_not_open_stops_it(branch, organization, other_organization, execute, write) -> None:
    execute("UPDATE testapp_branch SET secret = '$vf$1$AAAA'")
    with pytest.raises(DecryptionError, match=rf"testapp.Branch.secret \(pk={branch.pk}\)"), transaction.atomic():
        write(Office(pk=branch.pk, organization=other_organization))
    assert Office.objects.get().organization == organization


def test_an_upsert_that_is_refused_ends_no_transaction(branch, organization, other_organization, execute) -> None:
    execute("UPDATE testapp_branch SET secret = '$vf$1$AAAA'")
    with pytest.raises(DecryptionError):
        upserted(Office(pk=branch.pk, organization=other_organization))
    assert Office.objects.get().organization == organization


def test_a_fixture_of_a_parent_and_its_child_is_loaded_over_rows_of_another_tenant(branch, other_organization) -> None:
    here = branch.organization
    Branch.objects.update(organization=other_organization)
    fixture = serializers.serialize("json", [Office.objects.get(), Branch.objects.get()])
    Branch.objects.update(organization=here)
    for each in serializers.deserialize("json", fixture):
        each.save()
    assert branches() == [(other_organization.pk, "", "s")]


def test_a_column_that_the_database_computes_is_what_it_computes(branch, other_organization) -> None:
    row = Office.objects.get()
    row.region, row.organization_id = Concat(Value("a"), Value("b")), other_organization.pk
    row.save()
    assert branches() == [(other_organization.pk, "ab", "s")]


def test_a_column_that_cannot_be_compared_keeps_no_row_from_being_saved_unless_a_value_depends_on_it(branch) -> None:
    plain = Office.objects.create(organization=branch.organization)
    plain.region = 7.9
    plain.save()
    assert Office.objects.get(pk=plain.pk).region == "7.9"
    says = rf"testapp.Branch.secret \(pk={branch.pk}\).*'region'"
    with pytest.raises(KeyContextError, match=says), transaction.atomic():
        Office(pk=branch.pk, organization=branch.organization, region=7.9).save()
    assert branches() == [(branch.organization_id, "", "s")]


# What it costs.


def count(write, **calls):
    with CaptureQueriesContext(connection) as queries, assert_vault_calls(cold=True, **calls):
        write()
    return len([query for query in queries if "SAVEPOINT" not in query["sql"]])


def test_where_no_value_can_depend_on_it_nothing_is_asked(organization, other_organization) -> None:
    new = Office(organization=organization)
    assert count(new.save) == 1
    assert count(lambda: new.save(update_fields=["code"])) == 1
    assert count(lambda: Office(pk=new.pk, organization=other_organization).save(update_fields=["code"])) == 1
    assert count(lambda: Office(pk=99, organization=organization).save(force_insert=True)) == 1
    assert count(lambda: Office.objects.bulk_create([Office(organization=organization)])) == 1
    assert count(lambda: upsert(Office, [Office(pk=new.pk, organization=organization)], "code")) == 1
    assert count(Office.objects.only("code").get(pk=99).save) == 1
    # A row of a model that no other inherits from.
    assert count(Organization(pk=organization.pk, workos_id="x").save) == 1
    assert count(lambda: upsert(Organization, [Organization(pk=organization.pk, workos_id="y")], "workos_id")) == 1


def test_a_row_of_which_no_child_holds_values_costs_a_lock_and_a_query_for_each_child_if_it_moves(
    organization, other_organization, lock_queries
) -> None:
    office = Office.objects.create(organization=organization)
    assert count(Office(pk=office.pk, organization=organization).save) == 1 + lock_queries
    assert count(lambda: office.save_base(raw=True)) == 1 + lock_queries
    assert count(Office(pk=office.pk, organization=other_organization).save) == 1 + lock_queries + 2
    # A new row that brings its key: Django too asks whether it is there.
    assert count(Office(pk=office.pk + 1, organization=organization).save) == 2 + lock_queries
    assert count(Branch(pk=office.pk + 2, organization=organization, secret="").save, create=1) == 3 + lock_queries


def test_a_row_of_a_child_is_locked_from_the_top_down(branch, lock_queries, organization) -> None:
    rows_locked = 2 if lock_queries == 1 else lock_queries
    branch.secret = "new"
    assert count(lambda: branch.save(update_fields=["secret"]), decrypt=1) == 1 + rows_locked
    depot = Depot.objects.create(name="d", key="k", organization=organization)
    depot.key = "new"
    assert count(lambda: depot.save(update_fields=["key"]), decrypt=1) == 1 + rows_locked


def test_an_upsert_costs_queries_for_the_rows_and_for_each_child_however_many_rows(
    organization, other_organization, lock_queries
) -> None:
    """Before it, in its transaction, and after it: which rows are there; and of each child, whether it holds values."""
    new = Office(code="n", organization=organization)
    assert count(lambda: upsert(Office, [new], "organization", unique="code")) == 1 + 3 + 2 + (lock_queries - 1)
    for number in range(1, 5):
        pks = [Branch.objects.create(organization=organization, secret="s").pk for _ in range(number)]
        rows = [Office(pk=pk, organization=other_organization) for pk in pks]
        with CaptureQueriesContext(connection) as queries, assert_vault_calls(create=1, decrypt=number, cold=True):
            upsert(Office, rows, "organization")
        asked = [query for query in queries if "SAVEPOINT" not in query["sql"]]
        # And where one does: what its new columns are, before and in the transaction; and what writes its values.
        assert len(asked) == 1 + 5 + 6 + 2 + 1 + (lock_queries - 1)


# Upserts.


def test_an_upsert_of_rows_that_are_there_and_rows_that_are_new(organization, other_organization) -> None:
    held = [Branch.objects.create(organization=organization, secret=f"s{number}").pk for number in range(3)]
    plain = Office.objects.create(organization=organization).pk
    rows = [Office(pk=pk, organization=other_organization, region=f"r{pk}") for pk in (*held[:2], plain, plain + 1)]
    with assert_vault_calls(create=1, decrypt=2, cold=True):
        upsert(Office, rows, "organization", "region")
    assert branches() == [
        (other_organization.pk, f"r{held[0]}", "s0"),
        (other_organization.pk, f"r{held[1]}", "s1"),
        (organization.pk, "", "s2"),
    ]
    assert Office.objects.filter(organization=other_organization).count() == 4


def test_an_upsert_of_a_parent_with_values_of_its_own(organization, other_organization) -> None:
    row = WildcardCertificate.objects.create(organization=organization, secret="s", chain="c", pattern="p")
    with assert_vault_calls(create=2, decrypt=1, cold=True):
        upsert(ApiKey, [ApiKey(pk=row.pk, organization=other_organization, secret="t")], "organization", "secret")
    rows = WildcardCertificate.objects.values_list("organization", "secret", "chain", "pattern")
    assert list(rows) == [(other_organization.pk, "t", "c", "p")]


def test_an_upsert_by_expressions(branch, other_organization) -> None:
    row = Office(pk=branch.pk, organization_id=Value(other_organization.pk), region=Concat(Value("a"), Value("b")))
    upsert(Office, [row], "organization", "region")
    assert branches() == [(other_organization.pk, "ab", "s")]


def test_of_two_rows_that_are_the_same_one_the_last_is_taken(branch, organization, other_organization) -> None:
    rows = [Office(pk=branch.pk, organization=other_organization, region=region) for region in ("a", "b")]
    upsert_twice(rows)
    assert branches() == [taken_twice(other_organization, "b") or (organization.pk, "", "s")]


def test_more_rows_than_one_statement_asks_for(organization, other_organization) -> None:
    pks = [Branch.objects.create(organization=organization, secret="s").pk for _ in range(3)]
    new = [Office(organization=organization, pk=max(pks) + number) for number in range(1, 399)]
    rows = [Office(pk=pks[0]), *new[:199], Office(pk=pks[1]), *new[199:], Office(pk=pks[2])]
    for row in rows:
        row.organization = other_organization
    upsert(Office, rows, "organization")
    assert branches() == [(other_organization.pk, "", "s")] * 3


def test_of_the_same_row_far_apart_the_last_is_taken(branch, organization, other_organization) -> None:
    rows = [Office(pk=branch.pk + number, organization=organization, region="a") for number in range(250)]
    upsert_twice([*rows, Office(pk=branch.pk, organization=other_organization, region="b")])
    assert branches() == [taken_twice(other_organization, "b") or (organization.pk, "", "s")]


def test_of_the_same_row_far_apart_in_two_spellings_none_is_taken(branch, organization, other_organization) -> None:
    rows = [Office(pk=branch.pk + number, organization=organization, region="a") for number in range(250)]
    rows.append(Office(pk=str(branch.pk), organization=other_organization))
    with pytest.raises(KeyContextError, match="matched by several of the given rows"):
        upsert(Office, rows, "organization", "region")
    assert branches() == [(organization.pk, "", "s")]


def test_a_row_that_comes_to_hold_values_meanwhile_is_refused_and_nothing_is_written(
    organization, other_organization
) -> None:
    def insert() -> None:
        Branch.objects.create(pk=5, organization=organization, secret="s")

    row = Office(pk=5, organization=other_organization)
    statement = Meanwhile('INSERT INTO "testapp_office"'.replace('"', connection.ops.quote_name("x")[0]), insert)
    with (
        connection.execute_wrapper(statement),
        pytest.raises(KeyContextError, match=r"testapp.Branch.secret \(pk=5\) is encrypted for .*Try again"),
    ):
        upserted(row)
    assert statement.act is None
    insert()
    upserted(row)
    assert branches() == [(other_organization.pk, "", "s")]


def test_a_row_that_is_matched_by_another_key_than_was_expected_is_refused(organization, other_organization) -> None:
    """
    Only where every unique column may match. The others are told which column matches, so that the row is the expected
    one.
    """
    first, second = (Branch.objects.create(organization=organization, secret=code, code=code) for code in "ab")
    matches_any = connection.vendor == "mysql"
    refused = pytest.raises(KeyContextError, match="matched by several of the given rows")
    with refused if matches_any else nullcontext():
        upsert(Office, [Office(pk=first.pk, code="b", organization=other_organization)], "organization")
    owner = organization if matches_any else other_organization
    assert branches() == [(owner.pk, "", "a"), (organization.pk, "", "b")]
    assert second.code == "b"


def test_what_django_refuses_is_refused_in_its_words(organization) -> None:
    child = Certificate(pk=1, organization=organization, secret="s")
    refusals = [
        lambda: Office.objects.bulk_create([Office()], update_conflicts=True, ignore_conflicts=True),
        lambda: Office.objects.bulk_create([Office()], update_conflicts=True),
        lambda: upsert(Certificate, [child], "organization", "secret", "chain"),
    ]
    if connection.features.supports_update_conflicts_with_target:
        rows = [Office(pk=1, organization=organization)]
        refusals.append(lambda: Office.objects.bulk_create(rows, update_conflicts=True, update_fields=["organization"]))
    for refused in refusals:
        with pytest.raises(ValueError, match="exclusive|must be provided|multi-table"):
            refused()


# Columns that choose their value when they are saved.


class Lowered(models.CharField):
    def pre_save(self, model_instance, add):
        setattr(model_instance, self.attname, getattr(model_instance, self.attname).lower())
        return super().pre_save(model_instance, add)


class Longer(models.CharField):
    def pre_save(self, model_instance, add):
        if value := getattr(model_instance, self.attname):
            setattr(model_instance, self.attname, f"{value}x")
        return super().pre_save(model_instance, add)


@pytest.fixture
def make():
    def make(field_class):
        class Place(models.Model):
            organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
            region = field_class(max_length=20, default="")

            class Meta:
                app_label, db_table, managed = "testapp", Office._meta.db_table, False

        class Room(Place):
            place_ptr = models.OneToOneField(
                Place, models.CASCADE, parent_link=True, primary_key=True, db_column="office_ptr_id"
            )
            secret = EncryptedTextField(key_context=["organization_id"], bind_to=["region"])

            class Meta:
                app_label, db_table, managed = "testapp", Branch._meta.db_table, False

        return Place, Room

    with isolate_apps("tests.testapp"):
        yield make


LATE = [
    lambda row: row.save(),
    lambda row: row.save(update_fields=["region"]),
    lambda row: upsert(type(row), [row], "region"),
]


@pytest.mark.parametrize("write", LATE, ids=["save", "update_fields", "upsert"])
def test_a_column_that_is_chosen_late_is_what_it_is_saved_as(make, organization, write) -> None:
    place, room = make(Lowered)
    pk = room.objects.create(organization=organization, region="North", secret="s").pk
    write(place(pk=pk, organization=organization, region="SOUTH"))
    assert room.objects.values_list("region", "secret").get() == ("south", "s")


@pytest.mark.parametrize("write", LATE, ids=["save", "update_fields", "upsert"])
def test_a_column_that_is_another_each_time_is_refused(make, organization, write) -> None:
    place, room = make(Longer)
    pk = room.objects.create(organization=organization, secret="s").pk
    with pytest.raises(KeyContextError, match=r"Room.secret \(pk=\d+\) is encrypted for"), transaction.atomic():
        write(place(pk=pk, organization=organization, region="b"))
    assert room.objects.values_list("region", "secret").get() == ("", "s")


# A row of a parent that is a row of several children.


@pytest.fixture
def depot(branch):
    # Its own primary key is not that of the row that both share.
    shared = {"office_ptr_id": branch.pk, "id": branch.pk, "organization_id": branch.organization_id}
    return Depot.objects.create(name="d", key="k", **shared)


def everything():
    return {*Branch.objects.values_list("organization", "secret"), *Depot.objects.values_list("organization", "key")}


def updated_with_a_value(row) -> None:
    Branch.objects.filter(pk=row.pk).update(organization=row.organization_id, secret="s")


def updated_by_expression(row) -> None:
    Branch.objects.filter(pk=row.pk).update(organization=F("organization") + row.organization_id - F("organization"))


CHILD_WAYS = {
    "save": lambda row: row.save(),
    "update_fields": lambda row: row.save(update_fields=["organization"]),
    "update": lambda row: type(row).objects.filter(pk=row.pk).update(organization=row.organization_id),
    "update of a join": lambda row: Office.objects.filter(branch=row.id).update(organization=row.organization),
}
BRANCH_WAYS = {
    "update with a value": updated_with_a_value,
    "update by an expression": updated_by_expression,
    "bulk_update": lambda row: Branch.objects.bulk_update([row], ["organization"]),
}


@pytest.mark.parametrize(
    ("model", "write"),
    [(model, write) for model in (Branch, Depot) for write in CHILD_WAYS] + [(Branch, write) for write in BRANCH_WAYS],
)
def test_what_other_children_hold_of_the_same_row_comes_along(
    depot, organization, other_organization, model, write
) -> None:
    Branch.objects.create(organization=organization, secret="aside")
    row = model.objects.get(id=depot.id)
    row.organization = other_organization
    # What is sealed together shares a key: what the row itself holds, and what others hold for it.
    create = 1 if (write.startswith("update ") and "value" not in write) or write == "update" else 2
    with assert_vault_calls(create=create, decrypt=1 if "value" in write else 2, cold=True):
        {**CHILD_WAYS, **BRANCH_WAYS}[write](row)
    assert everything() == {(organization.pk, "aside"), (other_organization.pk, "s"), (other_organization.pk, "k")}


# A context in a row of the same table.


@pytest.fixture
def folders(organization, other_organization):
    """Two roots, one of each organization, and a folder in the first."""
    for pk, each in ((1, organization), (2, other_organization)):
        Folder.objects.create(pk=pk, organization=each, parent_id=pk)
    return Folder.objects.create(pk=3, organization=organization, parent_id=1, text="t")


def test_rows_that_are_not_stored_yet_are_nobody_elses(folders, organization) -> None:
    """They have no key, and that of one is not that of another."""
    with connection.cursor() as cursor:  # The fixture has chosen keys, of which a sequence does not know.
        for statement in connection.ops.sequence_reset_sql(no_style(), [Folder]):
            cursor.execute(statement)
    made = Folder.objects.bulk_create(
        [Folder(organization=organization, parent=folders, text=f"n{number}") for number in range(3)]
    )
    assert sorted(Folder.objects.filter(parent=folders).values_list("text", flat=True)) == ["n0", "n1", "n2"]
    assert len(made) == 3


@pytest.mark.parametrize("joined", [False, True], ids=["simple", "joined"])
def test_a_context_in_a_row_that_the_same_update_changes_is_refused(
    folders, organization, other_organization, joined
) -> None:
    third = Organization.objects.create(workos_id="org_3")
    rows = Folder.objects.filter(organization__workos_id__startswith="org") if joined else Folder.objects.all()
    says = r"Folder.text \(pk=3\) gets its key context from testapp.Folder \(pk=2\), whose organization_id this update"
    with pytest.raises(KeyContextError, match=says):
        rows.filter(pk__gte=2).update(parent=2, organization=third)
    assert Folder.objects.values_list("organization", "parent", "text").get(pk=3) == (organization.pk, 1, "t")
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        assert rows.filter(pk=3).update(parent=2, organization=other_organization) == 1
    # Where only the row changes that the context lies in, values stay as they are.
    with assert_vault_calls(cold=True):
        assert rows.filter(pk__gte=2).update(organization=third) == 2
    assert Folder.objects.get(pk=3).text == "t"
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        assert rows.filter(pk=3).update(parent=1) == 1
    assert Folder.objects.get(pk=3).text == "t"
    with pytest.raises(KeyContextError, match=r"\(pk=3\) gets its key context from .*\(pk=3\)"):
        rows.filter(pk=3).update(parent=3, organization=third)


def test_a_row_that_comes_under_the_update_meanwhile_is_seen(folders, other_organization, monkeypatch) -> None:
    def enter(*args, **kwargs):
        monkeypatch.setattr(moving, "seal", seal)
        Folder.objects.filter(pk=2).update(region="in")
        return seal(*args, **kwargs)

    Folder.objects.filter(pk=3).update(region="in")
    monkeypatch.setattr(moving, "seal", enter)
    with pytest.raises(KeyContextError, match=r"\(pk=3\) gets its key context from testapp.Folder \(pk=2\)"):
        Folder.objects.filter(region="in").update(parent=2, organization=other_organization)


def _in_bulk(*rows) -> None:
    Folder.objects.bulk_update(rows, ["parent", "organization"])


def _all_values(*rows) -> None:
    Folder.objects.bulk_update(rows, ["parent", "organization", "text"])


def _upsert(*rows) -> None:
    upsert(Folder, rows, "parent", "organization", "text")


@pytest.mark.parametrize("write", [_in_bulk, _all_values, _upsert])
@pytest.mark.parametrize("order", [1, -1])
def test_rows_that_are_written_together_take_no_context_from_what_the_other_was(
    folders, organization, other_organization, write, order, stored
) -> None:
    """The first root is given away while the folder comes to it: by its old column, it is the old tenant's."""
    second = Folder.objects.create(pk=4, organization=organization, parent_id=4)
    folder = Folder.objects.get(pk=3)
    folder.parent_id, second.organization = 4, other_organization
    before = stored(folder, "parent_id", "text", "text_keys")
    says = r"Folder.text \(pk=3\) gets its key context from testapp.Folder \(pk=4\), whose organization_id this update"
    with pytest.raises(KeyContextError, match=says), assert_vault_calls():
        write(*[folder, second][::order])
    assert stored(folder, "parent_id", "text", "text_keys") == before
    second.save()
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        write(*[folder, second][::order])
    assert context_of(stored(folder, "text_keys")) == {"organization_id": str(other_organization.pk)}
    assert Folder.objects.get(pk=3).text == "t"


def context_of(stored):
    return dict(companion.decode(stored[0]).context)


def test_what_stays_as_it_is_keeps_nobody_from_writing_rows_together(folders, other_organization, stored) -> None:
    rows = list(Folder.objects.order_by("pk"))
    rows[2].parent_id = 2
    with assert_vault_calls(create=1, decrypt=1, cold=True):
        Folder.objects.bulk_update(rows, ["parent", "organization", "text", "region"])
    assert context_of(stored(rows[2], "text_keys")) == {"organization_id": str(other_organization.pk)}
    rows = list(Folder.objects.defer("organization").order_by("pk"))
    rows[2].text = "new"
    Folder.objects.bulk_update(rows, ["organization", "text"])
    assert Folder.objects.get(pk=3).text == "new"


def test_a_parent_that_is_the_instance_itself_is_as_it_will_be(
    folders, organization, other_organization, stored
) -> None:
    root = Folder.objects.create(pk=4, organization=organization, parent_id=4)
    folder = Folder.objects.get(pk=3)
    root.organization, folder.parent = other_organization, root
    Folder.objects.bulk_update([folder, root], ["parent", "organization"])
    assert context_of(stored(folder, "text_keys")) == {"organization_id": str(other_organization.pk)}


@pytest.mark.parametrize("options", [{}, {"update_fields": ["organization", "text"]}])
def test_a_row_that_is_its_own_parent_takes_no_context_from_what_it_was(
    folders, other_organization, options, stored
) -> None:
    root = Folder.objects.get(pk=1)
    root.organization, root.text = other_organization, "t"
    for _ in range(2):
        says = r"\(pk=1\) gets its key context from testapp.Folder \(pk=1\)"
        with pytest.raises(KeyContextError, match=says), transaction.atomic():
            root.save(**options)
    root.save(update_fields=["organization"])
    root = Folder.objects.get(pk=1)
    root.text = "t"
    root.save(**options)
    assert context_of(stored(root, "text_keys")) == {"organization_id": str(other_organization.pk)}


@pytest.mark.parametrize("value", [F("organization"), "nothing"], ids=["an expression", "no key at all"])
def test_what_only_the_database_knows_of_the_other_row(folders, value) -> None:
    rows = list(Folder.objects.filter(pk__gte=2).order_by("pk"))
    rows[0].organization_id, rows[1].parent_id = value, 2
    with pytest.raises((KeyContextError, ValueError)), transaction.atomic():
        Folder.objects.bulk_update(rows, ["parent", "organization"])
    assert Folder.objects.get(pk=3).parent_id == 1
