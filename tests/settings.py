"""Settings of the test suite. ``DATABASE_URL`` chooses the database; without it, SQLite in memory."""

import os
import re

import environ

env = environ.Env()

SECRET_KEY = "only-for-the-tests"
USE_TZ = True
DATABASES = {"default": env.db("DATABASE_URL", default="sqlite://:memory:")}
if "sqlite" not in DATABASES["default"]["ENGINE"]:
    # Environments of tox that run side by side on one server each have a database of their own.
    _run = re.sub(r"\W", "_", os.environ.get("TOX_ENV_NAME", "here"))
    DATABASES["default"]["TEST"] = {"NAME": f"test_vault_fields_{_run}"}
    if "mysql" in DATABASES["default"]["ENGINE"]:
        DATABASES["default"]["TEST"]["CHARSET"] = "utf8mb4"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "vault_fields",
    "tests.testapp",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
VAULTS = {"default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}}
