"""Whether what a process needs is there: `/readyz` of gateways and functions asks, and every
process once at its start.

Each port is asked by one `ping` at a time, however many ask for it, and no probe waits for it
longer than READY_TIMEOUT_S.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from backends.settings_checks import check_event_keys
from schemas.errors import ChatError, Malformed, Unavailable, Unfit

if TYPE_CHECKING:
    from backends.wiring import Backends

log = logging.getLogger(__name__)

READY_TIMEOUT_S: Final = 1.5
"""A probe has its answer within 2 s, also from a busy process."""
START_TIMEOUT_S: Final = 5.0
"""At the start drivers are loaded too, which takes a second on a busy machine; pings themselves end
within 2 s.
"""


class Health:
    """Of the ports of one process, by their names in `Backends`."""

    def __init__(self, backends: Backends, *, ready_timeout_s: float = READY_TIMEOUT_S) -> None:
        self._backends, self._ready_timeout_s = backends, ready_timeout_s
        self._asking: dict[str, asyncio.Task[ChatError | None]] = {}

    async def missing(self, ports: Collection[str]) -> list[str]:
        """What of these does not answer, in operators' words: the part, its technology, and what to
        do where waiting does not help.
        """
        wrong = await self._ask_all(ports, within_s=self._ready_timeout_s)
        return list(dict.fromkeys(self._said(port, error) for port, error in wrong.items()))

    async def check(self, ports: Collection[str]) -> None:
        """For the start: raises Malformed when a setting of one of these ports is wrong.

        An unavailable one is logged, and comes later.
        """
        if {"appends", "reads"} & {*ports}:
            check_event_keys(self._backends.settings)
        wrong = await self._ask_all(ports, within_s=START_TIMEOUT_S)
        for port, error in wrong.items():
            if isinstance(error, Malformed):
                raise error
            log.warning(
                "started without a part that is unavailable",
                extra={"part": self._word(port), "error": error.message},
            )

    async def _ask_all(self, ports: Collection[str], *, within_s: float) -> dict[str, ChatError]:
        answers = await asyncio.gather(*(self._ask(port, within_s) for port in ports))
        return {
            port: error for port, error in zip(ports, answers, strict=True) if error is not None
        }

    async def _ask(self, port: str, within_s: float) -> ChatError | None:
        asking = self._asking.get(port)
        if asking is None:
            asking = self._asking[port] = asyncio.create_task(self._ping(port))
            asking.add_done_callback(lambda _: self._asking.pop(port))
        done, _ = await asyncio.wait([asking], timeout=within_s)
        return asking.result() if done else Unavailable(f"no answer within {within_s} s")

    async def _ping(self, port: str) -> ChatError | None:
        try:
            await getattr(self._backends, port).ping()
        except ImportError as error:
            return Malformed(f"the package {error.name} is not installed here")
        except Malformed as error:
            named = error.field is None or error.field in error.message
            return (
                error if named else Malformed(f"{error.field}: {error.message}", field=error.field)
            )
        except ChatError as error:
            return error
        return None

    def _said(self, port: str, error: ChatError) -> str:
        return (
            f"{self._word(port)}: {error.message}"
            if isinstance(error, Malformed | Unfit)
            else self._word(port)
        )

    def _word(self, port: str) -> str:
        settings = self._backends.settings
        match port:
            case "appends":
                return f"log ({settings.log})"
            case "reads":
                return f"log ({'embedded' if settings.log == 'embedded' else 'kafka'})"
            case "chats":
                return f"chats ({settings.chats})"
            case "search":
                return f"search ({settings.search})"
            case "accounts" | "groups" | "files":
                return f"{port} (sql)"
            case "file_store":
                return f"files ({'s3' if settings.s3 else 'folder'})"
            case "cache":
                return f"cache ({'redis' if settings.redis else 'embedded'})"
            case _:
                return port.replace("_", " ")
