"""Settings of tests/tenants: a schema of PostgreSQL for each tenant, as django-tenants has it."""

import os
import re

import environ

env = environ.Env()

SECRET_KEY = "only-for-the-tests"
USE_TZ = True
DATABASES = {"default": env.db("DATABASE_URL", default="postgres://postgres@127.0.0.1:5432/postgres")}
DATABASES["default"]["ENGINE"] = "django_tenants.postgresql_backend"
_run = re.sub(r"\W", "_", os.environ.get("TOX_ENV_NAME", "here"))
DATABASES["default"]["TEST"] = {"NAME": f"test_vault_fields_tenants_{_run}"}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SHARED_APPS = ["django_tenants", "django.contrib.contenttypes", "tests.tenants.shared", "tests.testapp", "vault_fields"]
TENANT_APPS = ["tests.tenants.clinic", "vault_fields"]
INSTALLED_APPS = [*SHARED_APPS, *(app for app in TENANT_APPS if app not in SHARED_APPS)]
TENANT_MODEL = "shared.Tenant"
TENANT_DOMAIN_MODEL = "shared.Domain"
VAULTS = {"default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}}
