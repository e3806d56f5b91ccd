"""`kn-chat deploy`: brings an overlay to a cluster, wave by wave, and says what it waits for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import click

from knchat import exits
from knchat.command import Callback, command, declared
from knchat.operate import kubectl as cluster
from knchat.operate import needed_secrets
from knchat.operate.kubectl import Failed, Kubectl, Object, Ref, at, ref, wave
from knchat.operate.waves import WHAT, await_all, await_gone, condition, holds_up, say

TIMEOUT_S: Final = 600

_EXAMPLES: Final = """\
examples:
  kn-chat deploy knative/overlays/dev                the cluster of your kubeconfig
  kn-chat deploy my/overlay --context prod --dry-run what would change; the API server checks
                                                     everything, nothing is kept
  kn-chat deploy my/overlay --timeout 1200           be patient with a slow cluster

An overlay is a folder that `kubectl kustomize` reads; copy one of knative/overlays and make it
yours: all configuration is there. Any number of runs have the effect of one, and one that was
interrupted goes on where it stood. Secrets that are missing stop it before anything is changed,
with the commands that make them. A new version: kn-chat upgrade. As a plugin of kn: kn chat deploy
..."""


@dataclass(frozen=True, slots=True)
class Release:
    """An overlay on its way to a cluster. `deadline`: monotonic."""

    kubectl: Kubectl
    things: list[Object]
    deadline: float
    force: bool


def release_options(act: Callback) -> Callback:
    """What `deploy` and `upgrade` share."""
    return declared(
        act,
        click.argument("folder", metavar="OVERLAY", help="the folder of the overlay"),
        click.option(
            "--timeout",
            type=click.IntRange(min=1),
            default=TIMEOUT_S,
            metavar="S",
            help=f"how long to wait in all (default {TIMEOUT_S})",
        ),
        click.option(
            "--dry-run",
            is_flag=True,
            help="let the API server check everything, say what would change, and keep nothing",
        ),
        click.option(
            "--force-conflicts", is_flag=True, help="take over fields that another tool has set"
        ),
        cluster.options,
    )


@command(_EXAMPLES)
@release_options
def run(folder: str, timeout: int, dry_run: bool, force_conflicts: bool, kubectl: Kubectl) -> int:
    """Applies an overlay in the right order, and waits until everything is ready."""
    release = prepare(kubectl, folder, timeout_s=timeout, force=force_conflicts)
    if dry_run:
        return show_changes(release)
    for number, things in waves_of(release.things):
        take(release, number, things)
    finish(release)
    say("everything is ready; `kn-chat status` shows it, `kn-chat doctor` looks closer")
    return exits.OK


def prepare(kubectl: Kubectl, folder: str, *, timeout_s: int, force: bool) -> Release:
    """The overlay, after the checks that come before any change: the cluster answers and knows all
    kinds, and the Secrets are there.
    """
    say(f"cluster: {kubectl.context()}")
    things = kubectl.render(folder)
    kubectl.live(things)
    _refuse_without_namespaces(kubectl, things)
    needed_secrets.refuse_without(kubectl, things)
    return Release(kubectl, things, time.monotonic() + timeout_s, force)


def _refuse_without_namespaces(kubectl: Kubectl, things: Sequence[Object]) -> None:
    brought = {thing["metadata"]["name"] for thing in things if thing["kind"] == "Namespace"}
    used = {space for thing in things if (space := at(thing, "metadata", "namespace"))}
    there = set(kubectl.run("get", "namespaces", "-o", "name").split())
    if absent := sorted(space for space in used - brought if f"namespace/{space}" not in there):
        raise exits.Ended(
            f"nothing was changed: the namespace {', '.join(absent)} is not there, and the overlay "
            "puts objects of ours in it. "
            "It comes with what runs there (Strimzi's Kafka, Knative's ingress); the stack "
            "terraform/platform brings both"
        )


def waves_of(things: Sequence[Object]) -> list[tuple[int, list[Object]]]:
    """The objects by their wave, in order."""
    return [
        (number, list(members)) for number, members in groupby(sorted(things, key=wave), key=wave)
    ]


def take(release: Release, number: int, things: Sequence[Object]) -> None:
    """Applies these objects of a wave, says what that changed, and waits until they are Ready."""
    say(f"wave {number}, {WHAT.get(number, 'more')}: {len(things)} objects")
    apply(release, things)
    await_all(release.kubectl, things, deadline=release.deadline, question=holds_up)


def apply(release: Release, things: Sequence[Object]) -> None:
    """Applies them, and says what that changed."""
    _make_room(release, things)
    before = release.kubectl.live(things)
    after = release.kubectl.apply(
        things, force=release.force, within_s=release.deadline - time.monotonic()
    )
    say_changes(before, after)


def finish(release: Release) -> None:
    """Waits for what becomes Ready only after everything else: bindings, whose subject comes after
    them.
    """
    await_all(
        release.kubectl,
        [thing for thing in release.things if thing["kind"] == "SinkBinding"],
        deadline=release.deadline,
    )


def show_changes(release: Release) -> int:
    """For --dry-run: what an apply now would change."""
    release_things = [
        thing for thing in release.things if not _is_replaced(release, thing, say_so=True)
    ]
    before = release.kubectl.live(release_things)
    say_changes(before, release.kubectl.apply(release_things, dry_run=True, force=release.force))
    say("nothing was changed: this was a dry run")
    return exits.OK


def say_changes(before: dict[Ref, Object], after: Sequence[Object]) -> None:
    """A line for each object that is new or another than before, and one for all the others."""
    same = 0
    for thing in after:
        was = before.get(ref(thing))
        if was is None:
            say(f"  {ref(thing)} made")
        elif _content(was) != _content(thing):
            say(f"  {ref(thing)} changed")
        else:
            same += 1
    if same:
        say(f"  {same} as they were")


def _content(thing: Object) -> Object:
    """What was applied, without the fields that the cluster keeps count of."""
    counted = {"resourceVersion", "generation", "managedFields", "creationTimestamp", "uid"}
    metadata = {name: value for name, value in thing["metadata"].items() if name not in counted}
    return {
        **{name: value for name, value in thing.items() if name != "status"},
        "metadata": metadata,
    }


def _make_room(release: Release, things: Sequence[Object]) -> None:
    """A Job cannot be changed: one that differs, or has failed, is deleted and made again."""
    old = [thing for thing in things if _is_replaced(release, thing)]
    if old:
        say(f"  {', '.join(str(ref(thing)) for thing in old)} is deleted and made again")
        release.kubectl.delete(old)
        await_gone(release.kubectl, old, deadline=release.deadline)


def _is_replaced(release: Release, thing: Object, *, say_so: bool = False) -> bool:
    if thing["kind"] != "Job":
        return False
    live = release.kubectl.live([thing]).get(ref(thing))
    replaced = live is not None and (
        at(live, "metadata", "deletionTimestamp") is not None
        or _has_failed(live)
        or _differs(release, thing)
    )
    if replaced and say_so:
        say(f"  {ref(thing)} would be deleted and made again")
    return replaced


def _has_failed(job: Object) -> bool:
    return condition(job, "Failed").get("status") == "True"


def _differs(release: Release, job: Object) -> bool:
    try:
        release.kubectl.apply([job], dry_run=True, force=True)
    except Failed as error:
        if "field is immutable" in error.text:
            return True
        raise
    return False
