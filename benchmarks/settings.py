"""Settings of the benchmarks. ``DATABASE_URL`` chooses the database, ``BENCH_VAULT`` the file of the embedded Vault."""

import os

import environ

env = environ.Env()

SECRET_KEY = "only-for-the-benchmarks"  # noqa: S105
USE_TZ = True
ALLOWED_HOSTS = ["*"]
DATABASES = {"default": env.db("DATABASE_URL", default="sqlite://:memory:")}
_name = f"bench_vault_fields_{os.getpid()}"
DATABASES["default"]["TEST"] = {"MIGRATE": False}
if "sqlite" not in DATABASES["default"]["ENGINE"]:
    DATABASES["default"]["TEST"]["NAME"] = _name
elif DATABASES["default"]["NAME"] != ":memory:":
    DATABASES["default"]["TEST"]["NAME"] = DATABASES["default"]["NAME"]
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
    "benchmarks",
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
ROOT_URLCONF = "benchmarks.urls"
STATIC_URL = "static/"
# Of django-fernet-encrypted-fields.
SALT_KEY = "only-for-the-benchmarks"

_memory = "vault_fields.backends.memory.InMemoryVault"
# Keys stay warm for longer than a run, however many there are.
_warm = {"key_max_age": 36_000, "max_cached_keys": 2_000_000}
VAULTS = {
    "default": {"BACKEND": _memory, "OPTIONS": _warm},
    # Each row has a data key of its own, as if it had been saved by itself.
    "own": {"BACKEND": _memory, "OPTIONS": _warm | {"max_rows_per_key": 1}},
    "local": {
        "BACKEND": "vault_fields.backends.local.LocalVault",
        "OPTIONS": {
            "path": env("BENCH_VAULT", default="bench-vault.sqlite3"),
            "root_key": env("BENCH_ROOT_KEY", default=None),
        },
    },
    # Parts that ask over a network say what answers there.
    "remote": {
        "BACKEND": "vault_fields.backends.workos.WorkOSVault",
        "OPTIONS": {"api_key": "sk_bench", "base_url": "http://127.0.0.1:9"},
    },
    "ahead": {
        "BACKEND": "vault_fields.backends.workos.WorkOSVault",
        "OPTIONS": {"api_key": "sk_bench", "base_url": "http://127.0.0.1:9"},
    },
}
