"""What a process goes by: its copy of the configuration, which follows what administrators change
within 5 s.

`wiring` makes one a process, and what asks it is handed it. Asking is reading an attribute: the
database is read beside everything else. While that is unavailable, and where a section holds what
this version refuses, the old values stay. Source: design.md D20.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec import structs

from backends.concurrency import jittered
from backends.telemetry.metrics import count, gauge
from schemas.configuration import SECTIONS, Values
from schemas.configuration_fields import Section
from schemas.errors import Malformed, Unavailable

if TYPE_CHECKING:
    from backends.configuration import Revision, StoredConfiguration

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """In seconds. A change is seen after two reads and a wait at most: within 5 s."""

    interval_s: float = 3.5
    """From one read to the next at most, and 0.7 times as long at least: processes that were
    started together do not read together for long.
    """
    timeout_s: float = 0.75
    """What one read may take."""

    def wait_s(self) -> float:
        """A wait between two reads."""
        return jittered(self.interval_s, least=0.7)


TIMING: Final = Timing()


def read_section(section: Section, revision: Revision | None) -> Section:
    """The section with its defaults, as this revision sets it; fields that this version does not
    know are left out.

    Raises Malformed when a value is refused.
    """
    if revision is None:
        return section
    if revision.values is None:
        raise Malformed("what is stored is no JSON object", field=revision.section)
    known = {name: value for name, value in revision.values.items() if name in section.fields()}
    return section.with_values(section.checked(known, place=revision.section))


class Configuration:
    """One process's copy. Belongs to one event loop."""

    def __init__(
        self,
        stored: Callable[[], StoredConfiguration],
        defaults: Values,
        *,
        clock: Callable[[], float],
        timing: Timing = TIMING,
    ) -> None:
        """`stored` opens the database, at the first read; `clock` is in seconds."""
        self.defaults: Final = defaults
        """What holds where nothing is set."""
        self.values = defaults
        """What holds now. Another object after a change: do not keep it."""
        self._stored, self._clock, self._timing = stored, clock, timing
        self._versions: Mapping[str, int] | None = None
        """Those that `values` follows, or that were refused. None: nothing was read yet."""
        self._followers: list[Callable[[Values], object]] = []
        self._reading = asyncio.Lock()
        self._is_unavailable = False
        self._read_s = clock()
        self._asked_s = float("-inf")

    def follow(self, follower: Callable[[Values], object]) -> Callable[[], None]:
        """Calls it with the values now, and after each change until what is returned is called."""
        self._followers.append(follower)
        follower(self.values)

        def unfollow() -> None:
            if follower in self._followers:
                self._followers.remove(follower)

        return unfollow

    async def known(self) -> Values:
        """The values, as soon as they were read once.

        While they were not it waits for a read, for `timeout_s` at most and not more often than
        each `interval_s`; then the defaults hold.
        """
        if self._versions is None:
            if self._reading.locked():
                async with self._reading:
                    pass
            elif self._clock() - self._asked_s >= self._timing.interval_s:
                await self.look()
        return self.values

    async def keep(self) -> None:
        """Follows what is stored, until cancelled."""
        while True:
            await asyncio.sleep(self._timing.wait_s())
            await self.look()

    async def look(self) -> None:
        """Takes what is stored now; while that cannot be read, everything stays as it is."""
        self._asked_s = self._clock()
        try:
            async with asyncio.timeout(self._timing.timeout_s):
                await self.refresh()
        except (Unavailable, TimeoutError) as error:
            if not self._is_unavailable:
                log.warning(
                    "the configuration cannot be read, the old values stay",
                    extra={"error": str(error) or "timeout"},
                )
            self._is_unavailable = True
        else:
            self._is_unavailable = False
        gauge("knchat_configuration_age_seconds", self._clock() - self._read_s)

    async def refresh(self) -> None:
        """Takes what is stored now. Raises Unavailable."""
        async with self._reading:
            began_s = self._clock()
            stored = self._stored()
            versions = await stored.versions()
            if versions != (self._versions or {}):
                self._take(await stored.newest())
            elif self._versions is None:
                self._versions = versions
            self._read_s = began_s

    def _take(self, newest: Mapping[str, Revision]) -> None:
        seen, changed = self._versions or {}, {}
        for name in SECTIONS:
            revision = newest.get(name)
            if (0 if revision is None else revision.version) == seen.get(name, 0):
                continue
            try:
                changed[name] = read_section(self.defaults.section(name), revision)
                version = 0 if revision is None else revision.version
                gauge("knchat_configuration_version", version, section=name)
            except Malformed as error:
                count("knchat_configuration_refused_total", section=name)
                log.warning(
                    "a stored section is refused, the old values stay",
                    extra={"field": error.field, "error": error.message},
                )
        self._versions = {name: revision.version for name, revision in newest.items()}
        values = structs.replace(self.values, **changed)
        if values != self.values:
            self.values = values
            log.info(
                "configuration changed",
                extra={"sections": " ".join(changed), "versions": self._versions},
            )
            for follower in tuple(self._followers):
                follower(values)
