"""TRIGGERS: what calls each function, and how often a call is repeated. Data only.

`main`, `dev`, the manifests and a test read it, so that a laptop and Knative do the same. To add a
function: its file, and a row here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from backends.retry_policy import RetryPolicy
from schemas import topics


@dataclass(frozen=True, slots=True, kw_only=True)
class OnEvents:
    """A source: the records of `topic` go to the target `target` of the module `module`; what fails
    goes to chat-dead-letters.

    `acknowledged`: what is in the events was acknowledged, so that no number of tries decides about
    it (`backends.dispatcher.Source`). `needs`: the ports without which the target can do nothing,
    and so is not ready. `uses`: those that it goes on without for a while; they are asked once, at
    the start, where a wrong setting is found early.
    """

    target: str
    module: str
    topic: str
    group: str
    retry_policy: RetryPolicy
    needs: tuple[str, ...]
    uses: tuple[str, ...] = ()
    acknowledged: bool = True

    @property
    def service(self) -> str:
        """The name of its Knative Service."""
        return _SERVICES.get(self.target, self.target)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnHttp:
    """An HTTP target: requests whose path is one of `paths`, or lies below one, go to the target
    `target` of the module `module`.

    `needs` and `uses` as above.
    """

    target: str
    module: str
    paths: tuple[str, ...]
    needs: tuple[str, ...]
    uses: tuple[str, ...] = ()

    @property
    def service(self) -> str:
        """The name of its Knative Service."""
        return _SERVICES.get(self.target, self.target)


# What Knative's dispatcher is told (design.md D12): 60 linear steps of 0.5 s are 15 min, and after
# a return at most 30 s are waited. What is dead-lettered then is tried again (`report_failed`). The
# local dispatcher has no such end for what was acknowledged, and waits less.
_LONG: Final = RetryPolicy(retry=60, backoff_delay_s=0.5)
# Strangers wait for SQL's return: at most 4 s too long, and 82 s a round.
_RETRIES: Final = RetryPolicy(retry=40, backoff_delay_s=0.1)
_HISTORY: Final = RetryPolicy(retry=2, backoff_delay_s=0.5)  # the caller has soon stopped waiting
_SERVICES: Final = {"report_failed": "report-lost"}
"""Knative Services that keep an older name than their target."""

# `send` is ready without SQL: what it remembers carries it for a while, and what it does not goes
# to chat-retries (design.md D11b). It opens history at the first change of a message, for plain
# messages start without Cassandra's driver. What signs, refuses or expires by time needs the clock:
# where there is a store with a better one than the machine's, it was read. `accounts` is ready
# without log and cache: people log in and read without either, and what gateways must hear is
# refused call by call.
TRIGGERS: Final[tuple[OnEvents | OnHttp, ...]] = (
    OnEvents(
        target="send",
        module="events.send",
        topic=topics.COMMANDS,
        group="send",
        retry_policy=_LONG,
        needs=("appends",),
        uses=("accounts",),
    ),
    OnEvents(
        target="send",
        module="events.send",
        topic=topics.RETRIES,
        group="send-retries",
        retry_policy=_RETRIES,
        needs=("appends",),
        uses=("accounts",),
    ),
    *(
        OnEvents(
            target="persist",
            module="events.persist",
            topic=topic,
            group=group,
            retry_policy=_LONG,
            needs=("appends", "chats"),
        )
        for topic, group in topics.HISTORY_GROUPS.items()
    ),
    *(
        OnEvents(
            target="index",
            module="events.index",
            topic=topic,
            group=group,
            retry_policy=_LONG,
            needs=("search",),
        )
        for topic, group in topics.INDEX_GROUPS.items()
    ),
    OnEvents(
        target="history",
        module="events.history",
        topic=topics.QUERIES,
        group="history",
        retry_policy=_HISTORY,
        needs=("appends", "chats", "clock"),
        acknowledged=False,
    ),
    OnEvents(
        target="resize",
        module="events.resize",
        topic=topics.UPLOADS,
        group="resize",
        retry_policy=_LONG,
        needs=("files",),
        uses=("file_store",),
    ),
    OnEvents(
        target="report_failed",
        module="events.report_failed",
        topic=topics.DEAD_LETTERS,
        group="report-lost",
        retry_policy=_LONG,
        needs=("appends", "reads"),
    ),
    OnHttp(
        target="accounts",
        module="endpoints.accounts",
        paths=(
            "/v1/users",
            "/v1/sessions",
            "/v1/tokens",
            "/v1/devices",
            "/v1/me",
            "/v1/contacts",
            "/v1/blocks",
            "/v1/gateways",
            "/v1/config",
            "/v1/openapi.json",
            "/v1/docs",
            "/.well-known/jwks.json",
        ),
        needs=("accounts", "clock"),
        uses=("appends", "cache"),
    ),
    OnHttp(
        target="chats",
        module="endpoints.chats",
        paths=("/v1/chats", "/v1/search"),
        needs=("chats", "public_keys", "clock"),
        uses=("accounts", "appends", "cache", "search"),
    ),
    OnHttp(
        target="files",
        module="endpoints.files",
        paths=("/v1/files", "/v1/blobs"),
        needs=("files", "public_keys", "clock"),
        uses=("accounts", "file_store", "appends", "cache"),
    ),
)
