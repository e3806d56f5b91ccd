"""The `Files` port on SQL. Only `wiring` and the port's suite name it.

A change of what refers to a file takes the file's row first, so that none is removed while a
message brings it into a chat. `send` needs `grant`, so this file imports no other adapter's: of
groups it names some columns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import sqlalchemy as sa

from backends.files import CLAIM_MS, File, FileId, Grant, Limits, Previews
from backends.sql.database import METADATA, Database
from schemas.errors import Refused
from schemas.ids import LATEST, ChatId, MessageId, UserId, direct_chat

FILES: Final = sa.Table(
    "files",
    METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.BigInteger, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("declared", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    # Since when nothing refers to it; 0: something does.
    sa.Column("idle_since_ms", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.BigInteger, nullable=False),
    sa.Column("safe", sa.Boolean, nullable=False),
    sa.Column("width", sa.BigInteger, nullable=False),
    sa.Column("height", sa.BigInteger, nullable=False),
    sa.Column("previews", sa.Text, nullable=False, server_default="none"),
    # When a call claimed it that has not given it up; 0: none.
    sa.Column("claimed_ms", sa.BigInteger, nullable=False),
    # The store may hold what was uploaded, besides the checked copy.
    sa.Column("uploaded", sa.Boolean, nullable=False),
    sa.Index("files_owner", "owner", "created_ms", "id"),
)
_IDLE: Final = sa.and_(FILES.c.idle_since_ms > 0, FILES.c.state != "removed")
sa.Index("files_idle", FILES.c.idle_since_ms)
_LEFT: Final = FILES.c.uploaded
# Hardly ever more than the uploads of a quarter of an hour.
sa.Index("files_uploaded", FILES.c.created_ms)
_DUE: Final = sa.and_(FILES.c.previews == "due", FILES.c.state == "complete")
sa.Index("files_due", FILES.c.created_ms)
_HELD: Final = FILES.c.state == "held"
sa.Index("files_held", FILES.c.created_ms)

# A row for each message that has brought a file into a chat. `gone`: the message was deleted; the
# row stays, so that the same command decided once more brings nothing back.
GRANTS: Final = sa.Table(
    "file_grants",
    METADATA,
    sa.Column("file", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("chat", sa.Text, primary_key=True),
    sa.Column("message", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("gone", sa.Boolean, nullable=False),
    sa.Index("file_grants_message", "chat", "message"),
    sqlite_with_rowid=False,
)

_GROUPS: Final = sa.table(
    "groups",
    sa.column("chat", sa.Text),
    sa.column("history", sa.Text),
    sa.column("deleted", sa.BigInteger),
)
_MEMBERS: Final = sa.table(
    "group_members",
    sa.column("chat", sa.Text),
    sa.column("user", sa.BigInteger),
    sa.column("joined", sa.BigInteger),
    sa.column("ended", sa.BigInteger),
)
_ACCOUNTS: Final = sa.table("accounts", sa.column("user", sa.BigInteger))
_TAKE_OWNER: Final = (
    sa.select(_ACCOUNTS.c.user).where(_ACCOUNTS.c.user == sa.bindparam("owner")).with_for_update()
)
_FIELDS: Final = [FILES.c[name] for name in File.__slots__]
_SETTLED: Final = ("state", "type", "safe", "width", "height", "previews")
_MOST: Final[sa.BindParameter[int]] = sa.bindparam("most")
_BEFORE: Final = sa.bindparam("before", type_=sa.BigInteger())
_KEPT: Final = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(FILES.c.bytes), 0)).where(
    FILES.c.owner == sa.bindparam("owner"), FILES.c.state != "removed"
)
_GRANTED: Final = (
    sa.select(sa.literal_column("1"))
    .where(GRANTS.c.file == FILES.c.id, sa.not_(GRANTS.c.gone))
    .correlate(FILES)
    .exists()
)
_SEES: Final = (
    sa.select(sa.literal_column("1"))
    .join_from(_MEMBERS, _GROUPS, _MEMBERS.c.chat == _GROUPS.c.chat)
    .where(
        _MEMBERS.c.chat == GRANTS.c.chat,
        _MEMBERS.c.user == sa.bindparam("user", type_=sa.BigInteger()),
        _MEMBERS.c.ended == 0,
        _GROUPS.c.deleted == 0,
        sa.or_(_GROUPS.c.history == "all", _MEMBERS.c.joined <= GRANTS.c.message),
    )
    .correlate(GRANTS)
    .exists()
)
# A file is sent by its owner alone, so of direct chats one will do.
_READABLE: Final = (
    sa.select(GRANTS.c.message)
    .where(
        GRANTS.c.file == sa.bindparam("file", type_=sa.BigInteger()),
        sa.not_(GRANTS.c.gone),
        sa.or_(GRANTS.c.chat == sa.bindparam("direct"), _SEES),
    )
    .limit(1)
)


class SqlFiles:
    """What is known of files, in a database that they share with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._some = sa.select(*_FIELDS).where(
            database.among(FILES.c.id, "files"), FILES.c.state != "removed"
        )
        self._taken = (
            sa.select(*_FIELDS)
            .where(database.among(FILES.c.id, "files"))
            .order_by(FILES.c.id)
            .with_for_update()
        )
        self._put_grants = database.insert_many(GRANTS).on_conflict_do_nothing()
        # An UPDATE's parameters are not named as its columns are.
        self._messages = database.given(in_chat=sa.Text(), of_message=sa.BigInteger())
        of_messages = (
            sa.select(sa.literal_column("1"))
            .where(
                self._messages.c.in_chat == GRANTS.c.chat,
                self._messages.c.of_message == GRANTS.c.message,
            )
            .correlate(GRANTS)
            .exists()
        )
        self._brought = sa.select(GRANTS.c.file).distinct().where(of_messages)
        self._take_back = sa.update(GRANTS).where(of_messages).values(gone=True)
        among = database.among(FILES.c.id, "files")
        self._refer = sa.update(FILES).where(among, _GRANTED).values(idle_since_ms=0)
        self._idle = (
            sa.update(FILES)
            .where(
                among, FILES.c.idle_since_ms == 0, FILES.c.purpose == "message", sa.not_(_GRANTED)
            )
            .values(idle_since_ms=sa.bindparam("now"))
        )
        self._remove = sa.update(FILES).where(among).values(state="removed", uploaded=True)
        self._forget = sa.delete(FILES).where(among, FILES.c.state == "removed")
        self._forget_grants = sa.delete(GRANTS).where(database.among(GRANTS.c.file, "files"))
        self._forget_uploads = (
            sa.update(FILES).where(among, FILES.c.state != "removed").values(uploaded=False)
        )

    async def add(self, file: File, limits: Limits) -> None:
        """A sum over the owner's files, and an INSERT."""
        row = {name: getattr(file, name) for name in File.__slots__}

        def work(connection: sa.Connection) -> None:
            # Else two of one owner at once would both see room for one.
            connection.execute(_TAKE_OWNER, {"owner": file.owner})
            count, size = connection.execute(_KEPT, {"owner": file.owner}).one()
            if count >= limits.files:
                raise Refused(
                    "too_many", f"you keep {count} files, {limits.files} are allowed", field="bytes"
                )
            if size + file.bytes > limits.bytes:
                raise Refused(
                    "too_many",
                    f"you keep {size} bytes, {limits.bytes} are allowed with this file",
                    field="bytes",
                )
            connection.execute(sa.insert(FILES).values(**row, claimed_ms=0, uploaded=True))

        await self._database.write(work)

    async def find(self, files: Collection[FileId]) -> Mapping[FileId, File]:
        """One SELECT; none for none."""
        if not files:
            return {}
        values = {"files": [file for file in files if 0 < file <= LATEST]}
        rows = await self._database.read(
            lambda connection: connection.execute(self._some, values).all()
        )
        return {row.id: File(*row) for row in rows}

    async def of_owner(
        self, owner: UserId, *, after: tuple[int, FileId] | None, limit: int
    ) -> tuple[Sequence[File], bool]:
        """One SELECT of a stretch of the index."""
        query = (
            sa.select(*_FIELDS)
            .where(FILES.c.owner == owner, FILES.c.state != "removed")
            .order_by(FILES.c.created_ms.desc(), FILES.c.id.desc())
            .limit(limit + 1)
        )
        if after is not None:
            place = [sa.literal(number, sa.BigInteger) for number in after]
            query = query.where(sa.tuple_(FILES.c.created_ms, FILES.c.id) < sa.tuple_(*place))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [File(*row) for row in rows[:limit]], len(rows) > limit

    async def claim(self, file: FileId, *, now_ms: int) -> File | None:
        """An UPDATE that says what it made."""
        update = (
            sa.update(FILES)
            .where(
                FILES.c.id == file,
                FILES.c.state == "pending",
                FILES.c.claimed_ms <= now_ms - CLAIM_MS,
            )
            .values(attempt=FILES.c.attempt + 1, claimed_ms=now_ms)
            .returning(*_FIELDS)
        )
        row = await self._database.write(lambda connection: connection.execute(update).first())
        return None if row is None else File(*row)

    async def give_up(self, file: File) -> None:
        """One UPDATE."""
        await self._changed(
            sa.update(FILES)
            .where(FILES.c.id == file.id, FILES.c.attempt == file.attempt)
            .values(claimed_ms=0)
        )

    async def settle(self, file: File) -> bool:
        """One UPDATE."""
        return await self._changed(
            sa.update(FILES)
            .where(
                FILES.c.id == file.id,
                FILES.c.state == "pending",
                FILES.c.attempt == file.attempt,
            )
            .values({name: getattr(file, name) for name in _SETTLED})
        )

    async def finish_previews(self, file: FileId, previews: Previews) -> bool:
        """One UPDATE."""
        return await self._changed(
            sa.update(FILES)
            .where(FILES.c.id == file, FILES.c.state != "removed")
            .values(previews=previews)
        )

    async def due_previews(self, *, before_ms: int, limit: int) -> Sequence[File]:
        """One SELECT, by an index of its own."""
        query = (
            sa.select(*_FIELDS)
            .where(_DUE, FILES.c.created_ms < before_ms)
            .order_by(FILES.c.created_ms)
            .limit(limit)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [File(*row) for row in rows]

    async def grant(self, grants: Collection[Grant]) -> Mapping[FileId, File]:
        """Four statements, whatever their number; none for none."""
        if not grants:
            return {}
        asked = {"files": sorted({one.file for one in grants if 0 < one.file <= LATEST})}

        def work(connection: sa.Connection) -> dict[FileId, File]:
            files = {row.id: File(*row) for row in connection.execute(self._taken, asked)}
            good = [
                one
                for one in sorted(set(grants))
                if (file := files.get(one.file)) is not None
                and (file.owner, file.state, file.purpose) == (one.owner, "complete", "message")
            ]
            if not good:
                return {}
            rows = [
                {"file": one.file, "chat": one.chat, "message": one.message, "gone": False}
                for one in good
            ]
            connection.execute(self._put_grants, self._database.many(rows))
            done = sorted({one.file for one in good})
            connection.execute(self._refer, {"files": done})
            return {file: files[file] for file in done}

        return await self._database.write(work)

    async def withdraw(
        self, messages: Collection[tuple[ChatId, MessageId]], *, now_ms: int
    ) -> None:
        """A SELECT, and three statements where one of them has brought a file."""
        if not messages:
            return
        values = self._database.giving(self._messages, sorted(messages))
        brought = await self._database.read(
            lambda connection: list(connection.execute(self._brought, values).scalars())
        )
        if not brought:
            return
        files = {"files": sorted(brought)}

        def work(connection: sa.Connection) -> None:
            connection.execute(self._taken, files).all()
            connection.execute(self._take_back, values)
            connection.execute(self._idle, {**files, "now": now_ms})

        await self._database.write(work)

    async def may_read(self, file: File, user: UserId) -> bool:
        """At most one SELECT."""
        if file.state != "complete":
            return False
        if file.owner == user or file.purpose == "avatar":
            return True
        values = {"file": file.id, "user": user, "direct": direct_chat(file.owner, user)}
        found = await self._database.read(
            lambda connection: connection.execute(_READABLE, values).first()
        )
        return found is not None

    async def judge(self, file: FileId, *, good: bool) -> bool:
        """One UPDATE."""
        became = {"state": "complete"} if good else {"state": "removed", "uploaded": True}
        return await self._changed(
            sa.update(FILES).where(FILES.c.id == file, _HELD).values(**became)
        )

    async def held(self, *, limit: int) -> Sequence[File]:
        """One SELECT, by an index of its own."""
        query = sa.select(*_FIELDS).where(_HELD).order_by(FILES.c.created_ms).limit(limit)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [File(*row) for row in rows]

    async def remove(self, files: Collection[FileId]) -> None:
        """One UPDATE."""
        values = {"files": list(files)}
        await self._database.write(lambda connection: connection.execute(self._remove, values))

    async def remove_idle(self, *, before_ms: int, limit: int) -> int:
        """A SELECT of candidates, then an UPDATE that looks again at each."""
        candidates = sa.select(FILES.c.id).where(_IDLE, FILES.c.idle_since_ms < _BEFORE)
        values = {"before": before_ms, "most": limit}
        found = await self._database.read(
            lambda connection: list(connection.execute(candidates.limit(_MOST), values).scalars())
        )
        if not found:
            return 0
        update = self._remove.where(_IDLE, FILES.c.idle_since_ms < _BEFORE)
        return await self._database.write(
            lambda connection: (
                connection.execute(update, {"files": sorted(found), "before": before_ms}).rowcount
            )
        )

    async def leftovers(self, *, before_ms: int, limit: int) -> Sequence[File]:
        """One SELECT, by an index of its own."""
        query = (
            sa.select(*_FIELDS)
            .where(_LEFT, FILES.c.state != "pending", FILES.c.created_ms < before_ms)
            .order_by(FILES.c.created_ms)
            .limit(limit)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [File(*row) for row in rows]

    async def forget(self, files: Collection[File]) -> None:
        """Three statements. Grants go with their files."""
        all_files = {"files": [file.id for file in files]}
        removed = {"files": [file.id for file in files if file.state == "removed"]}

        def work(connection: sa.Connection) -> None:
            connection.execute(self._forget_uploads, all_files)
            if removed["files"]:
                connection.execute(self._forget, removed)
                connection.execute(self._forget_grants, removed)

        await self._database.write(work)

    async def _changed(self, update: sa.Update) -> bool:
        return await self._database.write(
            lambda connection: bool(connection.execute(update).rowcount)
        )

    async def ping(self) -> None:
        """Asks the database."""
        await self._database.ping()

    async def close(self) -> None:
        """Nothing: the owner of the database closes it, and that waits for our calls."""
