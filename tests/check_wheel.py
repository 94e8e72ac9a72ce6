"""Look at the installed wheel from outside the source tree: what it holds, and that it works by itself."""

import importlib.metadata
import importlib.util
import pkgutil
import re
import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command

TREE = Path(__file__).resolve().parent.parent

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "vault_fields"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    VAULTS={"default": {"BACKEND": "vault_fields.backends.memory.InMemoryVault"}},
)
django.setup()
call_command("check")

import vault_fields  # noqa: E402  The application is imported as a project imports it: after the set-up.

package = Path(vault_fields.__file__).parent
if package.is_relative_to(TREE / "vault_fields"):
    sys.exit(f"{package} is the source tree, not the wheel.")

files = {str(path) for path in importlib.metadata.files("django-vault-fields") or []}
strangers = [name for name in files if not name.startswith(("vault_fields/", "django_vault_fields-"))]
tests = [name for name in files if "test_" in name or name.startswith("tests/")]
if strangers or tests:
    sys.exit(f"The wheel holds what it should not: {sorted({*strangers, *tests})}")
if "vault_fields/py.typed" not in files:
    sys.exit("The wheel has no py.typed: type checkers would ignore its annotations.")
sources = (path for kind in ("py", "html") for path in (TREE / "vault_fields").rglob(f"*.{kind}"))
shipped = {str(path.relative_to(TREE)) for path in sources}
if missing := shipped - files:
    sys.exit(f"The wheel lacks {sorted(missing)}")

description = importlib.metadata.metadata("django-vault-fields").get_payload()
if relative := re.findall(r"\]\((?!https?:|#)[^)]*\)", str(description)):
    sys.exit(f"The description has links that lead nowhere on the page of a package index: {relative}")

modules = [module.name for module in pkgutil.walk_packages(vault_fields.__path__, "vault_fields.")]
for name in modules:
    importlib.import_module(name)

version = importlib.metadata.version("django-vault-fields")
print(f"django-vault-fields {version}: {len(files)} files, {len(modules)} modules, all of which import.")
