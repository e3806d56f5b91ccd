"""What the suites of the stores share: the databases that each SQL adapter is tested on, and an embedded log with its clock."""

from __future__ import annotations

import pytest

from backends.database import Database
from backends.log.embedded import EmbeddedLog
from tests.clock import Clock

# The suites' assertions explain themselves too.
pytest.register_assert_rewrite("tests.backends.suite_log", "tests.backends.suite_cache")

DATABASES = {"sqlite": lambda folder: Database.sqlite(folder / "data.db")}


@pytest.fixture(params=DATABASES)
async def database(request, tmp_path):
    """An open database, closed afterwards."""
    database = DATABASES[request.param](tmp_path)
    yield database
    await database.close()


@pytest.fixture
def clock():
    """Of the embedded log."""
    return Clock()


@pytest.fixture
async def make(tmp_path, clock):
    """Makes embedded logs on one file. All are closed afterwards."""
    made = []

    def another(path=tmp_path / "data" / "log.db"):
        made.append(EmbeddedLog(path, clock=clock))
        return made[-1]

    yield another
    for log in made:
        await log.close()


@pytest.fixture
def log(make):
    """An embedded log."""
    return make()
