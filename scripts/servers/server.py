"""What `services.py` must know of a server: how to prepare it, whether it is ready, and how its
clients are told where it is.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from servers.packages import Package
from servers.place import Place


class NotReady(Exception):
    """It does not answer as it should, yet."""


@dataclass(frozen=True, slots=True)
class Server:
    """One of the servers; its callables hold no state, which is all in its Place."""

    name: str
    ports: tuple[str, ...]
    """Names of the ports that it wants, `client` for its clients."""
    packages: Callable[[], tuple[Package, ...]]
    """What must be installed before it can be prepared."""
    prepare: Callable[[Place], list[str]]
    """Writes its configuration and, the first time, its data; answers with the program to run.

    Failed when something is missing.
    """
    check: Callable[[Place], None]
    """Uses it as a client does, within seconds. NotReady when it does not answer as it should."""
    settings: Callable[[Place], dict[str, str]]
    """The variables (`KNCHAT_` ones, of stores) that lead clients there."""
    stops_by: signal.Signals = signal.SIGTERM
    """What asks it for an orderly end."""
    timer_slack_us: int = 0
    """By how much its sleeps may be stretched; 0: the system's default."""
    niceness: int = 0
    """How far it steps back when all servers want the same cores."""
