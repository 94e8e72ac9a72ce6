"""Index keys are rotated while another connection writes: every row is found by its value, at the end and before."""

from datetime import timedelta
from io import StringIO
from threading import Event, Thread

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from tests.testapp.models import Contact, Organization
from vault_fields.models import IndexKey
from vault_fields.rows import rotation

LONG = timedelta(days=1)


class Writer(Thread):
    """Creates a row and saves one that was read a while ago, over and over, until it is told to stop."""

    def __init__(self, organization: Organization) -> None:
        super().__init__(daemon=True)
        self.organization, self.written, self.told = organization, 0, Event()
        self.turned, self.failure = Event(), None

    def run(self) -> None:
        try:
            stale = list(Contact.objects.filter(organization=self.organization))
            while not self.told.wait(0.05):  # Rows enough, and a test that ends.
                Contact.objects.create(organization=self.organization, ssn=f"new {self.written}")
                row = stale[self.written % len(stale)]
                row.plain = f"{self.written}"
                row.save()
                self.written += 1
                self.turned.set()
        except Exception as error:  # noqa: BLE001 - told to the test, which fails.
            self.failure = error
            self.turned.set()
        finally:
            connection.close()

    def wait(self) -> None:
        """Wait until it has written once more, from the beginning of a turn on."""
        for _ in range(2):
            self.turned.clear()
            assert self.turned.wait(120)
            assert self.failure is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer")
def test_rows_that_are_written_during_a_rotation_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    organization = Organization.objects.create(workos_id="org_a")
    for number in range(20):
        Contact.objects.create(organization=organization, ssn=f"old {number}")
    writer = Writer(organization)

    def settle(seconds: float) -> None:
        if not writer.is_alive():
            return
        writer.wait()
        IndexKey.objects.update(created_at=timezone.now() - LONG)
        writer.wait()

    monkeypatch.setattr(rotation, "sleep", settle)
    monkeypatch.setattr(rotation, "_require_not_unique", lambda groups: None)  # Other models of these tests are.

    def rotate() -> None:
        call_command("vault_index", rotate=True, stdout=StringIO(), stderr=StringIO())
        writer.wait()

    def require_found() -> None:
        for row in Contact.objects.all()[:200]:
            assert [each.pk for each in Contact.objects.filter(organization=organization, ssn=row.ssn)] == [row.pk]

    writer.start()
    try:
        writer.wait()
        rotate()
        require_found()
        rotate()  # Rewrites what was saved with hashes of the old key, which it keeps.
        require_found()
    finally:
        writer.told.set()
        writer.join(120)
    assert writer.failure is None
    assert not writer.is_alive()
    # Nobody holds a row with an old hash any more: two runs, each after its grace, see the old key out.
    for _ in range(2):
        IndexKey.objects.exclude(rewritten_at=None).update(rewritten_at=timezone.now() - LONG)
        call_command("vault_index", rotate=True, stdout=StringIO())
    assert [*IndexKey.objects.values_list("generation", flat=True)] == [2]
    require_found()
    assert Contact.objects.count() == 20 + writer.written
