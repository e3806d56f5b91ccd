"""The `LogIns` port on SQL: devices that are logged in, and the endings that the log does not have
yet.

A log-in counts while its epoch is its account's: every question here asks for both, so raising the
epoch ends all of them, however many there are. Whatever begins or ends log-ins is one transaction;
those that must not overlap take the account's row first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import sqlalchemy as sa

from backends.accounts import MAX_DEVICES_PER_USER, Device, Ending, Notice
from backends.accounts.endings import (
    ENDINGS,
    NOTICES,
    forget,
    note_endings,
    note_notice,
    oldest,
    raise_epoch,
)
from backends.accounts.sql import ACCOUNTS
from backends.sql.database import METADATA, Database
from schemas.ids import UserId

DEVICES: Final = sa.Table(
    "devices",
    METADATA,
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("device", sa.Text, primary_key=True),
    sa.Column("device_name", sa.Text, nullable=False),
    sa.Column("family", sa.Text, nullable=False, unique=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("token_hash", sa.LargeBinary, nullable=False),
    sa.Column("previous_hash", sa.LargeBinary),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("seen_ms", sa.BigInteger, nullable=False),
    sa.Column("rotated_ms", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
)

# Rows of ended log-ins that are swept out in one transaction, which takes about 2 ms then; more
# wait for the user's next log-in.
_MAX_SWEPT: Final = 500

_DEVICE: Final = [DEVICES.c[name] for name in Device.__slots__]
_ROTATED: Final = ("generation", "token_hash", "previous_hash", "salt", "seen_ms", "rotated_ms")
_STANDING: Final = sa.select(*_DEVICE).join_from(
    DEVICES,
    ACCOUNTS,
    sa.and_(ACCOUNTS.c.user == DEVICES.c.user, ACCOUNTS.c.session_epoch == DEVICES.c.epoch),
)


class SqlLogIns:
    """Log-ins in a database that they share with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._among = database.among(DEVICES.c.device, "names")

    async def begin(self, device: Device) -> tuple[Device, Sequence[Ending | Notice]] | None:
        """Locks the account, so that no change of the password comes between."""

        def work(connection: sa.Connection) -> tuple[Device, Sequence[Ending | Notice]] | None:
            account = (
                sa.select(ACCOUNTS.c.session_epoch)
                .where(ACCOUNTS.c.user == device.user, ACCOUNTS.c.suspended_ms == 0)
                .with_for_update()
            )
            if connection.execute(account).scalar() != device.epoch:
                return None
            self._sweep(connection, device.user, device.epoch)
            was = connection.execute(
                sa.select(DEVICES.c.seen_ms).where(_is(device.user, device.device))
            ).scalar()
            begun, ended = device, []
            if was is not None:
                begun = _after(device, was)
                ended = [Ending(device.user, device.device, begun.seen_ms)]
            elif (unused := self._one_too_many(connection, device)) is not None:
                ended = [unused]
            connection.execute(self._put(begun))
            note_endings(self._database, connection, ended)
            told = self._note_for_others(connection, begun, "logged_in", epoch=device.epoch)
            return begun, [*ended, *told]

        return await self._database.write(work)

    def _one_too_many(self, connection: sa.Connection, device: Device) -> Ending | None:
        """What ends so that the user has no device more than before."""
        mine = sa.and_(DEVICES.c.user == device.user, DEVICES.c.epoch == device.epoch)
        some = sa.select(sa.literal_column("1")).where(mine).limit(MAX_DEVICES_PER_USER).subquery()
        if (
            connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()
            < MAX_DEVICES_PER_USER
        ):
            return None
        unused = (
            sa.select(DEVICES.c.device, DEVICES.c.seen_ms)
            .where(mine)
            .order_by(DEVICES.c.seen_ms, DEVICES.c.device)
            .limit(1)
        )
        name, seen_ms = connection.execute(unused).one()
        connection.execute(sa.delete(DEVICES).where(_is(device.user, name)))
        return Ending(device.user, name, max(device.seen_ms, seen_ms) + 1)

    async def device_of(self, family: str) -> Device | None:
        """By an index of its own."""
        return await self._first(_STANDING.where(DEVICES.c.family == family))

    async def device(self, user: UserId, name: str) -> Device | None:
        """By its key."""
        return await self._first(_STANDING.where(_is(user, name)))

    async def devices(self, user: UserId) -> Sequence[Device]:
        """One SELECT."""
        query = _STANDING.where(DEVICES.c.user == user).order_by(
            DEVICES.c.created_ms.desc(), DEVICES.c.device
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Device(*row) for row in rows]

    async def rotate(self, device: Device, *, was_generation: int) -> bool:
        """One UPDATE. A newer log-in of the same device has another family and is left alone."""
        update = (
            sa.update(DEVICES)
            .where(DEVICES.c.family == device.family, DEVICES.c.generation == was_generation)
            .values({name: getattr(device, name) for name in _ROTATED})
        )
        return await self._database.write(
            lambda connection: bool(connection.execute(update).rowcount)
        )

    async def end(
        self, user: UserId, name: str, *, now_ms: int, family: str | None = None
    ) -> Ending | None:
        """One DELETE, and a note of it."""
        which = (
            _is(user, name)
            if family is None
            else sa.and_(_is(user, name), DEVICES.c.family == family)
        )

        def work(connection: sa.Connection) -> Ending | None:
            seen_ms = connection.execute(
                sa.delete(DEVICES).where(which).returning(DEVICES.c.seen_ms)
            ).scalar()
            if seen_ms is None:
                return None
            ending = Ending(user, name, max(now_ms, seen_ms) + 1)
            note_endings(self._database, connection, [ending])
            return ending

        return await self._database.write(work)

    async def change_password(
        self, user: UserId, password_hash: str, *, was: str, kept: Device
    ) -> tuple[Device, Ending] | None:
        """One UPDATE decides and ends, whatever is swept out only now or later."""
        update = (
            sa.update(ACCOUNTS)
            .where(
                ACCOUNTS.c.user == user,
                ACCOUNTS.c.password_hash == was,
                ACCOUNTS.c.suspended_ms == 0,
            )
            .values(password_hash=password_hash, session_epoch=ACCOUNTS.c.session_epoch + 1)
            .returning(ACCOUNTS.c.session_epoch)
        )

        def work(connection: sa.Connection) -> tuple[Device, Ending] | None:
            epoch = connection.execute(update).scalar()
            if epoch is None:
                return None
            older = connection.execute(
                sa.select(DEVICES.c.seen_ms).where(_is(user, kept.device))
            ).scalar()
            begun = replace(kept if older is None else _after(kept, older), epoch=epoch)
            self._note_for_others(connection, begun, "password_changed", epoch=epoch - 1)
            self._sweep(connection, user, epoch)
            connection.execute(self._put(begun))
            ending = Ending(user, "", begun.seen_ms, epoch, begun.device)
            note_endings(self._database, connection, [ending])
            return begun, ending

        return await self._database.write(work)

    async def end_all(self, user: UserId, *, now_ms: int) -> Ending | None:
        """One UPDATE, and a note of it; rows are swept out later."""
        return await self._database.write(
            lambda connection: raise_epoch(self._database, connection, user, now_ms=now_ms)
        )

    async def unpublished(self, *, limit: int) -> Sequence[Ending]:
        """One SELECT."""
        return await oldest(self._database, Ending, ENDINGS.c.before_ms, limit=limit)

    async def mark_published(self, endings: Sequence[Ending]) -> None:
        """What has ended again meanwhile is another ending, and stays."""
        await forget(self._database, ENDINGS, endings)

    async def untold(self, *, limit: int) -> Sequence[Notice]:
        """One SELECT."""
        return await oldest(self._database, Notice, NOTICES.c.at_ms, limit=limit)

    async def mark_told(self, notices: Sequence[Notice]) -> None:
        """What has happened again meanwhile is another notice, and stays."""
        await forget(self._database, NOTICES, notices)

    async def _first(self, query: sa.Select[*tuple[Any, ...]]) -> Device | None:
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else Device(*row)

    def _sweep(self, connection: sa.Connection, user: UserId, epoch: int) -> None:
        """By their keys: a subquery with a limit may be asked anew for each row, which took
        PostgreSQL over 5 s for 20,000 (measured).
        """
        over = (
            sa.select(DEVICES.c.device)
            .where(DEVICES.c.user == user, DEVICES.c.epoch < epoch)
            .limit(_MAX_SWEPT)
        )
        if names := list(connection.execute(over).scalars()):
            connection.execute(
                sa.delete(DEVICES).where(DEVICES.c.user == user, self._among), {"names": names}
            )

    def _put(self, device: Device) -> sa.Insert:
        values = {name: getattr(device, name) for name in Device.__slots__}
        insert = self._database.insert(DEVICES).values(**values)
        return insert.on_conflict_do_update(index_elements=list(DEVICES.primary_key), set_=values)

    def _note_for_others(
        self,
        connection: sa.Connection,
        device: Device,
        op: Literal["logged_in", "password_changed"],
        *,
        epoch: int,
    ) -> Sequence[Notice]:
        """Where the user has other devices, that were logged in with this epoch."""
        others = (
            sa.select(DEVICES.c.device)
            .where(
                DEVICES.c.user == device.user,
                DEVICES.c.epoch == epoch,
                DEVICES.c.device != device.device,
            )
            .limit(1)
        )
        if connection.execute(others).first() is None:
            return []
        notice = Notice(device.user, device.device, op, device.created_ms, device.device_name)
        note_notice(self._database, connection, notice)
        return [notice]


def _is(user: UserId, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(DEVICES.c.user == user, DEVICES.c.device == name)


def _after(device: Device, seen_ms: int) -> Device:
    """The log-in, begun later than anything that was issued to the device at
    `seen_ms` or before.
    """
    later_ms = max(device.seen_ms, seen_ms + 1)
    return replace(device, created_ms=later_ms, seen_ms=later_ms, rotated_ms=later_ms)
