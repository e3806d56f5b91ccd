"""Brings a database to the schema of this version, and refuses one that a newer version has made. Called when `Database` opens.

One file per revision lies in `versions/`, run by Alembic through `env.py`. Alembic takes about 100 ms to import, so it is imported only
when there is something to do.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from schemas.errors import Unavailable

log = logging.getLogger(__name__)

REVISIONS: Final = ("0001",)
"""All revisions in order; the last is what this version's code needs."""

_LOCK: Final = threading.Lock()  # Alembic's context is one for the whole process
_POSTGRESQL_LOCK: Final = 7_035_426_219_003_136_205  # any number that nobody else takes


def migrate(engine: sa.Engine, *, name: str) -> None:
    """Makes or upgrades the tables, all or nothing. Any number of processes may call it at once: one does it, the others wait.

    `name` is what errors call the database. Raises Unavailable when its version is none that this code knows; DBAPIError passes through.
    """
    if _version_seen(engine) == REVISIONS[-1]:
        return
    with _LOCK, engine.connect().execution_options(writing=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":  # SQLite's writers exclude each other anyway
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRESQL_LOCK)))
        version = _version(connection)
        if version == REVISIONS[-1]:
            return
        if version is not None and version not in REVISIONS:
            raise Unavailable(
                f"{name} was made by a newer kn-chat (its schema is {version}, this one knows up to {REVISIONS[-1]}): "
                "upgrade kn-chat, or choose another data folder"
            )
        _upgrade(connection)
        log.info("database migrated", extra={"database": name, "was": version, "now": REVISIONS[-1]})


def _version_seen(engine: sa.Engine) -> str | None:
    """The version, as cheaply as possible; None also when it cannot be read, and then `migrate` looks again, properly."""
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
