"""Brings a database to the schema of this version, and refuses one that a newer version has made.

`Database` calls it. One file per revision lies in `versions/`, run by Alembic through `env.py`.
Alembic takes about 100 ms to import, so it is imported only when there is something to do.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from schemas.errors import Malformed, Unfit

log = logging.getLogger(__name__)

REVISIONS: Final = (
    *("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011"),
    *("0012", "0013"),
)
"""All revisions in order; the last is what this version's code needs."""

_LOCK: Final = threading.Lock()  # Alembic's context is one for the whole process
# A change of tables waits for those who use them, and later callers wait behind it: so not for
# long.
_LOCK_TIMEOUT: Final = "5s"
_POSTGRESQL_LOCK: Final = 7_035_426_219_003_136_205  # any number that is not taken


def migrate(engine: sa.Engine, *, name: str) -> list[str]:
    """Makes or upgrades the tables, all or nothing, and says in lines what it did.

    Any number of processes may call it at once: one does it, the others wait. `name` is what errors
    call the database. Raises Unfit when its version is none that this code knows; DBAPIError passes
    through.
    """
    if engine.dialect.name == "sqlite" and _version_seen(engine) == REVISIONS[-1]:
        return []
    with _LOCK, engine.connect().execution_options(writing=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":  # SQLite's writers exclude each other anyway
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRESQL_LOCK)))
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            _check_encoding(connection, name=name)
        version = _version(connection)
        _check_known(version, connection, name=name)
        done = []
        if version != REVISIONS[-1]:
            _upgrade(connection)
            log.info(
                "database migrated", extra={"database": name, "was": version, "now": REVISIONS[-1]}
            )
            done.append(
                f"{name}: tables {f'brought from {version} to' if version else 'made, schema'} "
                f"{REVISIONS[-1]}"
            )
        if connection.dialect.name == "postgresql":
            # SQLite's index is made with its tables.
            from backends.sql.migrations.search import index_names  # noqa: PLC0415

            done += [f"{name}: {line}" for line in index_names(connection)]
        return done


def check(engine: sa.Engine, *, name: str) -> None:
    """Raises Unfit when the tables are not those that this code needs, and says what to do;
    DBAPIError passes through.
    """
    if _version_seen(engine) == REVISIONS[-1]:
        return
    with engine.connect() as connection:
        version = _version(connection)
        _check_known(version, connection, name=name)
    if version != REVISIONS[-1]:
        was = (
            f"has schema {version}, this kn-chat needs {REVISIONS[-1]}"
            if version
            else "has no tables yet"
        )
        raise Unfit(f"the database {name} is not ready: it {was}; run kn-chat migrate")


def _check_known(version: str | None, connection: sa.Connection, *, name: str) -> None:
    if version is not None and version not in REVISIONS:
        instead = (
            "another data folder" if connection.dialect.name == "sqlite" else "another database"
        )
        raise Unfit(
            f"{name} was made by a newer kn-chat (its schema is {version}, this one knows up to "
            f"{REVISIONS[-1]}): "
            f"upgrade kn-chat, or choose {instead}"
        )


def _check_encoding(connection: sa.Connection, *, name: str) -> None:
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise Malformed(
            f"the database {name} keeps texts as {encoding}: make one with encoding UTF8",
            field="KNCHAT_DATABASE",
        )


def _version_seen(engine: sa.Engine) -> str | None:
    """The version, as cheaply as possible; None also when it cannot be read, and then the caller
    looks again, properly.
    """
    try:
        with engine.connect() as connection:
            return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    except sa.exc.DBAPIError:
        return None


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    command.upgrade(config, "head")
