"""SQLite behind `Database`: its file, and how its connections are set up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from backends import private
from schemas.errors import Unavailable


def engine_of(place: Path, *, connections: int, timeout_s: float) -> sa.Engine:
    """An engine for the database in this file, made if missing with its folder.

    Raises Unavailable.
    """
    try:
        private.make_folder(place.parent)
    except OSError as error:
        raise Unavailable(f"the data folder cannot be made: {error.strerror}") from error
    try:
        private.make_file(place)
    except OSError as error:
        raise Unavailable(f"the database cannot be opened: {error.strerror}") from error
    # Errors go into logs, and what people wrote must not. Waiting for another process's lock
    # must end before our own deadline, so that the thread is free again.
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(place)),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": busy_ms(timeout_s) / 1_000},
    )
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def busy_ms(timeout_s: float) -> int:
    """How long a connection waits for another process's lock: less than the caller's deadline."""
    return int(timeout_s * 800)


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # We begin transactions ourselves: the driver would do it late, and commit before some
    # statements.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    # `persist` returns 200 after its writes, and then the log's offset moves on: they must have
    # reached the disk (FULL fsyncs each commit).
    connection.execute("PRAGMA synchronous = FULL")
    # 16 MiB of log before it is folded into the file, and as much of pages in memory: the many
    # small writes of chats meet the same pages again, and folding four times as seldom as by
    # default costs each message a quarter less time (measured).
    connection.execute("PRAGMA wal_autocheckpoint = 4096")
    connection.execute("PRAGMA cache_size = -16384")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes the lock at once: taking it after a read fails, without waiting, if another
    # process has written in between.
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
