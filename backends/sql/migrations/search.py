"""What makes the search for names quick on PostgreSQL: indexes of trigrams, where the database can
have them.

`migrate` calls it each time. They are no revision of the schema: without them the search finds the
same, only slowly, and they can be had later.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

_EXPRESSIONS: Final = {
    "user_name": "lower(user_name)",
    "folded_name": "coalesce(folded_name, lower(display_name))",
}
"""As `SqlAccounts` searches them."""


def index_names(connection: sa.Connection) -> list[str]:
    """Makes those indexes that are missing, and says in lines what it did, and what the search will
    lack.

    DBAPIError passes through.
    """
    made = set(
        connection.exec_driver_sql(
            "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()"
        ).scalars()
    )
    missing = [column for column in _EXPRESSIONS if _index(column) not in made]
    if not missing:
        return []
    try:
        with connection.begin_nested():
            connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except sa.exc.DBAPIError as error:
        told = "no index for the search of names, which reads all accounts now"
        return [f"{told}: pg_trgm cannot be had ({_message(error)})"]
    for column in missing:
        connection.exec_driver_sql(
            f"CREATE INDEX {_index(column)} ON accounts "
            f"USING gin ({_EXPRESSIONS[column]} gin_trgm_ops)"
        )
    return ["indexes for the search of names made"]


def _index(column: str) -> str:
    return f"accounts_{column}_trigrams"


def _message(error: sa.exc.DBAPIError) -> str:
    return str(getattr(error.orig, "args", [{}])[0].get("M", error.orig))
