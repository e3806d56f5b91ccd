"""Puts ports and adapters together: the only file that names adapters.

Everything is opened at its first use, so that a function loads only the drivers that its target needs (design.md D21).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from backends.settings import Settings
from schemas.topics import COMMANDS, QUERIES

if TYPE_CHECKING:
    from backends.accounts import Accounts, Generators, Owners
    from backends.cache import Cache
    from backends.chats import Chats
    from backends.database import Database
    from backends.keys import PublicKeys, SigningKey
    from backends.log import Appends, Reads
    from backends.log.embedded import EmbeddedLog
    from backends.log.knative import KnativeAppends


class Backends:
    """All ports of one process. Belongs to one event loop; `close` when it ends."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def _log(self) -> EmbeddedLog:
        from backends.log.embedded import EmbeddedLog  # noqa: PLC0415 - opened at first use

        return EmbeddedLog(self.settings.data / "log.db", event_keys=self.settings.event_keys)

    @cached_property
    def _database(self) -> Database:
        from backends.database import Database  # noqa: PLC0415 - opened at first use

        return Database.sqlite(self.settings.data / "data.db")

    @cached_property
    def _sinks(self) -> KnativeAppends:
        from backends.log.knative import KnativeAppends  # noqa: PLC0415 - opened at first use

        settings = self.settings
        sinks = {COMMANDS: settings.sink, QUERIES: settings.sink_queries}
        return KnativeAppends(sinks, overrides=settings.sink_overrides, ca=settings.sink_ca, event_keys=settings.event_keys)

    @property
    def appends(self) -> Appends:
        """Where events are appended."""
        return self._sinks if self.settings.log == "knative" else self._log

    @property
    def reads(self) -> Reads:
        """Where topics are read."""
        return self._log

    @cached_property
    def cache(self) -> Cache:
        """Idempotency keys, counters, small values."""
        if self.settings.redis:
            from backends.cache.redis import RedisCache  # noqa: PLC0415 - opened at first use

            return RedisCache(self.settings.redis, password=self.settings.redis_password, ca=self.settings.redis_ca)
        from backends.cache.embedded import EmbeddedCache  # noqa: PLC0415 - opened at first use

        return EmbeddedCache(self._log)

    @cached_property
    def chats(self) -> Chats:
        """History and chat states."""
        from backends.chats.sql import SqlChats  # noqa: PLC0415 - opened at first use

        return SqlChats(self._database)

    @cached_property
    def accounts(self) -> Accounts:
        """Users and devices."""
        from backends.accounts.sql import SqlAccounts  # noqa: PLC0415 - opened at first use

        return SqlAccounts(self._database)

    @cached_property
    def generators(self) -> Generators:
        """Leased id generators."""
        from backends.accounts.generators import SqlGenerators  # noqa: PLC0415 - opened at first use

        return SqlGenerators(self._database)

    @cached_property
    def owners(self) -> Owners:
        """Partition owners."""
        from backends.accounts.owners import SqlOwners  # noqa: PLC0415 - opened at first use

        return SqlOwners(self._database)

    @cached_property
    def public_keys(self) -> PublicKeys:
        """What access tokens are checked with."""
        from backends.keys import PublicKeys  # noqa: PLC0415 - opened at first use

        return PublicKeys(self.settings)

    @cached_property
    def signing_key(self) -> SigningKey:
        """What access tokens are signed with; `accounts` alone uses it."""
        from backends.keys import SigningKey  # noqa: PLC0415 - opened at first use

        return SigningKey.of(self.settings)

    def own(self) -> None:
        """Makes this process the owner of the data folder until `close`: `dev` does, a lone function need not.

        Raises Unavailable, in one line, when another process owns it or it cannot be written.
        """
        self._log.own()

    async def close(self) -> None:
        """Closes what was opened: the users of a store before the store."""
        for name in ("chats", "accounts", "cache"):
            if name in self.__dict__:
                await self.__dict__[name].close()
        if "_database" in self.__dict__:
            await self._database.close()
        if "_sinks" in self.__dict__:
            await self._sinks.close()
        if "_log" in self.__dict__:
            await self._log.close()
