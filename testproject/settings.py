"""
Settings of the example project.

``DATABASE_URL`` and ``VAULT_URL`` choose the database and the Vault; without them both are SQLite files beside
``manage.py``, which is where the demo leaves its own.
"""

from pathlib import Path

import environ

from vault_fields.vaults import vault_config

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

DEBUG = True
SECRET_KEY = "only-for-the-example-project"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

DEMO_DATABASE = BASE_DIR / "demo.sqlite3"
DEMO_VAULT = BASE_DIR / "demo-vault.sqlite3"

DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{DEMO_DATABASE}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

VAULTS = {"default": vault_config(env("VAULT_URL", default=f"local://{DEMO_VAULT}"))}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "vault_fields",
    "testproject.clinic",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
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
ROOT_URLCONF = "testproject.urls"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True
