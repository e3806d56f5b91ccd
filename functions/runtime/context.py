"""What the functions of one process work with: its stores, and what is kept beside them.

Made once a process, by `use_backends`. Parts are made and imported when they are asked for first:
an event function must not load what only log-ins need (design.md D21).
"""

from __future__ import annotations

import logging
import os
from functools import cached_property
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from backends.telemetry import tracing
from schemas.errors import Malformed, Unavailable

if TYPE_CHECKING:
    from backends.preferences import Preferences
    from backends.relations import Contact
    from backends.rosters import Rosters
    from backends.wiring import Backends
    from functions.domain.account_log import AccountLog
    from functions.domain.changes import Changes
    from functions.domain.group_changes import GroupChanges
    from functions.domain.group_receipts import GroupReceipts
    from functions.domain.images import Images
    from functions.domain.indexing import Indexer
    from functions.domain.outbox import Outbox
    from functions.domain.passwords import Passwords
    from functions.domain.policy import Policy
    from functions.domain.relay import Relay
    from functions.domain.sent_files import SentFiles
    from functions.domain.shared_pages import SharedPages
    from functions.runtime.budgets import Budgets

log = logging.getLogger(__name__)


class Timing(Struct, frozen=True, kw_only=True):
    """Seconds that the functions wait."""

    handler_timeout_s: float = 10.0
    """The dispatcher gives up after 15 s and asks again while a late handler would still be
    running: a handler ends before that (design.md D11).
    """
    body_timeout_s: float = 2.0
    """From the head of a request to the end of its body.

    Who sends more slowly keeps nothing busy but a connection.
    """
    queries_timeout_s: float = 8.0
    """What the questions of an event may take: the handler has 10 s, and who asked waits as long.
    """
    answers_delay_s: float = 0.05
    """So long a quick answer waits for those that were asked with it: a record costs more than an
    answer.
    """
    counts_timeout_s: float = 3.0
    """Of the 10 s of a handler: the counts of a slow store must not fail what is written already.
    """
    files_timeout_s: float = 2.0
    """What messages with files may wait for the database: those without wait with them."""
    follow_interval_s: float = 2.0
    """From one look at whose relations have changed to the next: what is remembered of them counts
    for 4 s after the last one (`functions/domain/policy.py`).
    """
    image_timeout_s: float = 6.0
    """What decoding an image may take, of the 10 s of a handler that reads and writes it too."""
    index_delay_s: float = 0.2
    """So long an entry waits for others that are written into the index with it. What is written
    shall be found within 2 s.
    """
    relay_timeout_s: float = 1.0
    """How long a call whose transaction wrote something down for the log waits for the log.

    Longer is no use to its caller: what it asked for is done already.
    """
    account_log_delay_s: float = 1.0
    """So long account events are collected before they are written, in one transaction."""


TIMING: Final = Timing()
"""What is served."""

_context: Context | None = None


def use_backends(backends: Backends | None, timing: Timing = TIMING) -> None:
    """Makes all functions of this process work on these stores.

    None: on those of the environment, opened at the next event.
    """
    global _context  # noqa: PLW0603 - functions-framework calls a target with the event alone
    _context = None if backends is None else Context(backends, timing)


def current_timing() -> Timing:
    """That of the context, where there is one: an event may fail before it is made."""
    return TIMING if _context is None else _context.timing


def current_context() -> Context:
    """The context of this process, made of the environment when `use_backends` was given no stores.

    Call it inside the running loop. Raises Unavailable when the environment is wrong: no event is
    to blame for that.
    """
    if _context is None:
        from backends.settings import Settings  # noqa: PLC0415 - see above

        # Not needed where `use_backends` was called.
        from backends.telemetry import logs  # noqa: PLC0415
        from backends.wiring import Backends  # noqa: PLC0415 - see above

        try:
            settings = Settings.from_env()
            service = os.environ.get("FUNCTION_TARGET", "functions")
            tracing.set_up(settings.otlp_endpoint, ratio=settings.trace_ratio, service=service)
        except Malformed as error:
            log.critical("a setting is wrong", extra={"setting": error.field})
            raise Unavailable(error.message) from error
        logs.set_up(settings.log_level)
        use_backends(Backends(settings))
    assert _context is not None  # noqa: S101 - `use_backends` was just called
    return _context


class Context:
    """One for each Backends."""

    def __init__(self, backends: Backends, timing: Timing = TIMING) -> None:
        self.backends = backends
        self.timing = timing

    @cached_property
    def policy(self) -> Policy:
        """Who may write to whom, as far as SQL was asked."""
        from functions.domain.policy import Policy  # noqa: PLC0415 - see above

        return Policy(
            self.backends.relations,
            self.backends.clock,
            follow_interval_s=self.timing.follow_interval_s,
        )

    @cached_property
    def contact_notices(self) -> Relay[Contact]:
        """What both sides of contacts are told."""
        from functions.domain.contact_notices import contact_notices  # noqa: PLC0415 - see above

        return contact_notices(self.backends, timeout_s=self.timing.relay_timeout_s)

    @cached_property
    def changes(self) -> Changes:
        """Which changes of messages are allowed."""
        from functions.domain.changes import Changes  # noqa: PLC0415 - see above

        backends = self.backends
        return Changes(backends.chats, backends.clock, backends.configuration)

    @cached_property
    def sent_files(self) -> SentFiles:
        """Who may read the files of messages."""
        from functions.domain.sent_files import SentFiles  # noqa: PLC0415 - see above

        return SentFiles(
            self.backends.files, self.backends.clock, timeout_s=self.timing.files_timeout_s
        )

    @cached_property
    def indexer(self) -> Indexer:
        """What writes the index of messages."""
        from functions.domain.indexing import Indexer  # noqa: PLC0415 - see above

        return Indexer(self.backends.search, delay_s=self.timing.index_delay_s)

    @cached_property
    def rosters(self) -> Rosters:
        """Who is in groups, as far as SQL was asked."""
        from backends.rosters import Rosters  # noqa: PLC0415 - see above

        return Rosters(self.backends.clock.elapsed_s)

    @cached_property
    def shared_pages(self) -> SharedPages:
        """The newest messages of large groups, for all who ask at once."""
        from functions.domain.shared_pages import SharedPages  # noqa: PLC0415 - see above

        return SharedPages(self.backends, self.rosters)

    @cached_property
    def group_receipts(self) -> GroupReceipts:
        """Between which members of groups receipts are told."""
        from functions.domain.group_receipts import GroupReceipts  # noqa: PLC0415 - see above

        return GroupReceipts(self.backends.relations, self.backends.clock.elapsed_s)

    @cached_property
    def group_changes(self) -> GroupChanges:
        """Changes of groups, and how their members hear of them."""
        from functions.domain.group_changes import GroupChanges  # noqa: PLC0415 - see above

        return GroupChanges(self.backends, timeout_s=self.timing.relay_timeout_s)

    @cached_property
    def preference_notices(self) -> Relay[Preferences]:
        """What users' devices are told of preferences."""
        from functions.domain.preference_notices import preference_notices  # noqa: PLC0415 - see above

        return preference_notices(self.backends, timeout_s=self.timing.relay_timeout_s)

    @cached_property
    def images(self) -> Images:
        """Previews, by processes of their own."""
        from functions.domain.images import Images  # noqa: PLC0415 - see above

        return Images(timeout_s=self.timing.image_timeout_s)

    @cached_property
    def passwords(self) -> Passwords:
        """Hashing under a limit."""
        from functions.domain.passwords import Passwords  # noqa: PLC0415 - see above

        return Passwords(self.backends)

    @cached_property
    def budgets(self) -> Budgets:
        """What callers over HTTP may spend."""
        from functions.runtime.budgets import Budgets  # noqa: PLC0415 - see above

        return Budgets(self.backends)

    @cached_property
    def outbox(self) -> Outbox:
        """What gateways are told of log-ins that have ended."""
        from functions.domain.outbox import Outbox  # noqa: PLC0415 - see above

        return Outbox(self.backends, timeout_s=self.timing.relay_timeout_s)

    @cached_property
    def account_log(self) -> AccountLog:
        """What is recorded of accounts."""
        from functions.domain.account_log import AccountLog  # noqa: PLC0415 - see above

        return AccountLog(self.backends, delay_s=self.timing.account_log_delay_s)

    async def close(self) -> None:
        """Ends what goes on behind calls. Before the stores are closed."""
        if "account_log" in self.__dict__:
            await self.account_log.close()
