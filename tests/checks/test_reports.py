"""W022: a setting shows a Vault's key."""

import pytest
from django.views.debug import get_default_exception_reporter_filter

from vault_fields.checks.deployment import check_deployment
from vault_fields.checks.reports import check_reports
from vault_fields.vaults import vault_config

URL = "workos://:sk_live%2F4711@api.workos.com"


@pytest.fixture(autouse=True)
def fresh_filter():
    get_default_exception_reporter_filter.cache_clear()
    yield
    get_default_exception_reporter_filter.cache_clear()


@pytest.mark.parametrize("value", [URL, {"a": [URL]}, ("sk_live/4711",)])
def test_w022_a_setting_that_shows_a_key(settings, value) -> None:
    settings.VAULTS = {"default": vault_config(URL)}
    settings.VAULT_URL = value
    (message,) = check_reports()
    assert message.id == "vault_fields.W022"
    assert "VAULT_URL" in message.msg
    assert "sk_live" not in str(message)
    assert "vault_fields.W022" in {each.id for each in check_deployment(())}


def test_a_setting_that_is_hidden_is_passed_over(settings) -> None:
    settings.VAULTS = {"default": vault_config(URL)}
    settings.VAULT_SECRET_URL = URL
    assert list(check_reports()) == []


def test_with_the_filter_nothing_is_shown(settings) -> None:
    settings.VAULTS = {"default": vault_config(URL)}
    settings.VAULT_URL = URL
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = "vault_fields.reporting.ReporterFilter"
    assert list(check_reports()) == []


@pytest.mark.parametrize("configured", [None, "x", {"default": None}, {"default": {}}, {"default": {"OPTIONS": 3}}])
def test_what_is_wrong_with_vaults_others_say(settings, configured) -> None:
    settings.VAULTS = configured
    assert list(check_reports()) == []
