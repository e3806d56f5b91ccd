"""`kn-chat doctor`: looks for known mistakes on a cluster, in Kafka and in what runs, and says what
to do about each.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import click

from knchat import exits
from knchat.command import command
from knchat.operate import kubectl as cluster
from knchat.operate import needed_secrets
from knchat.operate.checkup import Check, Finding, Seen, answers, topics_and_sources, workloads
from knchat.operate.installed import look
from knchat.operate.kafka_view import KafkaView
from knchat.operate.kubectl import Kubectl
from knchat.operate.waves import KINDS
from schemas.errors import ChatError

CHECKS: Final[tuple[Check, ...]] = (*topics_and_sources.CHECKS, *workloads.CHECKS, *answers.CHECKS)
"""All checks, in the order in which they are shown."""

_EXAMPLES: Final = """\
examples:
  kn-chat doctor                               the cluster of your kubeconfig
  kn-chat doctor --gateway https://gw-0.chat.example --gateway https://gw-1.chat.example
  KNCHAT_KAFKA=broker:9092 kn-chat doctor      the topics themselves and dead letters too
  kn-chat doctor --json | jq '.checks[] | select(.findings != [])'

--http and --gateway are base URLs of processes: their /readyz says what they lack, and the date of
the answer whether their clock is right. What stands inside the cluster is reached by `kubectl -n
chat port-forward pod/gateway-0 8081`. Nothing is changed and no Secret's value is shown. The exit
code is 0 when all is well, 6 when something was found, 5 when the cluster does not answer. Each
finding has its page in docs/operations/runbook.md."""


@command(_EXAMPLES)
@click.option(
    "--http",
    multiple=True,
    metavar="URL",
    help="a function's process, for its /readyz; may be repeated",
)
@click.option(
    "--gateway", multiple=True, metavar="URL", help="a gateway, for its /readyz; may be repeated"
)
@click.option("--json", "as_json", is_flag=True, help="for programs")
@cluster.options
def run(http: tuple[str, ...], gateway: tuple[str, ...], as_json: bool, kubectl: Kubectl) -> int:
    """Compares what is on the cluster with what the code needs."""
    for url in (*http, *gateway):
        if not url.startswith(("http://", "https://", "ws://", "wss://")):
            raise exits.Ended(
                f"{url} is no URL: http://HOST:PORT, https://, ws:// or wss://", exits.USAGE
            )
    context = kubectl.context()
    seen = _see(kubectl, [*http, *gateway], context)
    found = {check: list(check.look(seen)) for check in CHECKS}
    (_print_json if as_json else _print)(context, seen, found)
    return exits.UNWELL if any(found.values()) else exits.OK


def _see(kubectl: Kubectl, urls: list[str], context: str) -> Seen:
    installed = look(kubectl)
    if not installed.things:
        raise exits.Ended(f"nothing of kn-chat is on the cluster {context}: kn-chat deploy OVERLAY")
    known = kubectl.known(KINDS)
    unasked = {}
    if not urls:
        unasked["readyz"] = "not asked: no --http, no --gateway"
    replies, clocks = answers.ask_ready(urls)
    first = Seen(installed)
    topics, letters, unasked["kafka"] = _ask_kafka(first)
    return Seen(
        installed,
        unknown_kinds=[kind for kind in KINDS if kind not in known],
        lacking=needed_secrets.missing(kubectl, installed.things),
        clocks=[*answers.ask_cluster_clock(kubectl), *clocks],
        answers=replies if urls else None,
        topics=topics,
        letters=letters,
        now_ms=int(time.time() * 1000),
        unasked={part: why for part, why in unasked.items() if why},
    )


def _ask_kafka(seen: Seen) -> tuple[Any, Any, str]:
    kafka = KafkaView.of_environment()
    if kafka is None:
        return None, None, "not asked: KNCHAT_KAFKA says no brokers"
    wanted = {
        "replication": seen.number("KNCHAT_KAFKA_REPLICATION", 3),
        "delivery_partitions": topics_and_sources.delivery_partitions(seen),
    }
    topics, away = _or_away(lambda: kafka.wrong_topics(**wanted))
    if away:
        return (
            [
                (
                    f"Kafka cannot be asked ({away}): is KNCHAT_KAFKA of this machine right, and "
                    "is that address reachable from here?"
                )
            ],
            None,
            "",
        )
    # Without its topic there are none, and the check above has said so.
    letters, _ = _or_away(kafka.letters)
    return topics, letters, ""


def _or_away(question: Callable[[], Any]) -> tuple[Any, str]:
    try:
        return question(), ""
    except ChatError as error:
        return None, exits.line_of(error)


def _print(context: str, seen: Seen, found: dict[Check, list[Finding]]) -> None:
    print(f"cluster {context}\n")
    for check, findings in found.items():
        if check.asks in seen.unasked and not findings:
            print(f"-    {check.name:<20} {seen.unasked[check.asks]}")
        elif not findings:
            print(f"ok   {check.name:<20} {check.well}")
        for finding in findings:
            print(f"BAD  {check.name:<20} {finding}")
        if findings:
            print(f"     {'':<20} more: {check.runbook}")
    count = sum(map(len, found.values()))
    print(f"\n{count} to set right" if count else "\nall is well", file=sys.stderr)


def _print_json(context: str, seen: Seen, found: dict[Check, list[Finding]]) -> None:
    told = [
        {
            "name": check.name,
            "asked": check.asks not in seen.unasked,
            "findings": [
                {"where": finding.where, "wrong": finding.wrong, "do": finding.do}
                for finding in findings
            ],
            "runbook": check.runbook,
        }
        for check, findings in found.items()
    ]
    print(
        json.dumps({"cluster": context, "well": not any(found.values()), "checks": told}, indent=2)
    )
