"""The settings of a process of an experiment; ``CHAOS_WORLD`` names the file that says where data and keys are."""

import json
import os
from pathlib import Path

from tests import settings as suite

WORLD = json.loads(Path(os.environ["CHAOS_WORLD"]).read_text("utf-8"))
SECRET_KEY = suite.SECRET_KEY
USE_TZ = True
DEFAULT_AUTO_FIELD = suite.DEFAULT_AUTO_FIELD
INSTALLED_APPS = ["vault_fields", "tests.testapp"]
DATABASES = {"default": WORLD["database"]}
VAULTS = WORLD["vaults"]
VAULT_SERVER = WORLD["server"]
