"""The `Accounts` port on SQL: people and their passwords' hashes.

Only `wiring` and the port's suite name it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from backends.accounts import Profile
from backends.clock import Clock, Reading
from backends.files.avatars import Avatars
from backends.sql.database import METADATA, Database
from schemas.errors import Refused, Unavailable
from schemas.folding import caseless
from schemas.ids import LATEST, UserId

# SQLite's full-text index names accounts by their rowid, which the key is only if its type says
# INTEGER.
ACCOUNTS: Final = sa.Table(
    "accounts",
    METADATA,
    sa.Column(
        "user",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("user_name", sa.Text, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("phone", sa.Text),
    sa.Column("email", sa.Text),
    sa.Column("settings", sa.JSON(none_as_null=True)),
    sa.Column("password_hash", sa.Text, nullable=False),
    # Counts the times at which all log-ins ended at once.
    sa.Column("session_epoch", sa.BigInteger, nullable=False, server_default="0"),
    # Since when an operator has it suspended, Unix milliseconds; 0: it is not.
    sa.Column("suspended_ms", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("avatar", sa.Text, nullable=False, server_default=""),
    # The display name as searches compare it; none: in small letters, as the database has them.
    sa.Column("folded_name", sa.Text),
)
sa.Index("accounts_suspended", ACCOUNTS.c.user)
# Two names that differ in capitals only are one, whichever caller forgot to fold them.
sa.Index("accounts_user_name", sa.func.lower(ACCOUNTS.c.user_name), unique=True)

_LIKE: Final = re.compile(r"[%_/]")
_PROFILE: Final = [ACCOUNTS.c[name] for name in Profile.__slots__]
_USER_NAME: Final = sa.func.lower(ACCOUNTS.c.user_name)
_NAME: Final = sa.func.coalesce(
    ACCOUNTS.c.folded_name, sa.func.lower(ACCOUNTS.c.display_name), type_=sa.Text
)


class SqlAccounts:
    """Accounts in a database that it shares with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._avatars = Avatars(database)
        self._profiles = sa.select(*_PROFILE).where(database.among(ACCOUNTS.c.user, "users"))

    async def register(self, profile: Profile, password_hash: str) -> None:
        """One INSERT decides; when it inserts nothing, a look at the name tells why."""
        insert = (
            self._database.insert(ACCOUNTS)
            .values(**_values(profile), password_hash=password_hash)
            .on_conflict_do_nothing()
        )

        def work(connection: sa.Connection) -> None:
            if connection.execute(insert).rowcount:
                return
            if (
                connection.execute(
                    sa.select(ACCOUNTS.c.user).where(_named(profile.user_name))
                ).first()
                is not None
            ):
                raise Refused("name_taken", "this user name is taken", field="user_name")
            raise Unavailable("this user id is taken: make another")

        await self._database.write(work)

    async def credentials(self, user_name: str) -> tuple[Profile, str, int] | None:
        """Found whatever the capitals."""
        row = await self._first(
            sa.select(*_PROFILE, ACCOUNTS.c.password_hash, ACCOUNTS.c.session_epoch).where(
                _named(user_name)
            )
        )
        return None if row is None else (_profile(row), row.password_hash, row.session_epoch)

    async def password_hash(self, user: UserId) -> str | None:
        """None for a user that does not exist."""
        row = await self._first(sa.select(ACCOUNTS.c.password_hash).where(ACCOUNTS.c.user == user))
        return None if row is None else row.password_hash

    async def set_password_hash(self, user: UserId, password_hash: str, *, was: str) -> bool:
        """One UPDATE."""
        update = (
            sa.update(ACCOUNTS)
            .where(ACCOUNTS.c.user == user, ACCOUNTS.c.password_hash == was)
            .values(password_hash=password_hash)
        )
        return await self._database.write(
            lambda connection: bool(connection.execute(update).rowcount)
        )

    async def profiles(self, users: Collection[UserId]) -> Mapping[UserId, Profile]:
        """One SELECT."""
        values = {"users": _possible(users)}
        rows = await self._database.read(
            lambda connection: connection.execute(self._profiles, values).all()
        )
        return {row.user: _profile(row) for row in rows}

    async def search(self, text: str, *, limit: int) -> Sequence[Profile]:
        """By trigrams: SQLite's full-text index, or PostgreSQL's pg_trgm behind LIKE.

        No character of `text` has a meaning of its own.
        """
        if "\0" in text:  # no name holds it, and no query may
            return []
        text = caseless(text)
        order = _rank(text), ACCOUNTS.c.user_name
        query = sa.select(*_PROFILE).where(self._contains(text)).order_by(*order).limit(limit)
        rows = await self._database.search(lambda connection: connection.execute(query).all())
        return [_profile(row) for row in rows]

    def _contains(self, text: str) -> sa.ColumnElement[bool]:
        if self._database.dialect == "postgresql":
            # Not `icontains`: that is ILIKE, and the indexes of trigrams are of the lower-case
            # names.
            return sa.or_(*(_like(name, "%", text) for name in (_USER_NAME, _NAME)))
        phrase = '"' + text.replace('"', '""') + '"'
        matching = sa.text(
            "SELECT rowid FROM account_names WHERE account_names MATCH :phrase"
        ).bindparams(phrase=phrase)
        return ACCOUNTS.c.user.in_(
            matching.columns(sa.column("rowid", sa.BigInteger)).scalar_subquery()
        )

    async def change_profile(self, profile: Profile, *, now_ms: int) -> bool:
        """One UPDATE, of a row that is locked. Raises Refused name_taken when it would take
        another's user name.
        """
        is_it = sa.and_(ACCOUNTS.c.user == profile.user, ACCOUNTS.c.version == profile.version - 1)
        update = sa.update(ACCOUNTS).where(is_it).values(**_values(profile))
        avatar = sa.select(ACCOUNTS.c.avatar).where(is_it).with_for_update()

        def work(connection: sa.Connection) -> bool:
            was = connection.execute(avatar).scalar()
            if was is None:
                return False
            if was != profile.avatar:
                self._avatars.replace(
                    connection,
                    holder=f"u{profile.user}",
                    was=was,
                    now=profile.avatar,
                    by=profile.user,
                    now_ms=now_ms,
                )
            try:
                return bool(connection.execute(update).rowcount)
            except sa.exc.IntegrityError as error:
                raise Refused("name_taken", "this user name is taken", field="user_name") from error

        return await self._database.write(work)

    async def read_clock(self, clock: Clock) -> Reading:
        """Asks the database."""
        return await self._database.read(
            lambda connection: self._database.read_clock(connection, clock)
        )

    async def ping(self) -> None:
        """Asks the database."""
        await self._database.ping()

    async def close(self) -> None:
        """Nothing: the owner of the database closes it, and that waits for our calls."""

    async def _first(self, query: sa.Select[*tuple[Any, ...]]) -> Any:
        return await self._database.read(lambda connection: connection.execute(query).first())


def _profile(row: Any) -> Profile:
    return Profile(*row[: len(_PROFILE)])


def _values(profile: Profile) -> dict[str, Any]:
    values = {name: getattr(profile, name) for name in Profile.__slots__}
    return {**values, "folded_name": caseless(profile.display_name)}


def _rank(text: str) -> sa.ColumnElement[int]:
    """Whole names before beginnings of names, those before beginnings of words and what is inside
    of one; user names before display names.
    """
    return sa.case(
        (_named(text), 0),
        (sa.literal(text) == _NAME, 1),
        (_like(_USER_NAME, "", text), 2),
        (_like(_NAME, "", text), 3),
        (_like(_NAME, "% ", text), 4),
        else_=5,
    )


def _like(name: sa.ColumnElement[str], before: str, text: str) -> sa.ColumnElement[bool]:
    """Whether the text stands in the name, behind what this pattern says."""
    return name.like(before + _LIKE.sub(r"/\g<0>", text) + "%", escape="/")


def _named(user_name: str) -> sa.ColumnElement[bool]:
    return sa.func.lower(ACCOUNTS.c.user_name) == sa.func.lower(user_name)


def _possible(users: Collection[UserId]) -> list[UserId]:
    """Those that fit into a column; ids beyond belong to no user, and the drivers would raise."""
    return [user for user in users if user <= LATEST]
