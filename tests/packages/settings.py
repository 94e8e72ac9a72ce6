"""Settings of tests/packages: those of the suite, with the packages that have tables, or change what Django does."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS
from vault_fields.testing import BAKER_GENERATORS

INSTALLED_APPS = [
    *INSTALLED_APPS,
    "auditlog",
    "cacheops",
    "reversion",
    "simple_history",
    "taggit",
    "tests.packages",
    "wagtail",
]
CACHEOPS_CLIENT_CLASS = "tests.packages.redis_in_memory.Client"
CACHEOPS = {
    "packages.cached": {"ops": "all", "timeout": 60},
    "packages.found": {"ops": {"get", "fetch"}, "timeout": 60},
    "packages.cachedonrequest": {"ops": (), "timeout": 60},
    "testapp.organization": {"ops": "all", "timeout": 60},
}
BAKER_CUSTOM_FIELDS_GEN = {**BAKER_GENERATORS}
