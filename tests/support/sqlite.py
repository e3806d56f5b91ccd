"""Embedded databases as a process finds them that starts again: to migrate an empty one takes 75
ms, to write one that is migrated 1 (measured). That an empty one is migrated, `test_migrations.py`
and all that starts a `dev` on a new folder see.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from backends import private
from backends.sql.migrations import migrate
from backends.sql.sqlite import engine_of

TIMEOUT_S = 30


def migrated(path):
    """The path, where a database without rows lies now, unless one is there."""
    if not path.exists():
        private.make_folder(path.parent)
        private.make_file(path)
        path.write_bytes(_new())
    return path


@cache
def _new():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.db"
        engine = engine_of(path, connections=1, timeout_s=TIMEOUT_S)
        migrate(engine, name="tests")
        engine.dispose()
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        return path.read_bytes()
