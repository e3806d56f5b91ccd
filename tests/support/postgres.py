"""PostgreSQL for tests: one database that each test finds as if it were new, and others for those
that need one of their own.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from backends.sql.database import Database
from backends.sql.migrations import migrate
from backends.sql.postgresql import Server, engine_of

# Making a database takes 150 ms, this 10 (measured).
EMPTY = [
    f"DELETE FROM {table}"  # noqa: S608 - our own names
    for table in (
        "configuration",
        "configuration_history",
        "administrators",
        "account_events",
        "accounts",
        "devices",
        "owners",
        "messages",
        "mentions",
        "reactions",
        "hidden_messages",
        "pins",
        "chat_states",
        "groups",
        "log_in_notices",
        "group_members",
        "pending_commands",
        "chat_preferences",
        "contacts",
        "blocks",
        "privacy",
        "files",
        "file_grants",
        "search_messages",
        "search_hidden",
    )
]
EMPTY += ["UPDATE generators SET holder = '', until_ms = 0 WHERE until_ms != 0 OR holder != ''"]


class Postgres:
    """One server, by the settings that `tests/support/real.py` gives."""

    def __init__(self, settings):
        self._at = settings["database"].rpartition("/")[0]
        self.options = {
            "password": settings.get("database_password", ""),
            "ca": settings.get("database_ca", ""),
        }
        self._made = []
        self._admin = self.engine(settings["database"])
        self._shared = self.make()
        self._cleaner = self.engine(self._shared)
        migrate(self._cleaner, name="tests")

    def environ(self, url):
        """What leads a process of its own there."""
        return {
            "KNCHAT_DATABASE": url,
            "KNCHAT_DATABASE_PASSWORD": self.options["password"],
            "KNCHAT_DATABASE_CA": self.options["ca"],
        }

    def engine(self, url):
        """For statements of the test's own."""
        return engine_of(Server(url, **self.options), connections=1, timeout_s=30)

    def empty(self):
        """The URL of the database of all tests, migrated, with nothing in it."""
        with (
            self._cleaner.connect().execution_options(writing=True) as connection,
            connection.begin(),
        ):
            for statement in EMPTY:
                connection.exec_driver_sql(statement)
        return self._shared

    def run(self, *statements):
        """As the role that owns the databases, each by itself."""
        with self._admin.connect() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def make(self, options=""):
        """The URL of a database of the test's own, not migrated."""
        name = f"test_{secrets.token_hex(8)}"
        self.run(f"CREATE DATABASE {name} {options}")
        self._made.append(name)
        return f"{self._at}/{name}"

    def open(self, url, **options):
        """An adapter's database there."""
        return Database.postgresql(url, **self.options | options)

    def end_connections(self):
        """Those of the database of all tests, as a server does that ends."""
        self._cleaner.dispose()
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        with self._admin.connect() as connection:
            connection.execute(sa.text(end), {"name": self._shared.rpartition("/")[2]})

    def close(self):
        """Drops all databases that were made, used or not."""
        self._cleaner.dispose()
        self.run(*(f"DROP DATABASE {name} WITH (FORCE)" for name in self._made))
        self._admin.dispose()


def ask(query):
    """Work for an adapter's `read` or `write`: what the query says."""
    return lambda connection: connection.exec_driver_sql(query).scalar()
