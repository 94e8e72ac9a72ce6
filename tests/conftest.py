from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from django.db import connection, connections, transaction
from django.db.models import Model
from django.test import TransactionTestCase

from tests.testapp.models import Organization, Patient
from vault_fields.fields.seallimit import suspended
from vault_fields.vaults import vaults


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--only-database", action="store_true", help="Only the tests that use the suite's database.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--only-database"):
        others = [item for item in items if not _uses_database(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if _uses_database(item)]


def _uses_database(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    return item.get_closest_marker("django_db") is not None or not fixtures.isdisjoint({"db", "transactional_db"})


@pytest.fixture(scope="session", autouse=True)
def tables_are_emptied_quickly() -> Iterator[None]:
    """
    What a test committed is deleted row by row; content types and permissions, which each database begins with, stay.

    Django truncates every table instead, and makes those rows anew: on the servers that takes longer than most tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", _delete_rows)
        yield


def _delete_rows(test: TransactionTestCase) -> None:
    for alias in test._databases_names(include_mirrors=False):
        database = connections[alias]
        names = database.introspection.django_table_names(only_existing=True, include_views=False)
        with transaction.atomic(alias), database.constraint_checks_disabled(), database.cursor() as cursor:
            for name in sorted(set(names) - {"django_content_type", "auth_permission", "django_migrations"}):
                cursor.execute(f"DELETE FROM {database.ops.quote_name(name)}")


@pytest.fixture(autouse=True)
def cold_vault() -> None:
    """No test profits from the keys that another one opened."""
    for alias in vaults:
        vaults[alias].purge()


@pytest.fixture(autouse=True)
def no_chance(request: pytest.FixtureRequest) -> Iterator[None]:
    """Rows that are written again keep their data keys: tests count Vault calls. Those of chance itself allow it."""
    with ExitStack() as stack:
        if "draw" not in request.fixturenames:
            stack.enter_context(suspended())
        yield


@pytest.fixture
def organization(db: None) -> Organization:
    return Organization.objects.create(workos_id="org_1")


@pytest.fixture
def other_organization(db: None) -> Organization:
    return Organization.objects.create(workos_id="org_2")


@pytest.fixture
def patient(organization: Organization) -> Patient:
    """A stored row, as nobody has loaded it yet."""
    created = Patient.objects.create(organization=organization, name="Ada", ssn="123-45-6789", notes="", history=[1])
    return Patient(pk=created.pk)


@pytest.fixture
def stored(db: None) -> Callable[..., tuple]:
    """What the database holds, past the ORM: ``stored(instance, "column", …)``."""

    def read(instance, *columns: str) -> tuple:
        quote = connection.ops.quote_name
        meta = instance._meta
        sql = f"SELECT {', '.join(map(quote, columns))} FROM {quote(meta.db_table)} WHERE {quote(meta.pk.column)} = %s"
        with connection.cursor() as cursor:
            cursor.execute(sql, [meta.pk.get_db_prep_value(instance.pk, connection)])
            return cursor.fetchone()

    return read


@pytest.fixture
def execute(db: None) -> Callable[..., None]:
    """Run SQL past the ORM."""

    def run(sql: str, *params: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)

    return run


@pytest.fixture
def move(execute) -> Callable[..., None]:
    """Give rows another tenant and leave their values, as SQL does: ``move(Patient, organization, *pks)``, or all."""

    def run(model: type[Model], organization: Organization, *pks: object) -> None:
        sql = f"UPDATE {model._meta.db_table} SET organization_id = %s"
        for condition in [f" WHERE id = {pk}" for pk in pks] or [""]:
            execute(sql + condition, organization.pk)

    return run


@pytest.fixture
def lock_queries() -> int:
    """How many queries it takes to lock some rows and read them: SQLite locks the database by a write of nothing."""
    return 1 if connection.features.has_select_for_update else 2
