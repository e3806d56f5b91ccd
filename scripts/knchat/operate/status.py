"""`kn-chat status`: what is on the cluster, whether it is ready, which revisions serve, and how far
behind the functions are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from knchat import exits
from knchat.command import command
from knchat.operate import kubectl as cluster
from knchat.operate.installed import Installed, look
from knchat.operate.kafka_view import KafkaView
from knchat.operate.kubectl import Kubectl, Object, at, ref, wave
from knchat.operate.needed_secrets import pod_of
from knchat.operate.waves import Waiting, has_rule, say, waits_for
from schemas.errors import ChatError
from schemas.ids import time_text

_EXAMPLES: Final = """\
examples:
  kn-chat status                               the cluster of your kubeconfig
  kn-chat status --json | jq '.objects[] | select(.ready == false)'
  KNCHAT_KAFKA=broker:9092 kn-chat status      with lag and dead letters

READY is `-` for kinds that do not become ready, like a ConfigMap. The exit code is 0 when
everything else is, or 1. What is wrong and what to do: kn-chat doctor."""


@command(_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="for programs")
@cluster.options
def run(as_json: bool, kubectl: Kubectl) -> int:
    """Objects, revisions, gateways, lag and dead letters."""
    context = kubectl.context()
    found = look(kubectl)
    if not found.things:
        raise exits.Ended(f"nothing of kn-chat is on the cluster {context}: kn-chat deploy OVERLAY")
    rows = [_row(thing) for thing in found.things]
    told: dict[str, Any] = {
        "cluster": context,
        "objects": rows,
        "functions": _functions(found),
        "pods": _pods(found),
        "kafka": _kafka(),
    }
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        _show(told)
    return exits.FAILED if any(row["waits_for"] for row in rows) else exits.OK


def is_ready(pod: Object) -> bool:
    """Whether a pod takes part."""
    return any(
        entry.get("type") == "Ready" and entry.get("status") == "True"
        for entry in at(pod, "status", "conditions") or ()
    )


def _row(thing: Object) -> dict[str, Any]:
    reason: Waiting | None = waits_for(thing)
    ready = None if reason is None and not has_rule(thing) else reason is None
    return {
        "wave": wave(thing),
        "object": str(ref(thing)),
        "ready": ready,
        "waits_for": "" if reason is None else str(reason),
    }


def _functions(found: Installed) -> list[dict[str, Any]]:
    images = {
        thing["metadata"]["name"]: at(thing, "spec", "containers", 0, "image") or ""
        for thing in found.revisions
    }
    return [
        {
            "function": thing["metadata"]["name"],
            "revision": entry.get("revisionName", ""),
            "percent": entry.get("percent") or 0,
            "image": images.get(entry.get("revisionName", ""), "")
            or at(pod_of(thing), "containers", 0, "image")
            or "",
        }
        for thing in found.of_kind("Function")
        for entry in at(thing, "status", "traffic")
        or [{"revisionName": at(thing, "status", "latestReadyRevisionName") or "", "percent": 100}]
    ]


def _pods(found: Installed) -> list[dict[str, Any]]:
    return [
        {
            "pod": pod["metadata"]["name"],
            "ready": is_ready(pod),
            "phase": at(pod, "status", "phase") or "",
            "restarts": sum(
                entry.get("restartCount", 0)
                for entry in at(pod, "status", "containerStatuses") or ()
            ),
            "node": at(pod, "spec", "nodeName") or "",
        }
        for pod in found.pods
    ]


def _kafka() -> dict[str, Any]:
    kafka = KafkaView.of_environment()
    if kafka is None:
        return {"unknown": "KNCHAT_KAFKA says no brokers: lag and dead letters are not shown"}
    try:
        behind, letters = kafka.behind(), kafka.letters()
    except ChatError as error:
        return {"unknown": exits.line_of(error)}
    return {
        "behind": [
            {"group": row.group, "topic": row.topic, "records": row.records} for row in behind
        ],
        "dead_letters": letters.kept,
        "newest": time_text(letters.newest_at_ms) if letters.newest_at_ms else "",
    }


def _show(told: dict[str, Any]) -> None:
    print(f"cluster {told['cluster']}\n")
    _table(
        ("WAVE", "OBJECT", "READY"),
        [(row["wave"], row["object"], row["waits_for"] or row["ready"]) for row in told["objects"]],
    )
    _table(
        ("FUNCTION", "REVISION", "CALLS", "IMAGE"),
        [tuple(row.values()) for row in told["functions"]],
    )
    _table(
        ("POD", "READY", "PHASE", "RESTARTS", "NODE"), [tuple(row.values()) for row in told["pods"]]
    )
    kafka = told["kafka"]
    if "unknown" in kafka:
        say(kafka["unknown"])
        return
    _table(("GROUP", "TOPIC", "BEHIND"), [tuple(row.values()) for row in kafka["behind"]])
    print(
        f"{kafka['dead_letters']} dead letters"
        + (f", the newest of {kafka['newest']}" if kafka["newest"] else "")
    )
    if kafka["dead_letters"]:
        print("`kn-chat dead-letters list` shows them", file=sys.stderr)


def _cell(value: Any) -> str:
    """`-`: there is nothing to know."""
    return (
        {True: "yes", False: "no", None: "-"}[value]
        if value is None or isinstance(value, bool)
        else str(value)
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    if not rows:
        return
    texts = [
        heads,
        *([_cell(cell) for cell in row] for row in rows),
    ]
    widths = [max(len(row[column]) for row in texts) for column in range(len(heads))]
    for row in texts:
        print(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )
    print()
