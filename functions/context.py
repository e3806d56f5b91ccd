"""What the functions of one process work with: its stores, and what is kept beside them. Made once, by `door.use`.

Parts are made and imported when they are asked for first: an event function must not load what only log-ins need (design.md D21).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends.wiring import Backends
    from functions.budgets import Budgets
    from functions.endings import Endings
    from functions.passwords import Passwords
    from functions.policy import Policy


class Context:
    """One for each Backends."""

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    @cached_property
    def policy(self) -> Policy:
        """Who exists, as far as SQL was asked."""
        from functions.policy import Policy  # noqa: PLC0415 - see above

        return Policy(self.backends.clock.elapsed_s)

    @cached_property
    def passwords(self) -> Passwords:
        """Hashing under a limit."""
        from functions.passwords import Passwords  # noqa: PLC0415 - see above

        return Passwords(self.backends)

    @cached_property
    def budgets(self) -> Budgets:
        """What callers over HTTP may spend."""
        from functions.budgets import Budgets  # noqa: PLC0415 - see above

        return Budgets(self.backends)

    @cached_property
    def endings(self) -> Endings:
        """What gateways are told of log-ins that have ended."""
        from functions.endings import Endings  # noqa: PLC0415 - see above

        return Endings(self.backends)
