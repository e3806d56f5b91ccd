"""One SQL database (SQLite, or PostgreSQL by the same statements) behind all adapters of `chats`
and `accounts`.

Each adapter hands `read` or `write` a function of one connection, which runs in a thread as one
transaction. The adapters' tables register in METADATA. This file knows no table. Source: design.md
D17.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast

import sqlalchemy as sa

from backends.blocking import Blocking
from backends.clock import Reading
from backends.concurrency import Backoff
from backends.sql.dialects import Dialect
from backends.sql.migrations import check, migrate
from schemas.errors import Malformed, Unavailable

if TYPE_CHECKING:
    import sqlite3

    from backends.clock import Clock
    from backends.sql.postgresql import Server
    from backends.sql.wal import WriteAheadLog

T = TypeVar("T")

METADATA: Final = sa.MetaData()
"""The tables that migrations make. Of an index of some rows its migration says of which: an option
of a dialect here (`postgresql_where=`) would load it in every process, 25 ms of a cold start.
"""
TIMEOUT_S: Final = 5.0
PING_TIMEOUT_S: Final = 2.0
SEARCH_TIMEOUT_S: Final = 0.3
"""What one search may take: three letters that half of all names hold make the database read half
of all names.
"""
CUT_TIMEOUT_MS: Final = 500
"""What a write waits now and then for those who read SQLite, so that its write-ahead log can be
cut.
"""
MIGRATION_TIMEOUT_S: Final = 600.0
RETRY: Final = Backoff(first_s=0.005, max_s=0.08, least=0.0)
"""Between tries of one transaction: two that met do not meet again, and 5 tries wait 0.155 s at
most.
"""
READERS: Final = {"sqlite": 3, "postgresql": 4}
# SQLite takes one writer at a time: waiting in our queue is fair, waiting inside SQLite means
# polling with sleeps of up to 100 ms. PostgreSQL: a second writer doubles what 16 callers write
# (0.6 ms a message against 1.0), more of either brought nothing that could be told from noise, and
# each is a connection that the server keeps for each of our processes (measured).
WRITERS: Final = {"sqlite": 1, "postgresql": 2}
SEARCHERS: Final = 1
"""Apart from the readers: however many search, everything else is read at once."""

_NOW_MS: Final = sa.text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)")


class Database(Dialect):
    """One database as one process uses it, opened by the first call. Belongs to one event loop.

    SQLite is migrated then if it is older; PostgreSQL only by `migrate`, so that of many processes
    none changes tables by surprise.
    """

    def __init__(
        self,
        place: Path | Server,
        *,
        timeout_s: float,
        search_timeout_s: float,
        cut_timeout_ms: int = CUT_TIMEOUT_MS,
    ) -> None:
        self._place = place
        self._timeout_s, self._search_timeout_s = timeout_s, search_timeout_s
        self._cut_timeout_ms = cut_timeout_ms
        self._engine: sa.Engine | None = None
        self._opening = threading.Lock()
        super().__init__("sqlite" if isinstance(place, Path) else "postgresql")
        self._wal: WriteAheadLog | None = None
        self._busy_ms = 0
        if isinstance(place, Path):
            # Who has PostgreSQL does without SQLite.
            from backends.sql import sqlite  # noqa: PLC0415
            from backends.sql.wal import WriteAheadLog  # noqa: PLC0415 - see above

            self._wal, self._busy_ms = WriteAheadLog(place), sqlite.busy_ms(timeout_s)
        self._reads = Blocking("database-read", threads=READERS[self.dialect], timeout_s=timeout_s)
        self._searches = Blocking("database-search", threads=SEARCHERS, timeout_s=timeout_s)
        self._writes = Blocking(
            "database-write", threads=WRITERS[self.dialect], timeout_s=timeout_s
        )

    @classmethod
    def sqlite(
        cls,
        path: Path,
        *,
        timeout_s: float = TIMEOUT_S,
        search_timeout_s: float = SEARCH_TIMEOUT_S,
        cut_timeout_ms: int = CUT_TIMEOUT_MS,
    ) -> Database:
        """The database in this file, made if missing with its folder.

        Several processes may share it.
        """
        return cls(
            path,
            timeout_s=timeout_s,
            search_timeout_s=search_timeout_s,
            cut_timeout_ms=cut_timeout_ms,
        )

    @classmethod
    def postgresql(
        cls,
        url: str,
        *,
        password: str = "",
        ca: str = "",
        timeout_s: float = TIMEOUT_S,
        search_timeout_s: float = SEARCH_TIMEOUT_S,
    ) -> Database:
        """The database at postgresql://user@host:port/name.

        `ca`: a file of authorities, with which TLS is spoken; else it is not. Raises Malformed for
        a URL that is none.
        """
        # Who has SQLite does without the driver.
        from backends.sql.postgresql import Server  # noqa: PLC0415

        return cls(
            Server(url, password=password, ca=ca),
            timeout_s=timeout_s,
            search_timeout_s=search_timeout_s,
        )

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """What `work` returns.

        All that it reads is of one moment (SQLite) or committed (PostgreSQL, statement by
        statement). Raises Unavailable when the database cannot be opened, fails, does not answer
        within the timeout, is not migrated or was made by a newer version; also when a setting is
        wrong, for which no event must be dead-lettered. `work` may run again after it has failed.
        """
        return await self._reads.run(lambda: self._transaction(work, writing=False))

    async def search(self, work: Callable[[sa.Connection], T]) -> T:
        """As `read`, for what may be long: by a connection apart, and for `search_timeout_s` at
        most; then Unavailable too.
        """
        # PostgreSQL's limit is a transaction's, and what only reads has none there.
        transaction = self.dialect == "postgresql"
        return await self._searches.run(
            lambda: self._transaction(
                lambda connection: self._in_time(work, connection), writing=transaction
            )
        )

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """What `work` returns; what it wrote is committed, and fsynced, or not there at all.

        Raises as `read` does: then either may be. `work` may run again when what it had done was
        rolled back, so it must change nothing but the database.
        """
        return await self._writes.run(lambda: self._transaction(work, writing=True))

    async def ping(self) -> None:
        """Raises Unavailable when the database does not answer within 2 s, Malformed (with the
        setting's name) when a setting is wrong.
        """
        await self._reads.run(
            lambda: self._transaction(_ping, writing=False, pinging=True), timeout_s=PING_TIMEOUT_S
        )

    async def migrate(self) -> list[str]:
        """Makes or upgrades the tables, and says in lines what was done.

        Raises as `ping` does. Any number may do it at once.
        """
        return await self._writes.run(self._migrate, timeout_s=MIGRATION_TIMEOUT_S)

    async def close(self) -> None:
        """Waits for calls under way (at most the timeout), then closes files and connections."""
        await self._reads.close()
        await self._searches.close()
        await self._writes.close()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def read_clock(self, connection: sa.Connection, clock: Clock) -> Reading:
        """What the database's clock says. SQLite has none that is better than the process's."""
        asked_s = clock.elapsed_s()
        store_ms = (
            clock.now_ms() if self.dialect == "sqlite" else connection.execute(_NOW_MS).scalar_one()
        )
        return Reading(store_ms, asked_s, clock.elapsed_s())

    # ---- in a thread ----

    def _transaction(
        self, work: Callable[[sa.Connection], T], *, writing: bool, pinging: bool = False
    ) -> T:
        again = 0
        while True:
            done: list[T] = []
            try:
                with self._connection(pinging=pinging).execution_options(
                    writing=writing
                ) as connection:
                    with connection.begin():
                        done.append(work(connection))
                    if writing and self._wal is not None:
                        self._wal.keep_short(
                            cast("sqlite3.Connection", connection.connection.driver_connection),
                            timeout_ms=self._cut_timeout_ms,
                            busy_ms=self._busy_ms,
                        )
                return done[0]
            except sa.exc.DBAPIError as error:
                if not self._may_run_again(error, worked=bool(done), again=again):
                    raise Unavailable("the database does not answer") from error
            time.sleep(RETRY.delay_s(again))
            again += 1

    def _in_time(self, work: Callable[[sa.Connection], T], connection: sa.Connection) -> T:
        until_s = time.monotonic() + self._search_timeout_s
        driver = connection.connection.driver_connection
        if self.dialect == "postgresql":
            connection.exec_driver_sql(
                f"SET LOCAL statement_timeout = {round(self._search_timeout_s * 1_000)}"
            )
        else:
            # sqlite3's.
            driver.set_progress_handler(lambda: time.monotonic() > until_s, 10_000)  # type: ignore[union-attr]
        try:
            return work(connection)
        except sa.exc.DBAPIError as error:
            if time.monotonic() < until_s:
                raise
            raise Unavailable("the search takes too long: give more of the name or text") from error
        finally:
            if self.dialect == "sqlite":
                driver.set_progress_handler(None, 0)  # type: ignore[union-attr] # see above

    def _may_run_again(self, error: sa.exc.DBAPIError, *, worked: bool, again: int) -> bool:
        if self.dialect == "sqlite":
            return False
        from backends.sql.postgresql import may_run_again  # noqa: PLC0415 - see above

        return may_run_again(error, worked=worked, again=again)

    def _connection(self, *, pinging: bool) -> sa.Connection:
        try:
            return (self._engine or self._open()).connect()
        except Malformed as error:
            if pinging:
                raise
            # An event whose function meets a wrong setting must be tried again and not be
            # dead-lettered.
            raise Unavailable(error.message) from error

    def _migrate(self) -> list[str]:
        engine = self._made(timeout_s=MIGRATION_TIMEOUT_S)
        try:
            return migrate(engine, name=self._name)
        except sa.exc.DBAPIError as error:
            raise Unavailable(f"the database cannot be migrated: {error.orig}") from error
        finally:
            engine.dispose()

    def _open(self) -> sa.Engine:
        with self._opening:
            if self._engine is None:
                engine = self._made(timeout_s=self._timeout_s)
                try:
                    (migrate if self.dialect == "sqlite" else check)(engine, name=self._name)
                except sa.exc.DBAPIError as error:
                    engine.dispose()
                    raise Unavailable(f"the database cannot be opened: {error.orig}") from error
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    @property
    def _name(self) -> str:
        return self._place.name

    def _made(self, *, timeout_s: float) -> sa.Engine:
        connections = READERS[self.dialect] + WRITERS[self.dialect] + SEARCHERS
        if isinstance(self._place, Path):
            from backends.sql import sqlite  # noqa: PLC0415 - see above

            return sqlite.engine_of(self._place, connections=connections, timeout_s=timeout_s)
        from backends.sql import postgresql  # noqa: PLC0415 - see above

        return postgresql.engine_of(self._place, connections=connections, timeout_s=timeout_s)


def _ping(connection: sa.Connection) -> None:
    connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
