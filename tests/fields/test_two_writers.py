"""Whatever two writers do to one row: what was acknowledged is stored, and every value opens."""

import pytest
from django.db import DatabaseError, connections

from tests.fields.writers import BACKFILLS, COLUMNS, WRITES, WRITES_OF_PLAINTEXT, Meanwhile, Write, database_of_many
from tests.testapp.models import Legacy, Letter, Organization, Patient
from vault_fields.exceptions import KeyContextError
from vault_fields.fields.groups import all_groups_of
from vault_fields.stored import companion

MOMENTS = 30  # More than any of these has statements.


@pytest.fixture
def database(transactional_db, django_db_blocker, tmp_path):
    with database_of_many([Organization, Letter, Patient, Legacy], django_db_blocker, tmp_path) as alias:
        yield alias


def written_row(model, database) -> None:
    text, data, title = COLUMNS[model]
    row = model(pk=1, organization_id=1, **{text: "old text", data: ["old"]} | ({title: "old"} if title else {}))
    row.save(using=database, force_insert=True)


def plaintext_row(database) -> None:
    with connections[database].cursor() as cursor:
        cursor.execute(
            "INSERT INTO testapp_legacy (id, organization_id, text, data) VALUES (1, 1, 'old text', '[\"old\"]')"
        )


def stored_row(model, database):
    row = model.objects.using(database).get()
    text, data, title = COLUMNS[model]
    for group in all_groups_of(model):
        if keys := row.__dict__[group.companion]:
            assert companion.decode(keys).context == {"organization_id": str(row.organization_id)}
    stored = {0: getattr(row, text), 1: getattr(row, data), "organization": row.organization_id}
    return stored | ({2: getattr(row, title)} if title else {})


def value(column, mark, write: Write):
    if column == "organization":
        return 2 if write.name.startswith("move") else 1
    return {0: f"{mark} text", 1: [mark], 2: mark}[column]


def require_nothing_lost(stored, ours: Write | None, theirs: Write | None) -> None:
    """Each column has the value of a writer that named it and was told that it is written, or the old one."""
    for column, found in stored.items():
        writers = [(mark, write) for mark, write in (("ours", ours), ("theirs", theirs)) if write]
        allowed = [value(column, mark, write) for mark, write in writers if column in write.names]
        old = {0: "old text", 1: ["old"], 2: "old", "organization": 1}[column]
        assert found in (allowed or [old]), (column, found)


@pytest.mark.parametrize("model", [Letter, Patient])
@pytest.mark.parametrize("theirs", WRITES, ids=repr)
@pytest.mark.parametrize("ours", WRITES, ids=repr)
def test_what_two_writers_were_told_is_written_stays(database, model, ours, theirs) -> None:
    for moment in range(MOMENTS):
        model.objects.using(database).all().delete()
        written_row(model, database)
        if not met(database, model, ours, theirs, moment):
            return  # There are no more moments between two statements.
    raise AssertionError("more statements than moments")


@pytest.mark.parametrize("is_plaintext", [True, False], ids=["plaintext", "encrypted"])
@pytest.mark.parametrize("backfill", BACKFILLS, ids=repr)
@pytest.mark.parametrize("write", WRITES_OF_PLAINTEXT, ids=repr)
@pytest.mark.parametrize("backfill_comes_between", [True, False])
def test_what_is_written_while_a_column_is_encrypted_or_decrypted_stays(
    database, write, backfill, backfill_comes_between, is_plaintext
) -> None:
    ours, theirs = (write, backfill) if backfill_comes_between else (backfill, write)
    for moment in range(MOMENTS):
        Legacy.objects.using(database).all().delete()
        if is_plaintext:
            plaintext_row(database)
        else:
            written_row(Legacy, database)
        if not met(database, Legacy, ours, theirs, moment):
            return
    raise AssertionError("more statements than moments")


def met(database, model, ours, theirs, moment) -> bool:
    """Let the two meet at one moment, and look at what is stored. Returns whether there was such a moment."""
    act = ours.act(model, database, "ours")
    meanwhile = Meanwhile(database, moment, theirs.act(model, database, "theirs"))
    is_written = False
    try:
        with connections[database].execute_wrapper(meanwhile):
            act()
        is_written = True
    except (KeyContextError, DatabaseError) as error:
        # A row that was moved is refused; and one of two that wait for each other is sent away by the database.
        require_refusal(error, database)
    came_late = meanwhile.end()
    require_nothing_lost(
        stored_row(model, database), ours if is_written else None, theirs if meanwhile.is_written else None
    )
    return not came_late


def require_refusal(error, database) -> None:
    if isinstance(error, KeyContextError):
        assert "organization_id differs from that of the stored row" in str(error)
    else:
        assert connections[database].vendor == "mysql"
        assert "try restarting transaction" in str(error)
