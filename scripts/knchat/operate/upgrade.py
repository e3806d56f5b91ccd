"""`kn-chat upgrade`: a new version on a running installation: migrations, then each function by a
canary, then gateways one at a time.

A function that fails goes back to its old revision at once, and so do those that were moved before
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import click

from knchat import exits
from knchat.command import command
from knchat.operate.deploy import (
    Release,
    apply,
    finish,
    prepare,
    release_options,
    show_changes,
    take,
    waves_of,
)
from knchat.operate.kafka_view import KafkaView
from knchat.operate.kubectl import Kubectl, Object, at, poll, ref, wave
from knchat.operate.waves import Waiting, await_all, condition, is_function, say, waits_for
from schemas.errors import ChatError, Unavailable

CANARY: Final = 10
HOLD_S: Final = 30
_POLL_INTERVAL_S: Final = 3.0

_EXAMPLES: Final = """\
examples:
  kn-chat upgrade my/overlay                       10 % of each function's calls for 30 s, then all;
                                                   gateways after that
  kn-chat upgrade my/overlay --canary 50 --hold 300
  kn-chat upgrade my/overlay --canary 0            no canary: a new revision serves when it is ready
  kn-chat upgrade my/overlay --dry-run             what would change

Set the new version in the overlay's `images` first. A function whose new revision does not become
ready, or while whose canary dead letters grow (seen where KNCHAT_KAFKA leads to Kafka), goes back
to the old one, and the upgrade ends. Functions and gateways of two versions in a row work together;
so the order may stop anywhere. Gateways restart one at a time, and each hands its clients over."""


class _Bad(Exception):
    """A canary did not do well."""


@dataclass(slots=True)
class Move:
    """A function on its way from one revision to another."""

    service: Object
    """As the overlay wants it."""
    old: str
    """The revision that serves now."""


@dataclass(slots=True)
class Canary:
    """How new revisions are tried."""

    percent: int
    hold_s: int
    kafka: KafkaView | None
    moved: list[Move] = field(default_factory=list)


@command(_EXAMPLES)
@click.option(
    "--canary",
    type=click.IntRange(0, 99),
    default=CANARY,
    metavar="P",
    help=f"per cent for a new revision at first (default {CANARY})",
)
@click.option(
    "--hold",
    type=click.IntRange(min=0),
    default=HOLD_S,
    metavar="S",
    help=f"how long a canary is watched (default {HOLD_S})",
)
@release_options
def run(
    folder: str,
    canary: int,
    hold: int,
    timeout: int,
    dry_run: bool,
    force_conflicts: bool,
    kubectl: Kubectl,
) -> int:
    """Migrates the stores, moves the functions by canaries, and restarts the gateways one at a
    time.
    """
    release = prepare(kubectl, folder, timeout_s=timeout, force=force_conflicts)
    functions = [thing for thing in release.things if is_function(thing)]
    gateways = [
        thing for thing in release.things if thing["kind"] == "StatefulSet" and wave(thing) == 4
    ]
    live = release.kubectl.live(functions)
    if not live:
        raise exits.Ended("nothing is there to upgrade: kn-chat deploy")
    if dry_run:
        return show_changes(release)
    trial = Canary(canary, hold, KafkaView.of_environment())
    if trial.kafka is None and trial.percent:
        say("dead letters are not watched: KNCHAT_KAFKA says no brokers")
    for number, things in waves_of(release.things):
        if number != 4:
            take(release, number, things)
            continue
        apart = [ref(thing) for thing in (*functions, *gateways)]
        take(release, number, [thing for thing in things if ref(thing) not in apart])
        for function in functions:
            _move(release, trial, function, live.get(ref(function)))
        for gateway in gateways:
            _restart(release, gateway)
    finish(release)
    say("everything is upgraded and ready")
    return exits.OK


def _move(release: Release, canary: Canary, function: Object, live: Object | None) -> None:
    name = ref(function)
    old = None if live is None else serving(live)
    if live is None or old is None or not _is_new(release, function, live):
        say(f"{name}: no new revision")
        apply(release, [function])
        await_all(release.kubectl, [function], deadline=release.deadline)
        return
    move = Move(function, old)
    canary.moved.append(move)
    try:
        say(f"{name}: {canary.percent} % to the new revision, {100 - canary.percent} % to {old}")
        apply(release, [_split(move, canary.percent)])
        await_all(
            release.kubectl, [function], deadline=release.deadline, question=_new_revision(old)
        )
        if canary.percent:
            _watch(canary, lambda: release.kubectl.live([function])[name], old)
        say(f"{name}: all to the new revision")
        apply(release, [function])
        await_all(release.kubectl, [function], deadline=release.deadline)
    except (_Bad, exits.Ended, Unavailable, KeyboardInterrupt) as error:
        _roll_back(release, canary)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise exits.Ended(
            f"rolled back: {name} did not do well.\n{error}\nSet it right, and upgrade again.",
            exits.FAILED,
        ) from error


def serving(live: Object) -> str | None:
    """The revision that most of a function's calls go to."""
    shares = [
        (
            entry.get("percent") or 0,
            entry.get("revisionName") or at(live, "status", "latestReadyRevisionName"),
        )
        for entry in at(live, "status", "traffic") or ()
    ]
    name: str | None = max(shares)[1] if shares else at(live, "status", "latestReadyRevisionName")
    return name


def _is_new(release: Release, function: Object, live: Object) -> bool:
    """Whether the overlay asks for another template than the one that is there, as the server would
    keep it.
    """
    (wanted,) = release.kubectl.apply([function], dry_run=True, force=release.force)
    return bool(at(wanted, "spec", "template") != at(live, "spec", "template"))


def _split(move: Move, percent: int) -> Object:
    shares = [
        {"latestRevision": False, "revisionName": move.old, "percent": 100 - percent},
        {"latestRevision": True, "percent": percent},
    ]
    return {**move.service, "spec": {**move.service["spec"], "traffic": shares}}


def _new_revision(old: str) -> Callable[[Object | None], Waiting | None]:
    """A question for `await_all`: whether a newer revision than `old` is Ready."""

    def question(live: Object | None) -> Waiting | None:
        reason = waits_for(live)
        if live is None or (reason is not None and reason.condition == "its controller"):
            return reason
        made = at(live, "status", "latestCreatedRevisionName")
        failed = condition(live, "ConfigurationsReady")
        if failed.get("status") == "False":
            return Waiting(
                f"revision {made}",
                f"{failed.get('reason', '')}, {failed.get('message', '')}",
                hopeless=True,
            )
        if made in {None, old} or made != at(live, "status", "latestReadyRevisionName"):
            return Waiting(
                "a new revision" if made in {None, old} else f"revision {made}",
                reason.why if reason else "",
            )
        return reason

    return question


def _watch(canary: Canary, look: Callable[[], Object], old: str) -> None:
    """Returns after --hold, in which nothing bad was seen. Raises _Bad otherwise."""
    before = _letters(canary.kafka)
    say(f"  watched for {canary.hold_s} s")

    def bad() -> bool:
        if reason := _new_revision(old)(look()):
            raise _Bad(f"the new revision was Ready, and is no more: {reason}")
        now = _letters(canary.kafka)
        if before is not None and now is not None and now > before:
            raise _Bad(
                f"{now - before} dead letters came meanwhile: `kn-chat dead-letters list` shows "
                "them"
            )
        return False

    poll(
        bad, deadline=time.monotonic() + canary.hold_s, every_s=min(_POLL_INTERVAL_S, canary.hold_s)
    )


def _letters(kafka: KafkaView | None) -> int | None:
    try:
        return None if kafka is None else kafka.letters().ever
    except ChatError as error:
        say(f"  dead letters cannot be read: {error.message}")
        return None


def _roll_back(release: Release, canary: Canary) -> None:
    """All that were moved serve their old revision again: pinned, until the next upgrade moves
    them.
    """
    back = [_split(move, 0) for move in canary.moved]
    for move, service in zip(canary.moved, back, strict=True):
        say(f"{ref(move.service)}: back to {move.old}")
        service["spec"]["traffic"] = service["spec"]["traffic"][:1]
    release.kubectl.apply(back, force=True)


def _restart(release: Release, gateway: Object) -> None:
    say(f"{ref(gateway)}: one pod at a time, the last first")
    apply(release, [gateway])
    await_all(release.kubectl, [gateway], deadline=release.deadline, question=_rolling)


def _rolling(live: Object | None) -> Waiting | None:
    reason = waits_for(live)
    if live is None or reason is None:
        return reason
    status: dict[str, Any] = live.get("status", {})
    wanted, new = at(live, "spec", "replicas") or 1, status.get("updatedReplicas") or 0
    if 0 < new < wanted:
        name = live["metadata"]["name"]
        return Waiting(
            "its pods",
            f"{new} of {wanted} are new; {name}-{wanted - new - 1} is next, "
            f"{status.get('readyReplicas') or 0} ready",
        )
    return reason
