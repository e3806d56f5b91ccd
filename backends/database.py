"""One SQL database (SQLite, or PostgreSQL by the same statements) behind all adapters of `chats` and `accounts`.

Each adapter hands `read` or `write` a function of one connection, which runs in a thread as one transaction. The adapters' tables register
in METADATA; what the dialects spell differently stands here. This file knows no table. Source: design.md D17.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa

from backends.blocking import Blocking
from backends.migrations import migrate
from schemas.errors import Unavailable

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
    from sqlalchemy.dialects.sqlite import Insert as SqliteInsert

T = TypeVar("T")

METADATA: Final = sa.MetaData()
TIMEOUT_S: Final = 5.0
PING_TIMEOUT_S: Final = 2.0
READERS: Final = 3

_NOW_MS: Final = {
    "sqlite": "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
}


class Database:
    """One database as one process uses it. Opened, and migrated if it is older, by the first call. Belongs to one event loop."""

    def __init__(self, url: sa.URL, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._engine: sa.Engine | None = None
        self._opening = threading.Lock()
        self._reads = Blocking("database-read", threads=READERS, timeout_s=timeout_s)
        # SQLite takes one writer at a time: waiting in our queue is fair, waiting inside SQLite means polling with sleeps of up to 100 ms.
        # PostgreSQL's writers would not disturb each other, and one is still enough: a batch is one transaction of two statements.
        self._writes = Blocking("database-write", threads=1, timeout_s=timeout_s)

    @classmethod
    def sqlite(cls, path: Path, *, timeout_s: float = TIMEOUT_S) -> Database:
        """The database in this file, made if missing with its folder. Several processes may share it."""
        return cls(sa.URL.create("sqlite", database=str(path)), timeout_s=timeout_s)

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """What `work` returns. All that it reads is of one moment (SQLite) or committed (PostgreSQL).

        Raises Unavailable when the database cannot be opened, fails, does not answer within the timeout, or was made by a newer version.
        """
        return await self._reads.run(lambda: self._transaction(work, writing=False))

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """What `work` returns; what it wrote is committed, and fsynced, or not there at all. Raises as `read` does: then either may be."""
        return await self._writes.run(lambda: self._transaction(work, writing=True))

    async def ping(self) -> None:
        """Raises Unavailable when the database does not answer within 2 s."""
        await self._reads.run(lambda: self._transaction(_ping, writing=False), timeout_s=PING_TIMEOUT_S)

    async def close(self) -> None:
        """Waits for calls under way (at most the timeout), then lets go of files and connections."""
        await self._reads.close()
        await self._writes.close()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @property
    def now_ms(self) -> sa.ColumnElement[int]:
        """The database's clock in a statement, in Unix milliseconds."""
        return sa.literal_column(_NOW_MS[self.dialect], sa.BigInteger)

    @property
    def dialect(self) -> str:
        """The word for the few places where SQLite and PostgreSQL differ: `sqlite` or `postgresql`."""
        return self._url.get_backend_name()

    def insert(self, table: sa.Table) -> SqliteInsert | PostgresqlInsert:
        """The dialect's own INSERT, the one that has `on_conflict_do_update` and `on_conflict_do_nothing`."""
        insert: Callable[[sa.Table], SqliteInsert | PostgresqlInsert]
        insert = import_module(f"sqlalchemy.dialects.{self.dialect}").insert
        return insert(table)

    def _transaction(self, work: Callable[[sa.Connection], T], *, writing: bool) -> T:
        engine = self._engine or self._open()
        try:
            with engine.connect().execution_options(writing=writing) as connection, connection.begin():
                return work(connection)
        except sa.exc.DBAPIError as error:
            raise Unavailable("the database does not answer") from error

    def _open(self) -> sa.Engine:
        with self._opening:
            if self._engine is None:
                engine = self._made()
                try:
                    migrate(engine, name=Path(self._url.database or "").name)
                except sa.exc.DBAPIError as error:
                    engine.dispose()
                    raise Unavailable(f"the database cannot be opened: {error.orig}") from error
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _made(self) -> sa.Engine:
        # Errors go into logs, and what people wrote must not.
        options: dict[str, Any] = {"pool_size": READERS + 1, "max_overflow": 0, "hide_parameters": True}
        if self.dialect == "sqlite":
            try:
                Path(self._url.database or "").parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Unavailable(f"the data folder cannot be made: {error.strerror}") from error
            # Waiting for another process's lock must end before our own deadline, so that the thread is free again.
            options["connect_args"] = {"timeout": self._timeout_s * 0.8}
        else:
            options |= {"connect_args": {"timeout": self._timeout_s}, "pool_pre_ping": True}
        engine = sa.create_engine(self._url, **options)
        if self.dialect == "sqlite":
            sa.event.listen(engine, "connect", _set_up_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
        return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves: the driver would do it late, and commit before some statements
    connection.execute("PRAGMA journal_mode = WAL")
    # `persist` returns 200 after its writes, and then the log's offset moves on: they must have reached the disk (FULL fsyncs each commit).
    connection.execute("PRAGMA synchronous = FULL")
    # 16 MiB of log before it is folded into the file, and as much of pages in memory: the many small writes of chats meet the same pages
    # again, and folding four times as seldom as by default costs each message a quarter less time (measured).
    connection.execute("PRAGMA wal_autocheckpoint = 4096")
    connection.execute("PRAGMA cache_size = -16384")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes the lock at once: taking it after a read fails, without waiting, if another process has written in between.
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _ping(connection: sa.Connection) -> None:
    connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
