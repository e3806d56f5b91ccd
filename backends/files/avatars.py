"""Avatars in SQL: what refers to an avatar's file, inside the transactions of those who show it.

`accounts` and `groups` call it when an avatar changes. A reference is a grant without a message,
whose chat is the holder's name.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from backends.files.sql import FILES, GRANTS
from backends.sql.database import Database
from schemas.errors import Malformed, Refused, Unavailable
from schemas.ids import LATEST, UserId

_HELD: Final = sa.select(GRANTS.c.file).where(
    GRANTS.c.file == sa.bindparam("file"), sa.not_(GRANTS.c.gone)
)


class Avatars:
    """In a database that it shares with other adapters."""

    def __init__(self, database: Database) -> None:
        self._taken = (
            sa.select(FILES)
            .where(database.among(FILES.c.id, "files"))
            .order_by(FILES.c.id)
            .with_for_update()
        )
        self._put = database.insert(GRANTS).on_conflict_do_nothing()

    def replace(
        self,
        connection: sa.Connection,
        *,
        holder: str,
        was: str,
        now: str,
        by: UserId,
        now_ms: int,
    ) -> None:
        """`holder` (a group's chat id, or `u` and a user's id) shows `now` instead of `was`; empty:
        none.

        Raises Refused not_found for what is no complete avatar file of the user `by`, Malformed for
        one that cannot be decoded, Unavailable as long as its previews are being made.
        """
        ids = {
            text: int(text) for text in (was, now) if text.isdecimal() and 0 < int(text) <= LATEST
        }
        rows = {
            row.id: row for row in connection.execute(self._taken, {"files": sorted(ids.values())})
        }
        if now:
            self._check(rows.get(ids.get(now, 0)), by)
            grant = {"file": ids[now], "chat": holder, "message": 0, "gone": False}
            connection.execute(self._put, grant)
            connection.execute(
                sa.update(FILES).where(FILES.c.id == ids[now]).values(idle_since_ms=0)
            )
        if was in ids:
            connection.execute(
                sa.delete(GRANTS).where(
                    GRANTS.c.file == ids[was], GRANTS.c.chat == holder, GRANTS.c.message == 0
                )
            )
            if connection.execute(_HELD, {"file": ids[was]}).first() is None:
                connection.execute(
                    sa.update(FILES)
                    .where(FILES.c.id == ids[was], FILES.c.idle_since_ms == 0)
                    .values(idle_since_ms=now_ms)
                )

    @staticmethod
    def _check(row: sa.Row[tuple[object, ...]] | None, by: UserId) -> None:
        if row is None or (row.owner, row.purpose, row.state) != (by, "avatar", "complete"):
            raise Refused("not_found", "you have no such complete avatar file", field="avatar")
        if row.previews == "due":
            raise Unavailable("the squares of this avatar are being made: try again")
        if row.previews != "made":
            raise Malformed("avatar: this file cannot be decoded as an image", field="avatar")
