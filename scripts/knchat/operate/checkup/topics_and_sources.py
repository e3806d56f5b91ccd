"""Checks of topics, sinks, binding and sources, as the API server has them, against TRIGGERS and
the topics that the code knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from functions.triggers import TRIGGERS, OnEvents
from knchat.operate.checkup import Check, Finding, Seen, named
from knchat.operate.kubectl import INSTALLED_BY, Object, at
from knchat.operate.needed_secrets import containers_of, pod_of
from knchat.operate.waves import waits_for
from schemas import topics

SINKS: Final = {
    "commands": topics.COMMANDS,
    "queries": topics.QUERIES,
    "dead-letters": topics.DEAD_LETTERS,
}
"""KafkaSink -> its topic."""
TIMEOUT: Final = "PT15S"
"""Functions stop themselves after 10 s (design.md D11): a dispatcher that gives up sooner would try
in vain what still runs.
"""
_BY_DELIVERIES: Final = frozenset({topics.DELIVERIES, topics.SESSION_DELIVERIES})


def definitions(seen: Seen) -> Iterator[Finding]:
    """Kinds that the cluster does not know."""
    for kind in seen.unknown_kinds:
        group = kind.partition(".")[2]
        yield Finding(
            kind,
            "is unknown to the cluster",
            f"install {INSTALLED_BY.get(group, group)}; the stack terraform/platform does",
        )


def topic_missing(seen: Seen) -> Iterator[Finding]:
    """Topics without a KafkaTopic."""
    there = _topics(seen)
    for name in topics.TOPICS:
        if name not in there:
            yield Finding(
                f"topic {name}",
                "has no KafkaTopic",
                "kn-chat deploy your overlay; it has one for each topic",
            )


def topic_partitions(seen: Seen) -> Iterator[Finding]:
    """KafkaTopics with another number of partitions than the code counts on."""
    for name, thing in _topics(seen).items():
        if name not in topics.TOPICS:
            continue
        wanted = (
            delivery_partitions(seen) if name in _BY_DELIVERIES else topics.TOPICS[name].partitions
        )
        count = at(thing, "spec", "partitions")
        if name in _BY_DELIVERIES and count != wanted:
            yield Finding(
                named(thing),
                f"has {count} partitions, and KNCHAT_DELIVERY_PARTITIONS is {wanted}",
                "set them alike, to what Kafka has: gateways refuse to serve otherwise. "
                f"{topics.DELIVERIES} and "
                f"{topics.SESSION_DELIVERIES} cannot grow in place",
            )
        elif not isinstance(count, int) or count < wanted:
            yield Finding(
                named(thing),
                f"has {count} partitions, at least {wanted} are needed",
                f"set spec.partitions to {wanted}",
            )


def topic_copies(seen: Seen) -> Iterator[Finding]:
    """KafkaTopics that would lose what was acknowledged."""
    copies = seen.number("KNCHAT_KAFKA_REPLICATION", 3)
    least = max(1, copies - 1)
    for name, thing in _topics(seen).items():
        if name not in topics.TOPICS:
            continue
        if (given := at(thing, "spec", "replicas") or 0) < copies:
            yield Finding(
                named(thing),
                f"has {given} copies, KNCHAT_KAFKA_REPLICATION is {copies}",
                f"set spec.replicas to {copies}, and add copies in Kafka",
            )
        insync = at(thing, "spec", "config", "min.insync.replicas")
        if insync is None or int(insync) < least:
            yield Finding(
                named(thing),
                f"has min.insync.replicas {insync}, at least {least} is needed",
                f"set spec.config min.insync.replicas: {least}",
            )
        if str(at(thing, "spec", "config", "unclean.leader.election.enable")).lower() == "true":
            yield Finding(
                named(thing),
                "lets a copy that is behind become the leader",
                "set unclean.leader.election.enable: false",
            )


def sink_topic(seen: Seen) -> Iterator[Finding]:
    """KafkaSinks that are missing, write elsewhere, or own their topic."""
    there = {thing["metadata"]["name"]: thing for thing in seen.installed.of_kind("KafkaSink")}
    for name, topic in SINKS.items():
        if name not in there:
            yield Finding(f"KafkaSink {name}", "is missing", "kn-chat deploy your overlay")
        elif (given := at(there[name], "spec", "topic")) != topic:
            yield Finding(
                named(there[name]),
                f"writes to {given}, not to {topic}",
                "its topic cannot be changed: delete it, and kn-chat deploy",
            )
    for thing in there.values():
        owned = [
            word
            for word in ("numPartitions", "replicationFactor")
            if at(thing, "spec", word) is not None
        ]
        if owned:
            yield Finding(
                named(thing),
                f"has {' and '.join(owned)}: the topic would be deleted with it",
                "take them out; KafkaTopics own the topics. Delete a KafkaSink only after both are "
                "unset, and kn-chat deploy",
            )


def binding_missing(seen: Seen) -> Iterator[Finding]:
    """No SinkBinding for the gateways, or one that binds something else."""
    gateways = seen.gateways
    bindings = [
        thing
        for thing in seen.installed.of_kind("SinkBinding")
        if gateways is None or _binds(thing, gateways)
    ]
    if not bindings:
        yield Finding(
            "SinkBinding gateway",
            "is missing: the gateways do not know where to post commands",
            "kn-chat deploy your overlay",
        )
    if len(bindings) > 1:
        names = ", ".join(named(thing) for thing in bindings)
        yield Finding(
            names,
            "bind the same gateways, and overwrite each other",
            "delete all but the one of your overlay",
        )
    for thing in bindings:
        if (name := at(thing, "spec", "sink", "ref", "name")) != "commands":
            yield Finding(
                named(thing),
                f"leads to {name or 'no KafkaSink'}, not to commands",
                "set spec.sink.ref.name: commands",
            )


def sink_not_injected(seen: Seen) -> Iterator[Finding]:
    """Gateways whose pods would start without K_SINK."""
    gateways = seen.gateways
    if gateways is None or seen.setting("KNCHAT_LOG", "") != "knative":
        return
    for container in pod_of(gateways).get("containers") or ():
        if not any(
            entry.get("name") == "K_SINK" and entry.get("value")
            for entry in container.get("env") or ()
        ):
            yield Finding(
                f"{named(gateways)}, container {container['name']},",
                "has no K_SINK: its SinkBinding does not reach it",
                "see that Knative's eventing-webhook runs and that the SinkBinding is Ready; then "
                "kubectl -n "
                f"{gateways['metadata']['namespace']} rollout restart statefulset "
                f"{gateways['metadata']['name']}",
            )
    for pod in seen.installed.pods:
        owner = at(pod, "metadata", "ownerReferences", 0, "uid")
        if owner == at(gateways, "metadata", "uid") and not any(
            entry.get("name") == "K_SINK"
            for container in containers_of(at(pod, "spec") or {})
            for entry in container.get("env") or ()
        ):
            yield Finding(
                named(pod),
                "was made before its SinkBinding and has no K_SINK",
                "delete the pod; the next one has it",
            )


def source_missing(seen: Seen) -> Iterator[Finding]:
    """Triggers that no KafkaSource serves."""
    groups = {at(thing, "spec", "consumerGroup") for thing in _sources(seen)}
    names = {thing["metadata"]["name"] for thing in _sources(seen)}
    for trigger in _triggers():
        if trigger.group not in groups and trigger.group not in names:
            yield Finding(
                f"KafkaSource {trigger.group}",
                f"is missing: {trigger.target} gets no events of {trigger.topic}",
                "kn-chat deploy your overlay",
            )


def source_inbox(seen: Seen) -> Iterator[Finding]:
    """KafkaSources that read another topic, as another group, or call another function than
    TRIGGERS says.
    """
    for thing, trigger in _paired(seen):
        wanted: tuple[tuple[str, Any, Any], ...] = (
            ("topics", at(thing, "spec", "topics"), [trigger.topic]),
            ("consumerGroup", at(thing, "spec", "consumerGroup"), trigger.group),
            ("sink.ref.name", at(thing, "spec", "sink", "ref", "name"), trigger.service),
        )
        for place, given, right in wanted:
            if given != right:
                told, asked = (
                    ", ".join(text) if isinstance(text, list) else text for text in (given, right)
                )
                yield Finding(
                    named(thing),
                    f"has {place} {told}, and functions/triggers.py says {asked}",
                    f"set spec.{place} to {asked}; a consumerGroup cannot be changed: delete the "
                    "source first, and kn-chat deploy",
                )


def source_delivery(seen: Seen) -> Iterator[Finding]:
    """KafkaSources whose delivery is not the whole one of TRIGGERS: what is left out has no default
    once a part is written.
    """
    for thing, trigger in _paired(seen):
        delivery = at(thing, "spec", "delivery") or {}
        wanted = {
            "retry": trigger.retry_policy.retry,
            "backoffPolicy": "linear",
            "backoffDelay": f"PT{trigger.retry_policy.backoff_delay_s:g}S",
            "timeout": TIMEOUT,
        }
        for name, right in wanted.items():
            if (given := delivery.get(name)) != right and not (
                name == "backoffDelay" and given == f"PT{trigger.retry_policy.backoff_delay_s}S"
            ):
                yield Finding(
                    named(thing),
                    f"has no delivery.{name}"
                    if given is None
                    else f"has delivery.{name} {given}, not {right}",
                    f"set spec.delivery.{name}: {right}; a delivery that is written in part has no "
                    "defaults for the rest",
                )
        if at(thing, "spec", "ordering") != "unordered":
            yield Finding(
                named(thing),
                "is ordered: one event at a time in each partition, 300 ms slower",
                "set spec.ordering: unordered",
            )


def source_dead_letters(seen: Seen) -> Iterator[Finding]:
    """KafkaSources that drop what their function could not take."""
    for thing in _sources(seen):
        name = at(thing, "spec", "delivery", "deadLetterSink", "ref", "name")
        if name != "dead-letters":
            yield Finding(
                named(thing),
                "has no dead-letter sink: events that fail are dropped"
                if name is None
                else f"sends its dead letters to {name}",
                "set spec.delivery.deadLetterSink.ref to the KafkaSink dead-letters",
            )


def source_not_ready(seen: Seen) -> Iterator[Finding]:
    """KafkaSources that bring nothing."""
    for thing in _sources(seen):
        if reason := waits_for(thing):
            yield Finding(
                named(thing),
                f"is not Ready ({reason})",
                f"kubectl -n {thing['metadata']['namespace']} describe kafkasource "
                f"{thing['metadata']['name']}",
            )


def delivery_partitions(seen: Seen) -> int:
    """KNCHAT_DELIVERY_PARTITIONS of this installation."""
    return seen.number("KNCHAT_DELIVERY_PARTITIONS", topics.TOPICS[topics.DELIVERIES].partitions)


def _binds(binding: Object, thing: Object) -> bool:
    """Whether a binding's subject is this object: by name, or by labels."""
    subject = at(binding, "spec", "subject") or {}
    if subject.get("kind") != thing["kind"] or subject.get("namespace") != at(
        thing, "metadata", "namespace"
    ):
        return False
    if name := subject.get("name"):
        return bool(name == thing["metadata"]["name"])
    labels: dict[str, str] = at(subject, "selector", "matchLabels") or {}
    return bool(labels) and labels.items() <= thing["metadata"].get("labels", {}).items()


def _topics(seen: Seen) -> dict[str, Object]:
    return {
        at(thing, "spec", "topicName") or thing["metadata"]["name"]: thing
        for thing in seen.installed.of_kind("KafkaTopic")
    }


def _sources(seen: Seen) -> list[Object]:
    return seen.installed.of_kind("KafkaSource")


def _triggers() -> list[OnEvents]:
    return [trigger for trigger in TRIGGERS if isinstance(trigger, OnEvents)]


def _paired(seen: Seen) -> Iterator[tuple[Object, OnEvents]]:
    """Each source with its trigger: they share the group's name; one of a
    strange name has no trigger.
    """
    by_group = {trigger.group: trigger for trigger in _triggers()}
    for thing in _sources(seen):
        if trigger := by_group.get(thing["metadata"]["name"]):
            yield thing, trigger


CHECKS: Final = (
    Check("definitions", "the cluster knows all kinds that are needed", definitions),
    Check("topic-missing", "each topic has its KafkaTopic", topic_missing),
    Check(
        "topic-partitions",
        "KafkaTopics have the partitions that the code counts on",
        topic_partitions,
    ),
    Check("topic-copies", "KafkaTopics have copies enough", topic_copies),
    Check("sink-topic", "KafkaSinks write to their topics and own none", sink_topic),
    Check("binding-missing", "the gateways are bound to the KafkaSink commands", binding_missing),
    Check("sink-not-injected", "the gateways have K_SINK", sink_not_injected),
    Check("source-missing", "each trigger has its KafkaSource", source_missing),
    Check("source-inbox", "KafkaSources read and call what the code says", source_inbox),
    Check("source-delivery", "KafkaSources try again as the code says", source_delivery),
    Check("source-dead-letters", "KafkaSources dead-letter what fails", source_dead_letters),
    Check("source-not-ready", "KafkaSources are Ready", source_not_ready),
)
"""In the order in which they are shown."""
