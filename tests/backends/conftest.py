"""What the suites of the stores share: the databases that each SQL adapter is tested on."""

from __future__ import annotations

import pytest

from backends.database import Database

# The suites' assertions explain themselves too.
pytest.register_assert_rewrite("tests.backends.suite_log", "tests.backends.suite_cache")

DATABASES = {"sqlite": lambda folder: Database.sqlite(folder / "data.db")}


@pytest.fixture(params=DATABASES)
async def database(request, tmp_path):
    """An open database, closed afterwards."""
    database = DATABASES[request.param](tmp_path)
    yield database
    await database.close()
