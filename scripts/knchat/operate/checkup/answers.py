"""Checks of what only a request can tell: `/readyz`, clocks, and Kafka itself.

`ask_*` ask, the checks judge.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from knchat.operate.checkup import Answer, Check, Clock, Finding, Seen
from knchat.operate.checkup.workloads import OF_SCHEMA
from knchat.operate.kubectl import Kubectl
from schemas.errors import Unavailable

if TYPE_CHECKING:
    import httpx

ANSWER_TIMEOUT_S: Final = 5.0
"""`/readyz` answers within 2 s."""
SKEW_S: Final = 1.0
"""A process whose clock is further from the database's mints no ids (design.md D3)."""
FRESH_MS: Final = 10 * 60_000
"""A dead letter that is younger is news."""
# Servers write whole seconds, and uvicorn writes the same one for up to a second longer.
_DATE_S: Final = 2.0


def ask_ready(urls: Sequence[str]) -> tuple[list[Answer], list[Clock]]:
    """Asks `/readyz` of each, and sets its clock beside ours."""
    import httpx  # noqa: PLC0415 - `--help` does without

    answers, clocks = [], []
    with httpx.Client(timeout=ANSWER_TIMEOUT_S) as client:
        for url in urls:
            parts = urlsplit(url)
            scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
            base = f"{scheme}://{parts.netloc}"
            before = time.time()
            try:
                response = client.get(f"{base}/readyz")
            except httpx.HTTPError as error:
                answers.append(Answer(base, 0, f"{error or type(error).__name__}"))
                continue
            answers.append(Answer(base, response.status_code, _message(response)))
            if (date := response.headers.get("date")) and (
                clock := _clock(base, date, before, time.time())
            ):
                clocks.append(clock)
    return answers, clocks


def ask_cluster_clock(kubectl: Kubectl) -> list[Clock]:
    """The API server's clock beside ours; empty where kubectl does not tell its
    answer's headers.
    """
    before = time.time()
    try:
        _, told = kubectl.run_both("get", "--raw", "/version", "-v=8")
    except Unavailable:
        return []
    date = re.search(r"Date: (\w{3}, \d{2} \w{3} \d{4} [\d:]{8} GMT)", told)
    clock = _clock("the API server", date[1], before, time.time()) if date else None
    return [clock] if clock else []


def store_unavailable(seen: Seen) -> Iterator[Finding]:
    """Processes that lack what they need."""
    for answer in seen.answers or ():
        if answer.status == 0:
            yield Finding(
                answer.url,
                f"does not answer ({answer.text})",
                "is the URL right, does the process run, and may we reach it?",
            )
        elif answer.status == 404:
            yield Finding(
                answer.url,
                "has no /readyz",
                "name a process itself: kubectl port-forward leads to it",
            )
        elif answer.status != 200 and not OF_SCHEMA.search(answer.text):
            yield Finding(
                answer.url,
                f"is {answer.text or answer.status}",
                "see that what it names runs and is reachable from there, and the settings that "
                "lead to it",
            )


def clock(seen: Seen) -> Iterator[Finding]:
    """Clocks that are over a second from ours."""
    for entry in seen.clocks:
        if abs(entry.ahead_s) > SKEW_S:
            how = "ahead of" if entry.ahead_s > 0 else "behind"
            yield Finding(
                entry.where,
                f"has a clock at least {abs(entry.ahead_s):.1f} s {how} this machine's",
                "let both follow time servers (chronyc tracking, timedatectl); gateways over 1 s "
                "off answer `unavailable`",
            )


def topics_in_kafka(seen: Seen) -> Iterator[Finding]:
    """What Kafka itself has otherwise than it ought to be."""
    for sentence in seen.topics or ():
        what, _, do = sentence.partition(": ")
        where, _, wrong = what.partition(" ")
        yield Finding(where, wrong, do or "kn-chat topics check says more")


def dead_letters(seen: Seen) -> Iterator[Finding]:
    """Dead letters that came lately."""
    letters = seen.letters
    if (
        letters is not None
        and letters.newest_at_ms
        and seen.now_ms - letters.newest_at_ms < FRESH_MS
    ):
        ago = max(0, seen.now_ms - letters.newest_at_ms) // 1000
        yield Finding(
            "chat-dead-letters",
            f"grows: the newest of {letters.kept} came {ago} s ago",
            "kn-chat dead-letters list says which function refused what; kn-chat dead-letters "
            "redrive tries again",
        )


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text.strip()[:200]


def _clock(where: str, date: str, before: float, after: float) -> Clock | None:
    """The least that the clocks differ by, whatever the way took and however old the date is within
    its granularity.
    """
    try:
        told = email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
    if told > after:
        return Clock(where, told - after)
    if told + _DATE_S < before:
        return Clock(where, told + _DATE_S - before)
    return Clock(where, 0.0)


CHECKS: Final = (
    Check(
        "store-unavailable",
        "gateways and functions have what they need",
        store_unavailable,
        "readyz",
    ),
    Check("clock", "no clock is over a second from this machine's", clock),
    Check("topics-in-kafka", "Kafka has the topics as they ought to be", topics_in_kafka, "kafka"),
    Check("dead-letters", "no dead letter came in the last 10 minutes", dead_letters, "kafka"),
)
"""In the order in which they are shown."""
