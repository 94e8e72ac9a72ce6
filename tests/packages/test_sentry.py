"""Sentry gets the local variables of every frame: none of the package has any, and the recipe takes away Django's."""

import json
import logging
from types import SimpleNamespace
from typing import Never

import pytest
import sentry_sdk
from django.test import override_settings
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from tests.runtime.test_frames import OTHER, PLAINTEXT, SCENARIOS, given, named_by_values
from tests.test_reporting import HELD, NUMBER, SECRET, fail_with, rows_named_by_values
from tests.testapp.models import Patient
from vault_fields.reporting import HIDDEN, before_send

__all__ = ["given", "named_by_values", "rows_named_by_values"]


class Captured(Transport):
    def __init__(self, options=None):
        super().__init__(options)
        self.events = []

    def capture_envelope(self, envelope) -> None:
        self.events += [item.payload.json for item in envelope.items if item.type in {"event", "transaction"}]


def sent(error, **options):
    """The event that Sentry would get."""
    return reported(lambda: sentry_sdk.capture_exception(error), **options)


def reported(report, **options):
    transport = Captured()
    client = sentry_sdk.Client(
        dsn="https://public@sentry.invalid/1",
        transport=transport,
        default_integrations=False,
        **{"include_local_variables": True, "max_request_body_size": "always", **options},
    )
    with sentry_sdk.isolation_scope() as scope:
        scope.set_client(client)
        report()
    client.close()
    (event,) = transport.events
    return event


def frames(event):
    return [frame for each in event["exception"]["values"] for frame in each["stacktrace"]["frames"]]


def spelled(secret):
    return secret if isinstance(secret, str) else repr(secret)[2:-1]


@pytest.mark.usefixtures("named_by_values")
@pytest.mark.parametrize("debug", [False, True], ids=["", "DEBUG"])
@pytest.mark.parametrize(("fail", "expected"), SCENARIOS)
def test_no_frame_of_the_package_sends_a_secret(given, fail, expected, debug) -> None:
    with override_settings(DEBUG=debug), pytest.raises(expected) as caught:
        fail(given)
    event = sent(caught.value)
    ours = [frame for frame in frames(event) if frame["module"].startswith("vault_fields")]
    assert ours
    shown = json.dumps(ours)
    assert [secret for secret in given.secrets if spelled(secret) in shown] == []


@pytest.mark.parametrize(("fail", "expected"), SCENARIOS)
def test_the_recipe_hides_values_in_all_other_frames(given, fail, expected) -> None:
    with pytest.raises(expected) as caught:
        fail(given)
    with_values = sent(caught.value)
    event = sent(caught.value, before_send=before_send)
    assert [frame["lineno"] for frame in frames(event)] == [frame["lineno"] for frame in frames(with_values)]
    variables = json.dumps([frame.get("vars") for frame in frames(event) if not frame["module"].startswith("tests.")])
    assert PLAINTEXT not in variables
    assert OTHER not in variables


def shown(event):
    """All of an event but the source."""
    for frame in event_frames(event):
        for name in ("context_line", "pre_context", "post_context"):
            frame.pop(name, None)
    return json.dumps(event)


def shows_a_value(event):
    return any(secret in shown(event) for secret in (SECRET, str(NUMBER)))


def event_frames(event):
    holders = [each for part in ("exception", "threads") for each in event.get(part, {}).get("values", ())]
    return [frame for each in holders for frame in (each.get("stacktrace") or {}).get("frames", ())]


@pytest.mark.usefixtures("rows_named_by_values")
@pytest.mark.parametrize("name", HELD)
def test_the_recipe_hides_values_in_what_a_project_has_at_hand(organization, name) -> None:
    with pytest.raises(RuntimeError) as caught:
        fail_with(HELD[name], organization)
    assert shows_a_value(sent(caught.value))
    assert not shows_a_value(sent(caught.value, before_send=before_send))


def rows_of_values(organization):
    Patient.objects.create(organization=organization, ssn=SECRET)
    return list(Patient.objects.values_list("ssn"))


@pytest.mark.parametrize("hold", [*HELD.values(), rows_of_values])
def test_what_sends_no_variables_sends_no_values(organization, hold) -> None:
    with pytest.raises(RuntimeError) as caught:
        fail_with(hold, organization)
    assert not shows_a_value(sent(caught.value, include_local_variables=False))


def test_what_is_out_of_values_list_is_not_known(organization) -> None:
    """As the page says: there is neither a name nor a row."""
    with pytest.raises(RuntimeError) as caught:
        fail_with(rows_of_values, organization)
    assert shows_a_value(sent(caught.value, before_send=before_send))


def test_a_transaction_shows_no_value() -> None:
    def work() -> None:
        with sentry_sdk.start_transaction(name="work"), sentry_sdk.start_span(op="form") as span:
            span.set_data("ssn", PLAINTEXT)
            span.set_data("target", f"/?a=b&ssn={PLAINTEXT}")

    event = reported(work, traces_sample_rate=1.0, before_send_transaction=before_send)
    assert [span["data"]["target"] for span in event["spans"]] == [f"/?a=b&ssn={HIDDEN}"]
    assert PLAINTEXT not in json.dumps(event)


def test_a_message_with_a_stack_trace_shows_no_value(organization) -> None:
    def view(ssn) -> None:
        row = Patient(organization=organization, ssn=ssn, notes=f"a\n{OTHER}")
        kept = SimpleNamespace(text=row.notes)
        sentry_sdk.capture_message(f"slow {len(kept.text)}")

    event = reported(lambda: view(PLAINTEXT), attach_stacktrace=True, before_send=before_send)
    assert "view" in [frame["function"].rpartition(".")[2] for frame in event_frames(event)]
    assert HIDDEN in shown(event)
    assert PLAINTEXT not in shown(event)
    assert OTHER not in shown(event)


def test_what_is_logged_with_a_stack_trace_shows_no_value(organization) -> None:
    def view(number) -> None:
        row = Patient(organization=organization, ssn=number)
        logging.getLogger("shop").error("No answer for %s", type(row).__name__, extra={"notes": OTHER})

    event = reported(
        lambda: view(PLAINTEXT), attach_stacktrace=True, integrations=[LoggingIntegration()], before_send=before_send
    )
    assert event["extra"]["notes"] == HIDDEN
    assert PLAINTEXT not in shown(event)


def test_what_a_project_adds_to_an_event_is_hidden_by_names(organization) -> None:
    def report() -> None:
        sentry_sdk.add_breadcrumb(category="form", data={"ssn": PLAINTEXT, "name": "Ada"})
        sentry_sdk.set_context("form", {"ssn": PLAINTEXT, "name": "Ada"})
        sentry_sdk.set_tag("ssn", PLAINTEXT)
        sentry_sdk.capture_exception(RuntimeError("a bug"))

    event = reported(report, before_send=before_send)
    assert event["contexts"]["form"] == {"ssn": HIDDEN, "name": "Ada"}
    assert event["tags"] == {"ssn": HIDDEN}
    assert [each["data"] for each in event["breadcrumbs"]["values"]] == [{"ssn": HIDDEN, "name": "Ada"}]


def test_members_of_a_group_show_no_value(organization) -> None:
    def fail() -> Never:
        row = Patient(organization=organization, ssn=PLAINTEXT)
        number = [row.ssn]
        raise ValueError(len(number))

    with pytest.raises(ValueError) as caught:
        fail()
    group = ExceptionGroup("both", [caught.value])
    del caught
    assert PLAINTEXT in shown(sent(group))
    assert PLAINTEXT not in shown(sent(group, before_send=before_send))
