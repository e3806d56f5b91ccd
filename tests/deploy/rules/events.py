"""What leads events from topic to function and back: sources, sinks, triggers, topics, Kafka."""

import itertools
import re

from backends.log.kafka.topics import KafkaTopics
from backends.retry_policy import RetryPolicy
from functions.triggers import TRIGGERS, OnEvents, OnHttp
from schemas.topics import TOPICS
from tests.deploy.overlays import containers, environment, name, of_kind, one, settings

_SECONDS = re.compile(r"PT(?P<seconds>[0-9]+(\.[0-9]+)?)S")


def delivery_is_whole(things):
    """Part of the block removes Knative's defaults, and its values are not checked."""
    for source in of_kind(things, "KafkaSource"):
        delivery = source["spec"].get("delivery", {})
        for key in ("retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink"):
            if key not in delivery:
                yield f"{name(source)} has no delivery.{key}"
        for key in ("backoffDelay", "timeout"):
            if not _SECONDS.fullmatch(str(delivery.get(key))):
                yield (
                    f"{name(source)}: delivery.{key} is no span in seconds like PT0.5S: "
                    f"{delivery.get(key)}"
                )
        if delivery.get("backoffPolicy") not in {"linear", "exponential"}:
            yield f"{name(source)}: delivery.backoffPolicy is {delivery.get('backoffPolicy')}"
        dead = delivery.get("deadLetterSink", {}).get("ref", {})
        if (dead.get("kind"), dead.get("name"), dead.get("namespace")) != (
            "KafkaSink",
            "dead-letters",
            "chat",
        ):
            yield f"{name(source)}: delivery.deadLetterSink is {dead}"


def sources_say_everything(things):
    """What is left out is filled in by webhooks, with the wrong thing, or not at all."""
    for source in of_kind(things, "KafkaSource"):
        spec = source["spec"]
        for key, allowed in (("ordering", {"unordered"}), ("initialOffset", {"earliest"})):
            if spec.get(key) not in allowed:
                yield f"{name(source)}: {key} is {spec.get(key)}"
        if not isinstance(spec.get("consumers"), int) or spec["consumers"] < 1:
            yield f"{name(source)}: consumers is {spec.get('consumers')}"
        if not spec.get("consumerGroup"):
            yield f"{name(source)} has no consumerGroup"
        if spec["sink"].get("ref", {}).get("namespace") != "chat":
            yield f"{name(source)}: sink.ref has no namespace"


def triggers_are_called(things):
    """functions/triggers.TRIGGERS, the KafkaSources and the routes say the same."""
    events = [trigger for trigger in TRIGGERS if isinstance(trigger, OnEvents)]
    expected = {
        trigger.group: (trigger.topic, trigger.service, trigger.retry_policy) for trigger in events
    }
    given = {}
    for source in of_kind(things, "KafkaSource"):
        spec, delivery = source["spec"], source["spec"].get("delivery", {})
        spans = [_SECONDS.fullmatch(str(delivery.get(key))) for key in ("backoffDelay", "timeout")]
        block = RetryPolicy(
            retry=delivery.get("retry", 0),
            backoff_policy=delivery.get("backoffPolicy", ""),
            backoff_delay_s=float(spans[0]["seconds"]) if spans[0] else -1,
            timeout_s=float(spans[1]["seconds"]) if spans[1] else -1,
        )
        given[spec.get("consumerGroup")] = (
            ",".join(spec["topics"]),
            spec["sink"].get("ref", {}).get("name"),
            block,
        )
        if name(source) != spec.get("consumerGroup"):
            yield f"{name(source)} has another name than its group {spec.get('consumerGroup')}"
    for group in expected.keys() | given.keys():
        if expected.get(group) != given.get(group):
            yield (
                f"group {group}: TRIGGERS say {expected.get(group)}, the sources {given.get(group)}"
            )
    targets = {trigger.service: trigger.target for trigger in TRIGGERS}
    served = {}
    for function in of_kind(things, "Function"):
        (container,) = function["spec"]["template"]["spec"]["containers"]
        served[name(function)] = environment(things, container).get("FUNCTION_TARGET")
    if served != targets:
        yield f"Services and their FUNCTION_TARGET are {served}"
    routes = {}
    for rule in one(things, "HTTPRoute", "api")["spec"]["rules"]:
        host = rule["filters"][0]["urlRewrite"]["hostname"]
        routes[host] = tuple(
            match["path"]["value"]
            for match in rule["matches"]
            if match["path"]["type"] == "PathPrefix"
        )
    wanted = {
        f"{trigger.target}.chat.svc.cluster.local": trigger.paths
        for trigger in TRIGGERS
        if isinstance(trigger, OnHttp)
    }
    if routes != wanted:
        yield f"the route api leads to {routes}"


def sinks_own_no_topic(things):
    """With numPartitions or replicationFactor a topic is the sink's, and deleted with it."""
    for sink in of_kind(things, "KafkaSink"):
        for key in {"numPartitions", "replicationFactor"} & sink["spec"].keys():
            yield f"{name(sink)} has {key}"
        if sink["spec"].get("contentMode") != "binary":
            yield f"{name(sink)}: contentMode is {sink['spec'].get('contentMode')}"
    given = {name(sink): sink["spec"]["topic"] for sink in of_kind(things, "KafkaSink")}
    if given != {
        "commands": "chat-commands",
        "queries": "chat-queries",
        "dead-letters": "chat-dead-letters",
    }:
        yield f"sinks are {given}"


def bindings_say_their_namespace(things):
    """Only a webhook would fill it in; an object that was there before it stays broken."""
    for binding in of_kind(things, "SinkBinding"):
        subject, sink = binding["spec"].get("subject", {}), binding["spec"]["sink"].get("ref", {})
        if subject.get("namespace") != "chat":
            yield f"{name(binding)}: subject.namespace is {subject.get('namespace')}"
        if sink.get("namespace") != "chat" or sink.get("name") != "commands":
            yield f"{name(binding)}: its sink is {sink}"
        labels = subject.get("selector", {}).get("matchLabels", {})
        chosen = [
            thing
            for thing in of_kind(things, "StatefulSet")
            if labels and labels.items() <= thing["metadata"]["labels"].items()
        ]
        if [name(thing) for thing in chosen] != ["gateway"]:
            yield f"{name(binding)} binds {[name(thing) for thing in chosen]}"
    for thing in (*of_kind(things, "Namespace"), *of_kind(things, "StatefulSet")):
        if thing["metadata"]["labels"].get("bindings.knative.dev/include") != "true":
            yield f"{thing['kind']} {name(thing)} is not seen where bindings are by inclusion"
    if len(of_kind(things, "SinkBinding")) != 1:
        yield "there is not one SinkBinding"


def topics_are_as_code_expects(things):
    """What `kn-chat topics create` would make of these settings."""
    replication, partitions = (
        int(settings(things)["KNCHAT_KAFKA_REPLICATION"]),
        int(settings(things)["KNCHAT_DELIVERY_PARTITIONS"]),
    )
    expect = KafkaTopics(None, replication=replication, delivery_partitions=partitions)
    given = {name(thing): thing for thing in of_kind(things, "KafkaTopic")}
    if given.keys() != TOPICS.keys():
        yield f"topics are {sorted(given)}"
    for topic in TOPICS.values():
        thing = given.get(topic.name)
        if thing is None:
            continue
        spec = thing["spec"]
        # Private methods of KafkaTopics: what they make is the promise, and there is no cluster
        # to ask.
        wanted = {config.name: str(config.value) for config in expect._configs(topic)}
        if (spec["partitions"], spec["replicas"]) != (expect._partitions(topic), replication):
            yield f"{topic.name} has {spec['partitions']} partitions and {spec['replicas']} copies"
        written = {
            key: str(value).lower() if isinstance(value, bool) else str(value)
            for key, value in spec.get("config", {}).items()
        }
        if written != wanted:
            yield f"{topic.name}: config differs in {sorted(wanted.items() ^ written.items())}"
        if (
            thing["metadata"]["namespace"] != "kafka"
            or thing["metadata"]["labels"].get("strimzi.io/cluster") != "kafka"
        ):
            yield f"{topic.name} does not belong to the Kafka of Strimzi"


def gateways_have_partitions_enough(things):
    """Four for each, or the busiest gateway has far more users than others (design.md D7)."""
    gateways = one(things, "StatefulSet", "gateway")["spec"]["replicas"]
    if int(settings(things)["KNCHAT_DELIVERY_PARTITIONS"]) < 4 * gateways:
        yield f"KNCHAT_DELIVERY_PARTITIONS is below 4 for each of {gateways} gateways"


def kafka_is_one(things):
    """Topics, sinks, sources and our own processes mean the same Kafka, in the same way."""
    given = settings(things)
    wanted = given["KNCHAT_KAFKA"].split(",")
    secure = given.get("KNCHAT_KAFKA_SECURITY", "plaintext") == "sasl_ssl"
    for thing in itertools.chain(of_kind(things, "KafkaSource"), of_kind(things, "KafkaSink")):
        spec = thing["spec"]
        if spec.get("bootstrapServers") != wanted:
            yield (
                f"{thing['kind']} {name(thing)} speaks to {spec.get('bootstrapServers')}, the "
                f"ConfigMap says {wanted}"
            )
        net = spec.get("net", {})
        if thing["kind"] == "KafkaSource" and (
            bool(net.get("sasl", {}).get("enable")),
            bool(net.get("tls", {}).get("enable")),
        ) != (
            secure,
            secure,
        ):
            yield f"KafkaSource {name(thing)}: net is {net}"
        if thing["kind"] == "KafkaSink" and ("auth" in spec) != secure:
            yield f"KafkaSink {name(thing)}: auth is {spec.get('auth')}"
    for thing, container in containers(of_kind(things, "StatefulSet")):
        address = environment(things, container).get("KNCHAT_SINK_QUERIES")
        if address != "http://kafka-sink-ingress.knative-eventing.svc.cluster.local/chat/queries":
            yield f"{name(thing)}: questions go to {address}"
