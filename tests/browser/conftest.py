"""Chromium, headless, on a live server with the admin of the suite. ``tox -e browser`` runs this directory."""

import shutil
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.test import override_settings
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
]


@pytest.fixture(scope="session", autouse=True)
def project() -> Iterator[None]:
    """The live server starts once, and has to find styles, scripts and this admin from the beginning."""
    apps = [*settings.INSTALLED_APPS, "django.contrib.staticfiles"]
    with override_settings(INSTALLED_APPS=apps, ROOT_URLCONF="tests.admin_site"):
        yield


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = _program("chromium")
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    chrome = Chrome(options=options, service=ChromeService(_program("chromedriver")))
    yield chrome
    chrome.quit()


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"The browser tests need {name}; Debian has it in chromium and chromium-driver.")
    return path
