"""Packages that tell what has changed: what they copy when a row is loaded, and what they compare."""

import pickle

import pytest

from tests.packages.models import Dirty, DirtyByName, Remembering, Tracked, TrackedByName, Watching
from vault_fields.checks.packages import check_packages
from vault_fields.testing import assert_vault_calls

SECRET = "078-05-1120"


def found(number):
    return [message.obj for message in check_packages(None) if message.id == f"vault_fields.{number}"]


@pytest.fixture
def create(organization):
    return lambda model: [
        model.objects.create(organization=organization, name="Ada", ssn=SECRET, history=[SECRET]) for _ in range(3)
    ]


@pytest.mark.parametrize("model", [Tracked, Dirty])
def test_a_tracker_of_all_fields_opens_and_copies_values(create, model) -> None:
    """What W024 is about."""
    create(model)
    with assert_vault_calls(decrypt=3, cold=True):
        rows = list(model.objects.all())
    assert SECRET.encode() in pickle.dumps(rows)
    assert found("W024") == [Tracked, Dirty]


@pytest.mark.parametrize("model", [TrackedByName, DirtyByName])
def test_a_tracker_of_named_fields_opens_nothing(create, model) -> None:
    create(model)
    with assert_vault_calls(cold=True):
        rows = list(model.objects.all())
    assert SECRET.encode() not in pickle.dumps(rows)
    rows[0].name, rows[0].ssn = "Bea", "changed"
    if model is TrackedByName:
        assert rows[0].tracker.changed() == {"name": "Ada"}
    else:
        assert rows[0].get_dirty_fields() == {"name": "Ada"}
    rows[0].save()
    assert model.objects.get(pk=rows[0].pk).ssn == "changed"


@pytest.fixture
def heard():
    for model in (Remembering, Watching):
        model.heard.clear()
    return Watching.heard


def test_hooks_hear_that_a_value_changed_and_what_it_is_now(create, heard, django_capture_on_commit_callbacks) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        create(Watching)
    assert heard == []
    row = Watching.objects.first()
    with assert_vault_calls(cold=True):
        assert not row.has_changed("ssn")
        assert not row.has_changed("history")
    assert row.ssn == SECRET
    assert not row.has_changed("ssn")
    row.save()
    assert heard == []
    row.ssn = "second"
    assert row.has_changed("ssn")
    row.save()
    assert heard == ["changed", "is second"]


def test_hooks_remember_the_encrypted_value(create, heard) -> None:
    """What W025 is about: it says what it is, and equals no text."""
    create(Remembering)
    Remembering.heard.clear()
    row = Remembering.objects.first()
    assert str(row.initial_value("ssn")) == "<encrypted value: read it as the instance's attribute>"
    assert type(row.initial_value("ssn")).__name__ == "EncryptedValue"
    row.ssn = "first"
    row.save()
    row = Remembering.objects.get(pk=row.pk)
    row.ssn = "second"
    row.save()
    assert Remembering.heard == []
    assert row.ssn == "second"
    assert found("W025") == [Remembering, Remembering]


def test_pickles_of_rows_with_hooks_hold_no_value(create) -> None:
    create(Watching)
    row = Watching.objects.first()
    assert row.ssn == SECRET
    assert SECRET.encode() not in pickle.dumps(row)
