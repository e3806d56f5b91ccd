"""`kn-chat remove`: takes everything of ours off a cluster, in the reverse order, and waits until
it is gone.
"""

from __future__ import annotations

import sys
import time
from typing import Final

import click

from knchat import exits
from knchat.command import command
from knchat.operate import kubectl as cluster
from knchat.operate.deploy import waves_of
from knchat.operate.installed import objects
from knchat.operate.kubectl import Kubectl, Object
from knchat.operate.waves import WHAT, await_gone, say

TIMEOUT_S: Final = 300

_EXAMPLES: Final = """\
examples:
  kn-chat remove                       asks first
  kn-chat remove --keep-topics         the topics and their records stay
  kn-chat remove --yes --context test  for scripts

Topics hold data: messages that are not in the history yet, and what clients resume from. With a
KafkaSource Knative deletes its consumer group, so after `--keep-topics` and a new deploy the
functions begin with the oldest record that is kept (chat-messages: 7 days). Nothing is told or
stored twice by that, but new messages reach the history only when the old ones are through: kn-chat
status. History and accounts lie in your stores and are not touched; but the namespace goes, and
with it its Secrets, and stores that an overlay put there."""


@command(_EXAMPLES)
@click.option("--keep-topics", is_flag=True, help="leave the topics, and what they hold")
@click.option("--yes", is_flag=True, help="do not ask")
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=TIMEOUT_S,
    metavar="S",
    help=f"how long to wait in all (default {TIMEOUT_S})",
)
@cluster.options
def run(keep_topics: bool, yes: bool, timeout: int, kubectl: Kubectl) -> int:
    """Deletes what `deploy` made, sources first and topics last, and waits until it is gone."""
    context = kubectl.context()
    found = objects(kubectl)
    things = [thing for thing in found if thing["kind"] != "KafkaTopic" or not keep_topics]
    # A namespace goes with all that is in it, topics too.
    kept = {thing["metadata"]["namespace"] for thing in found if thing not in things}
    things = [
        thing
        for thing in things
        if thing["kind"] != "Namespace" or thing["metadata"]["name"] not in kept
    ]
    if not things:
        say(f"nothing of kn-chat is on the cluster {context}")
        return exits.OK
    if not yes:
        _ask(context, things, keeps_topics=keep_topics)
    deadline = time.monotonic() + timeout
    for number, members in reversed(waves_of(things)):
        say(f"wave {number}, {WHAT.get(number, 'more')}: {len(members)} objects go")
        # Namespaces after what lies in them: else a controller's finalizer would find its own
        # object's Secret gone.
        for part in (
            [thing for thing in members if thing["kind"] != "Namespace"],
            [thing for thing in members if thing["kind"] == "Namespace"],
        ):
            kubectl.delete(part)
            await_gone(kubectl, part, deadline=deadline)
    say("everything is gone" + (", but the topics" if keep_topics else ""))
    return exits.OK


def _ask(context: str, things: list[Object], *, keeps_topics: bool) -> None:
    topics = [thing["metadata"]["name"] for thing in things if thing["kind"] == "KafkaTopic"]
    spaces = [thing["metadata"]["name"] for thing in things if thing["kind"] == "Namespace"]
    say(f"cluster: {context}\n{len(things)} objects would be deleted.")
    if topics:
        say(
            f"Among them {len(topics)} topics WITH ALL THAT THEY HOLD: {', '.join(topics)} "
            "(--keep-topics leaves them)"
        )
    sources = [thing["metadata"]["name"] for thing in things if thing["kind"] == "KafkaSource"]
    if sources and keeps_topics:
        say(
            f"With the {len(sources)} KafkaSources their consumer groups go: a new deploy goes "
            "through all that the topics hold once more. "
            "That does no harm, and new messages are late in the history until it is through."
        )
    if spaces:
        say(f"The namespace {', '.join(spaces)} goes with all that is in it, Secrets too.")
    if not sys.stdin.isatty():
        raise exits.Ended("stdin is no terminal, so it cannot ask; say --yes", exits.USAGE)
    print("Delete them? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise exits.Ended("nothing was deleted")
