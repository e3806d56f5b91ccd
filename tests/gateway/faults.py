"""Trouble that really happens to the embedded log: a table that cannot be written, a writer who
keeps the lock.
"""

import sqlite3
from contextlib import closing, contextmanager


@contextmanager
def broken(data, table):
    """The table (`records`: the log; `keys`: the cache) is gone: writing it fails at once, until
    the end.
    """
    with closing(sqlite3.connect(data / "log.db", isolation_level=None, timeout=5)) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO away")
        try:
            yield
        finally:
            connection.execute(f"ALTER TABLE away RENAME TO {table}")


@contextmanager
def held_up(data):
    """Another process has the write lock: writes wait, until the end."""
    with closing(sqlite3.connect(data / "log.db", isolation_level=None, timeout=5)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
