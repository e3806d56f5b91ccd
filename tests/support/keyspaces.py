"""Cassandra for tests: one keyspace for the whole run, since making its tables takes a second.

Tests use users and chats of their own.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager

from backends.chats.cassandra import CassandraChats
from backends.chats.cassandra_nodes import Nodes
from backends.chats.cassandra_schema import migrate


class Keyspaces:
    """One server, by the settings that `tests/support/real.py` gives."""

    def __init__(self, settings):
        self._settings = {
            name.removeprefix("cassandra_"): value for name, value in settings.items()
        }
        self._made = []
        self.shared = self.make()

    def nodes(self, keyspace, **options):
        """How an adapter gets to this keyspace."""
        values = {
            **self._settings,
            "places": self._settings["cassandra"],
            "keyspace": keyspace,
        } | options
        del values["cassandra"]
        return Nodes(**values)

    def name(self):
        """Of a keyspace that is not there yet."""
        self._made.append(f"test_{secrets.token_hex(8)}")
        return self._made[-1]

    def make(self):
        """The name of a new keyspace, migrated."""
        name = self.name()
        with self._session() as session:
            migrate(session, name, replication=1)
        return name

    def open(self, **options):
        """An adapter on the keyspace of all tests."""
        return CassandraChats(self.nodes(self.shared, **options))

    def run(self, *statements):
        """Statements of CQL, each by itself; the rows of the last."""
        with self._session() as session:
            return [session.execute(statement, timeout=30).all() for statement in statements][-1]

    def rows(self, keyspace):
        """All rows of each table of a keyspace."""
        with self._session() as session:
            tables = session.execute(
                "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", [keyspace]
            )
            return {
                table: session.execute(f"SELECT * FROM {keyspace}.{table}").all()  # noqa: S608
                for (table,) in tables
            }

    @contextmanager
    def _session(self):
        cluster, session = self.nodes("system").connect()
        try:
            yield session
        finally:
            cluster.shutdown()

    def close(self):
        """Drops what was made."""
        self.run(*(f"DROP KEYSPACE IF EXISTS {name}" for name in self._made))
