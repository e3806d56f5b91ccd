"""The `Search` port on SQL: SQLite's FTS5, PostgreSQL's full-text search, over the same tokens.

Only `wiring` and the port's suite name it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from backends.search import Entry, Found, Wanted, joined
from backends.search.finding import Finding
from backends.search.tokens import FILE, Question, first_of, period_of, tokens_of, within
from backends.sql.database import METADATA, Database
from schemas.ids import LATEST

# SQLite's full-text index names messages by their rowid, which the key is only if its type says
# INTEGER. The index of the tokens is made by the migration: neither database's can be said here.
INDEXED: Final = sa.Table(
    "search_messages",
    METADATA,
    sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("chat", sa.Text, nullable=False),
    sa.Column("sender", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("has_file", sa.Boolean, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    # Folded, as it is compared.
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("tokens", sa.Text, nullable=False),
)
"""Of a deleted message only that it is: what comes late must not bring it back."""

HIDDEN: Final = sa.Table(
    "search_hidden",
    METADATA,
    sa.Column("message", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

PLACES_AT_ONCE: Final = 16
"""Of a question to GIN, which looks at each for every message that it meets. With 188 groups and
40,000 messages a word took 16 ms in one question, 6 in 12, and 38 in 188 (measured).
"""

_SHOWN: Final = [INDEXED.c[name] for name in ("id", "chat", "sender", "has_file", "text")]


class SqlSearch:
    """An index in a database that it shares with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._put = _put(database)
        self._hide = database.insert_many(HIDDEN).on_conflict_do_nothing()
        self._newest = _newest_by_fts5 if database.dialect == "sqlite" else _newest_by_gin

    async def write(self, entries: Sequence[Entry]) -> None:
        """Two statements in a transaction; the rows in the order of ids, so that no two processes
        wait for each other.
        """
        known = [entry for entry in joined(entries) if 0 < entry.message < LATEST]
        by_period = self._database.dialect == "postgresql"
        rows = [_row(entry, by_period) for entry in known if entry.version or entry.deleted]
        hidden = [
            {"message": entry.message, "user": user}
            for entry in known
            for user in sorted(entry.hidden)
        ]

        def work(connection: sa.Connection) -> None:
            for statement, values in ((self._put, rows), (self._hide, hidden)):
                if values:
                    connection.execute(statement, self._database.many(values))

        if rows or hidden:
            await self._database.write(work)

    async def find(self, wanted: Wanted) -> Found:
        """Statements until there are enough, all within the time that a search may take."""

        def work(connection: sa.Connection) -> Found:
            finding = Finding(wanted)
            while (question := finding.question) is not None:
                place = {
                    "user": wanted.user,
                    "before": finding.before,
                    "after": wanted.after,
                    "most": finding.most,
                }
                finding.take(self._newest(connection, question, place))
            return finding.found

        return await self._database.search(work)

    async def ping(self) -> None:
        """Asks the database."""
        await self._database.ping()

    async def close(self) -> None:
        """Nothing: the owner of the database closes it, and that waits for our calls."""


def _row(entry: Entry, by_period: bool) -> dict[str, Any]:
    text, tokens = ("", "") if entry.deleted else tokens_of(entry, by_period=by_period)
    return {
        "id": entry.message,
        "chat": entry.chat,
        "sender": entry.sender,
        "version": entry.version,
        "has_file": entry.has_file,
        "deleted": entry.deleted,
        "text": text,
        "tokens": tokens,
    }


def _put(database: Database) -> sa.Insert:
    """What `join` says, row by row in the database."""
    insert = database.insert_many(INDEXED)
    was, now = INDEXED.c, insert.excluded
    newer = now.version > was.version
    ends = now.deleted & ~was.deleted
    brings_file = now.has_file & ~was.has_file
    gone = now.deleted | was.deleted
    with_file = sa.literal(" " + FILE)
    return insert.on_conflict_do_update(
        index_elements=[was.id],
        set_={
            "sender": sa.case((newer, now.sender), else_=was.sender),
            "version": sa.case((newer, now.version), else_=was.version),
            "has_file": ~gone & (now.has_file | was.has_file),
            "deleted": gone,
            "text": sa.case((gone, ""), (newer, now.text), else_=was.text),
            "tokens": sa.case(
                (gone, ""),
                (newer & was.has_file & ~now.has_file, now.tokens + with_file),
                (newer, now.tokens),
                (brings_file, was.tokens + with_file),
                else_=was.tokens,
            ),
        },
        where=newer | ends | brings_file,
    )


def _rows(matching: sa.Select[Any], newest: sa.ColumnElement[int]) -> sa.Select[Any]:
    hidden = (
        sa.exists()
        .where(HIDDEN.c.message == newest, HIDDEN.c.user == sa.bindparam("user"))
        .correlate_except(HIDDEN)
    )
    return (
        matching.where(newest < sa.bindparam("before"), newest > sa.bindparam("after"), ~hidden)
        .order_by(newest.desc())
        .limit(sa.bindparam("most", type_=sa.Integer))
    )


_TOKENS: Final = sa.table("search_tokens", sa.column("rowid", sa.BigInteger))
_BY_FTS5: Final = _rows(
    sa.select(*_SHOWN)
    .select_from(_TOKENS.join(INDEXED, INDEXED.c.id == _TOKENS.c.rowid))
    .where(sa.text("search_tokens MATCH :question")),
    _TOKENS.c.rowid,
)


def _newest_by_fts5(
    connection: sa.Connection, question: Question, place: Mapping[str, int]
) -> Sequence[Any]:
    """FTS5 goes from the newest rowid down and stops at the limit."""
    parts = [_fts5(token) for token in question.all_of]
    if question.any_of:
        parts.append(f"({' OR '.join(map(_fts5, question.any_of))})")
    return connection.execute(_BY_FTS5, {**place, "question": " AND ".join(parts)}).all()


def _fts5(token: str) -> str:
    """No token holds a quote."""
    return f'"{token}"'


# Found by the index first, and then put in order: else the planner may walk through everybody's
# messages from the newest on, and ask of each whether it matches.
_MATCHING: Final = (
    sa.select(INDEXED.c.id)
    .where(
        sa.text(
            "array_to_tsvector(string_to_array(tokens, ' ')) @@ ANY (CAST(:questions AS tsquery[]))"
        )
    )
    .cte("matching")
    .prefix_with("MATERIALIZED", dialect="postgresql")
)
_BY_GIN: Final = _rows(
    sa.select(*_SHOWN).select_from(_MATCHING.join(INDEXED, INDEXED.c.id == _MATCHING.c.id)),
    _MATCHING.c.id,
)
_LAST: Final = sa.select(sa.func.max(INDEXED.c.id)).where(INDEXED.c.id < sa.bindparam("before"))
# To read all messages costs more than the planner thinks, since the tokens of each are made again;
# and to compile a statement costs more than to run it.
_BY_INDEX: Final = (
    "SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)"
)


def _newest_by_gin(
    connection: sa.Connection, question: Question, place: Mapping[str, int]
) -> Sequence[Any]:
    """GIN knows no order, so all that match are read: first of the last two periods, where it has
    enough of what is said often, and then of all others.
    """
    connection.exec_driver_sql(_BY_INDEX)
    last = connection.execute(_LAST, {"before": place["before"]}).scalar()
    if last is None:
        return []
    period = period_of(last)
    first = first_of(period - 1)
    recent = [*_tsqueries(within(question, period)), *_tsqueries(within(question, period - 1))]
    rows = _matching(connection, recent, {**place, "after": max(place["after"], first - 1)})
    if len(rows) >= place["most"] or place["after"] >= first:
        return rows
    left = {"before": min(place["before"], first), "most": place["most"] - len(rows)}
    return [*rows, *_matching(connection, _tsqueries(question), {**place, **left})]


def _matching(
    connection: sa.Connection, tsqueries: Sequence[str], place: Mapping[str, int]
) -> Sequence[Any]:
    questions = "{" + ",".join(f'"{one}"' for one in tsqueries) + "}"
    return connection.execute(_BY_GIN, {**place, "questions": questions}).all()


def _tsqueries(question: Question) -> list[str]:
    """One for some places each."""
    both = [f"'{token}'" for token in question.all_of]
    places = [f"'{token}'" for token in question.any_of]
    some = [
        f"({' | '.join(places[at : at + PLACES_AT_ONCE])})"
        for at in range(0, len(places), PLACES_AT_ONCE)
    ]
    return [" & ".join([*both, part]) for part in some] or [" & ".join(both)]
