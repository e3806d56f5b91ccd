"""All functions of the house: the one FUNCTION_SOURCE of functions-framework, and TRIGGERS, which says what calls each of them.

    functions-framework --source functions/main.py --target send

A target is looked up here by its name and its file is imported then, so that a function starts with what it needs and nothing else
(design.md D21). `dev`, the manifests and a test read TRIGGERS, so that a laptop and Knative do the same. To add a function: its file, and
a row here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from backends.retry_policy import RetryPolicy
from schemas import topics


@dataclass(frozen=True, slots=True, kw_only=True)
class OnEvents:
    """A source: the records of `topic` go to the target `target` of functions/`file`.py; what fails goes to chat-dead-letters.

    `acknowledged`: what is in the events was acknowledged, so that no number of tries decides about it (`backends.dispatcher.Source`).
    `needs`: the ports without which the target can do nothing, and so is not ready. `uses`: those that it goes on without for a while; they
    are asked once, at the start, where a wrong setting is found early.
    """

    target: str
    file: str
    topic: str
    group: str
    delivery: RetryPolicy
    needs: tuple[str, ...]
    uses: tuple[str, ...] = ()
    acknowledged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OnHttp:
    """An HTTP target: requests whose path is one of `paths`, or lies below one, go to the target `target` of functions/`file`.py.

    `needs` and `uses` as above.
    """

    target: str
    file: str
    paths: tuple[str, ...]
    needs: tuple[str, ...]
    uses: tuple[str, ...] = ()


# What Knative's dispatcher is told (design.md D12): 60 linear steps of 0.5 s are 15 min, and after a return at most 30 s are waited. What
# is set aside then goes round again (`lost`). The local dispatcher has no such end for what was acknowledged, and waits less.
_PATIENT: Final = RetryPolicy(retry=60, backoff_delay_s=0.5)
_RETRIES: Final = RetryPolicy(retry=40, backoff_delay_s=0.1)  # strangers wait for SQL's return: at most 4 s too long, and 82 s a round
_HISTORY: Final = RetryPolicy(retry=2, backoff_delay_s=0.5)  # whoever asked has soon stopped waiting

# `send` is ready without SQL: what it remembers carries it for a while, and what it does not goes to chat-retries (design.md D11b).
# Who signs, refuses or lets go by time needs the clock: where there is a store with a better one than the machine's, it was read.
# `accounts` is ready without log and cache: people log in and read without either, and what gateways must hear is refused call by call.
TRIGGERS: Final[tuple[OnEvents | OnHttp, ...]] = (
    OnEvents(target="send", file="send", topic=topics.COMMANDS, group="send", delivery=_PATIENT, needs=("appends",), uses=("accounts",)),
    OnEvents(
        target="send", file="send", topic=topics.RETRIES, group="send-retries", delivery=_RETRIES, needs=("appends",), uses=("accounts",)
    ),
    *(
        OnEvents(target="persist", file="persist", topic=topic, group=group, delivery=_PATIENT, needs=("appends", "chats"))
        for topic, group in topics.HISTORY_GROUPS.items()
    ),
    OnEvents(
        target="history",
        file="history",
        topic=topics.QUERIES,
        group="history",
        delivery=_HISTORY,
        needs=("appends", "chats", "clock"),
        acknowledged=False,
    ),
    OnEvents(
        target="report_lost", file="lost", topic=topics.DEAD_LETTERS, group="report-lost", delivery=_PATIENT, needs=("appends", "reads")
    ),
    OnHttp(
        target="accounts",
        file="accounts",
        paths=(
            "/v1/users",
            "/v1/sessions",
            "/v1/tokens",
            "/v1/devices",
            "/v1/me",
            "/v1/gateways",
            "/v1/openapi.json",
            "/v1/docs",
            "/.well-known/jwks.json",
        ),
        needs=("accounts", "clock"),
        uses=("appends", "cache"),
    ),
    OnHttp(target="chats", file="chats", paths=("/v1/chats",), needs=("chats", "public_keys", "clock"), uses=("accounts", "cache")),
)

_FILES: Final = {trigger.target: trigger.file for trigger in TRIGGERS}


def __getattr__(name: str) -> Any:
    """The target of that name: its file is imported when somebody asks for it, as functions-framework does after it has run this module."""
    if name not in _FILES:
        raise AttributeError(name)
    return getattr(import_module(f"functions.{_FILES[name]}"), name)
