"""Sentry gets the local variables of every frame: none of the package has any, and the recipe takes away Django's."""

import json

import pytest
import sentry_sdk
from django.test import override_settings
from sentry_sdk.transport import Transport

from tests.test_frames import OTHER, PLAINTEXT, SCENARIOS, given, named_by_values
from vault_fields.reporting import before_send

__all__ = ["given", "named_by_values"]


class Captured(Transport):
    def __init__(self, options=None):
        super().__init__(options)
        self.events = []

    def capture_envelope(self, envelope):
        self.events += [item.payload.json for item in envelope.items if item.type == "event"]


def sent(error, **options):
    """The event that Sentry would get."""
    transport = Captured()
    client = sentry_sdk.Client(
        dsn="https://public@sentry.invalid/1",
        transport=transport,
        include_local_variables=True,
        default_integrations=False,
        max_request_body_size="always",
        **options,
    )
    with sentry_sdk.isolation_scope() as scope:
        scope.set_client(client)
        sentry_sdk.capture_exception(error)
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
def test_no_frame_of_the_package_sends_a_secret(given, fail, expected, debug):
    with override_settings(DEBUG=debug), pytest.raises(expected) as caught:
        fail(given)
    event = sent(caught.value)
    ours = [frame for frame in frames(event) if frame["module"].startswith("vault_fields")]
    assert ours
    shown = json.dumps(ours)
    assert [secret for secret in given.secrets if spelled(secret) in shown] == []


@pytest.mark.parametrize(("fail", "expected"), SCENARIOS)
def test_the_recipe_hides_values_in_all_other_frames(given, fail, expected):
    with pytest.raises(expected) as caught:
        fail(given)
    with_values = sent(caught.value)
    event = sent(caught.value, before_send=before_send)
    assert [frame["lineno"] for frame in frames(event)] == [frame["lineno"] for frame in frames(with_values)]
    variables = json.dumps([frame.get("vars") for frame in frames(event) if not frame["module"].startswith("tests.")])
    assert PLAINTEXT not in variables
    assert OTHER not in variables
