"""The plans of the databases: a lookup by value goes by the index of the column with the hashes, and scans no table."""

import re

import pytest
from django.db import connection

from tests.testapp.models import Contact, Organization

ROWS = 2000

# What each database says of a lookup that an index finds.
BY_INDEX = {
    "sqlite": r"SEARCH testapp_contact USING (?:COVERING )?INDEX testapp_contact_{}_\w+ \({}=\?\)",
    "postgresql": r"Index (?:Only )?(?:Scan using|Scan on) testapp_contact_{}_\w+",
    "mysql": r"testapp_contact (?:ref|range) \S*testapp_contact_{}_\w+",
}
SCAN = {"sqlite": r"\bSCAN\b", "postgresql": "Seq Scan", "mysql": r"testapp_contact (?:ALL|index) "}


@pytest.fixture
def thousands(organization) -> Organization:
    other = Organization.objects.create(workos_id="org_other")
    Contact.objects.bulk_create(
        Contact(organization=each, ssn=f"{number}", email=f"{number}@{each.pk}.example.org")
        for number in range(ROWS // 2)
        for each in (organization, other)
    )
    if connection.vendor != "mysql":  # There it would commit, and plans do without.
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE testapp_contact")
    return organization


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ssn_index", lambda tenant: Contact.objects.filter(organization=tenant, ssn="7")),
        ("ssn_index", lambda tenant: Contact.objects.filter(organization=tenant, ssn__in=["7", "8"])),
        ("ssn_index", lambda tenant: tenant.contacts.filter(ssn="7").exclude(email="8@example.org")),
        ("email_index", lambda tenant: Contact.objects.filter(email="7@EXAMPLE.org")),
        ("email_index", lambda tenant: Contact.objects.filter(email__iexact="7@EXAMPLE.org")),
    ],
    ids=["exact", "in", "related", "global", "iexact"],
)
def test_a_lookup_takes_the_index_and_scans_nothing(thousands, name, found) -> None:
    plan = found(thousands).explain()
    assert re.search(BY_INDEX[connection.vendor].replace("{}", name), plan), plan
    assert not re.search(SCAN[connection.vendor], plan), plan
