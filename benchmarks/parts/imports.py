"""The import of the fields, over Django alone, in fresh processes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.report import Item, Line, at_most
from benchmarks.sizes import Sizes
from benchmarks.timing import spread

# CPU time, after all of Django that a project with models and an admin imports.
CODE = """
import sys, time
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"])
django.setup()
import django.contrib.admin, django.core.management, django.db.migrations.writer, django.forms
before = time.process_time()
import vault_fields.fields
print(time.process_time() - before, int("httpx" in sys.modules))
"""


def measure(sizes: Sizes) -> Iterator[Item]:
    seconds, with_httpx = [], []
    with tempfile.TemporaryDirectory() as compiled:
        # The first process compiles what it imports, as an installer does; the others find it compiled.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = compiled
        for turn in range(-1, 2 * sizes.turns):
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
            )
            if turn >= 0:
                taken, httpx = done.stdout.split()
                seconds.append(float(taken))
                with_httpx.append(float(httpx))
    yield Line(
        "import vault_fields.fields over Django",
        spread(seconds).times(1e3),
        "ms",
        at_most(40),
        "CPU, with cryptography",
    )
    yield Line("processes that import httpx with it", spread([sum(with_httpx)]), "", at_most(0))
