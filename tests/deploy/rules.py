"""What no API server checks: each rule takes the objects of an overlay and yields what is wrong,
in words.

API servers see types and fields, Knative's webhooks some values; the rest is found on the day it
hurts. `test_manifests.py` holds the overlays to these rules and shows of each that it can fail.
"""

import itertools
import re
import tempfile
import tomllib
from pathlib import Path, PurePosixPath

from backends.log.kafka.topics import KafkaTopics
from backends.retry_policy import RetryPolicy
from backends.settings import Settings
from functions.triggers import TRIGGERS, OnEvents, OnHttp
from knchat.operate import waves
from knchat.operate.needed_secrets import pod_of
from schemas.errors import Malformed
from schemas.topics import TOPICS
from tests.deploy.overlays import (
    ROOT,
    containers,
    environment,
    is_function,
    name,
    of_kind,
    one,
    pods,
    settings,
    templates,
)

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

_OPENS = {
    "cassandra-password": {"persist", "history", "chats", "migrate", "audit"},
    "redis-password": {"accounts", "chats", "gateway"},
}
"""The targets that need a store."""
_SECONDS = re.compile(r"PT(?P<seconds>[0-9]+(\.[0-9]+)?)S")
_WAVES = {
    **dict.fromkeys(
        ("Namespace", "ServiceAccount", "ConfigMap", "NetworkPolicy", "KafkaTopic"), "1"
    ),
    "KafkaSink": "2",
    **dict.fromkeys(("SinkBinding", "Job"), "3"),
    **dict.fromkeys(
        ("Service", "StatefulSet", "PodDisruptionBudget", "Gateway", "HTTPRoute", "ReferenceGrant"),
        "4",
    ),
    **dict.fromkeys(("KafkaSource", "CronJob"), "5"),
}
# knative.dev/serving: pkg/apis/autoscaling/register.go, and the values that its validation takes.
_WHOLE, _SPAN = re.compile(r"[0-9]+"), re.compile(r"[0-9]+(\.[0-9]+)?(s|m)")
_SCALING = {
    "class": re.compile(r"kpa\.autoscaling\.knative\.dev"),
    "metric": re.compile(r"concurrency|rps"),
    "min-scale": _WHOLE,
    "max-scale": re.compile(r"[1-9][0-9]*"),
    "initial-scale": _WHOLE,
    "activation-scale": re.compile(r"[2-9]|[1-9][0-9]+"),
    "target": re.compile(r"[1-9][0-9]*(\.[0-9]+)?"),
    "target-utilization-percentage": re.compile(r"[1-9][0-9]?|100"),
    "target-burst-capacity": re.compile(r"-1|[0-9]+"),
    "scale-down-delay": _SPAN,
    "scale-to-zero-pod-retention-period": _SPAN,
    "window": _SPAN,
    "panic-window-percentage": re.compile(r"[1-9][0-9]?|100"),
    "panic-threshold-percentage": re.compile(r"1[1-9][0-9]|[2-9][0-9]{2}|1000"),
}
_RESERVED_PORTS = {8008, 8012, 8013, 8022, 8112, 9090, 9091}
_RESERVED_NAMES = {"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"}
_KNATIVES = {"knative-serving", "kourier-system"}


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


def no_reserved_names(things):
    """Ports and variables that are Knative's own, in functions."""
    for thing, container in containers(of_kind(things, "Function")):
        ports = [port["containerPort"] for port in container.get("ports", ())]
        if (
            len(ports) != 1
            or _RESERVED_PORTS & set(ports)
            or container["ports"][0].get("name") not in {"http1", "h2c"}
        ):
            yield f"{name(thing)}: its ports are {container.get('ports')}"
        for variable in {entry["name"] for entry in container.get("env", ())} & _RESERVED_NAMES:
            yield f"{name(thing)} sets {variable}"
    for thing in of_kind(things, "ConfigMap"):
        for variable in thing["data"].keys() & _RESERVED_NAMES:
            yield f"{name(thing)} sets {variable}"


def functions_have_time(things):
    """Below 35 s a container is killed before it can act on SIGTERM; a try of the dispatcher must
    fit too.
    """
    for function in of_kind(things, "Function"):
        if not 35 <= function["spec"]["template"]["spec"].get("timeoutSeconds", 0) <= 600:
            yield (
                f"{name(function)}: timeoutSeconds is "
                f"{function['spec']['template']['spec'].get('timeoutSeconds')}"
            )


def scaling_is_legal(things):
    """A misspelt annotation is silently none."""
    for function in of_kind(things, "Function"):
        template = function["spec"]["template"]
        given = {}
        for key, value in template["metadata"]["annotations"].items():
            group, _, rest = key.partition("/")
            if group != "autoscaling.knative.dev":
                continue
            if (
                rest not in _SCALING
                or not isinstance(value, str)
                or not _SCALING[rest].fullmatch(value)
            ):
                yield f"{name(function)}: {key}: {value!r}"
            else:
                given[rest] = value
        if (
            missing := {
                "min-scale",
                "max-scale",
                "target",
                "target-burst-capacity",
                "scale-down-delay",
            }
            - given.keys()
        ):
            yield f"{name(function)} has no {sorted(missing)}"
            continue
        if int(given["min-scale"]) > int(given["max-scale"]):
            yield f"{name(function)} keeps {given['min-scale']} of at most {given['max-scale']}"
        limit = template["spec"].get("containerConcurrency")
        if not limit or not float(given["target"]) <= limit <= 1000:
            yield f"{name(function)}: containerConcurrency is {limit}, target {given['target']}"
        if any(
            key.startswith("autoscaling.") for key in function["metadata"].get("annotations", {})
        ):
            yield (
                f"{name(function)} scales in the wrong place: such annotations belong to the "
                "template"
            )


def containers_are_bounded(things):
    """Requests and limits of CPU and memory, no more and no less."""
    for thing, container in containers(things):
        for side in ("requests", "limits"):
            if (given := container.get("resources", {}).get(side, {})).keys() != {"cpu", "memory"}:
                yield f"{name(thing)}: {side} are {given}"


def images_have_our_version(things):
    """What runs changes only when the overlay does."""
    for thing, container in containers(things):
        if not re.fullmatch(
            rf"ghcr\.io/kn-chat/(functions|gateway):{re.escape(VERSION)}", container["image"]
        ):
            yield f"{name(thing)}: its image is {container['image']}, this is {VERSION}"


def pods_may_do_nothing(things):
    """Not root, nothing written but /tmp, no capability, no token, an account of ours."""
    accounts = {name(thing): thing for thing in of_kind(things, "ServiceAccount")}
    for account in accounts.values():
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {name(account)} has a token"
    for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"):
        for thing in of_kind(things, kind):
            yield f"{kind} {name(thing)}: no part of kn-chat calls the Kubernetes API"
    for thing, pod in pods(things):
        if (
            pod.get("serviceAccountName") not in accounts
            or pod.get("automountServiceAccountToken") is not False
        ):
            yield f"{name(thing)}: its account is {pod.get('serviceAccountName')}"
        tmp = [
            volume["name"]
            for volume in pod.get("volumes", ())
            if volume.get("emptyDir", {}).get("sizeLimit")
        ]
        for container in pod["containers"]:
            own, shared = container.get("securityContext", {}), pod.get("securityContext", {})
            both = {**shared, **own}
            if not both.get("runAsNonRoot") or not both.get("runAsUser"):
                yield f"{name(thing)} may run as root"
            if (
                not own.get("readOnlyRootFilesystem")
                or own.get("allowPrivilegeEscalation") is not False
            ):
                yield f"{name(thing)} may write, or become more than it is"
            if own.get("capabilities") != {"drop": ["ALL"]} or both.get("seccompProfile") != {
                "type": "RuntimeDefault"
            }:
                yield f"{name(thing)} keeps capabilities, or system calls"
            mounted = {
                mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", ())
            }
            if mounted.get("/tmp") not in tmp:  # noqa: S108 - the name of a mount
                yield f"{name(thing)} has no bounded /tmp"


def functions_are_hidden(things):
    """Event functions believe whom they hear (but for the signature); HTTP ones are reached through
    the route alone.
    """
    for function in of_kind(things, "Function"):
        if (
            function["metadata"]["labels"].get("networking.knative.dev/visibility")
            != "cluster-local"
        ):
            yield f"{name(function)} is to be seen from outside"
    policies = {name(policy): policy["spec"] for policy in of_kind(things, "NetworkPolicy")}
    if policies.get("deny-all") != {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}:
        yield "pods without a policy are open"
    if not policies.get("functions", {}).get("ingress"):
        yield "functions admit every pod, or none"
    for named, policy in policies.items():
        for way, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy.get(way, ()):
                spaces = {
                    peer.get("namespaceSelector", {})
                    .get("matchLabels", {})
                    .get("kubernetes.io/metadata.name")
                    for peer in rule.get(peers, [{}])
                }
                if None in spaces or not rule.get("ports"):
                    yield f"{named}: {way} {peers} {spaces} on {rule.get('ports')}"
                if named == "functions" and not spaces <= _KNATIVES:
                    yield f"functions admit {spaces}"
                if way == "ingress" and 8080 in [port["port"] for port in rule.get("ports", ())]:
                    yield "port 8080 is past the queue-proxy"
    for thing, template in templates(things):
        if template.get("labels", {}).get("app.kubernetes.io/part-of") != "kn-chat":
            yield f"{name(thing)}: its pods lack the label by which they reach the stores"


def probes_tell_the_truth(things):
    """A function is ready when it listens; a gateway says so itself, and has time to drain."""
    for thing, container in containers(of_kind(things, "Function")):
        if container.get("readinessProbe", {}).get("tcpSocket") != {"port": 8080}:
            yield f"{name(thing)}: its readiness is {container.get('readinessProbe')}"
        if container.get("livenessProbe", {}).get("httpGet") != {"path": "/livez", "port": 8080}:
            yield f"{name(thing)}: its liveness is {container.get('livenessProbe')}"
    gateway = one(things, "StatefulSet", "gateway")["spec"]
    pod = gateway["template"]["spec"]
    (container,) = pod["containers"]
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        if container.get(probe, {}).get("httpGet") != {"path": path, "port": "http"}:
            yield f"gateway: {probe} is {container.get(probe)}"
    if gateway.get("podManagementPolicy") != "Parallel" or not pod.get("topologySpreadConstraints"):
        yield "gateways wait for each other, or share a node"
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    # 15 s: what is under way to the sink, given up after 10 s, and the stores' closing.
    needed = pause + int(settings(things).get("KNCHAT_DRAIN_S", 5)) + 15
    if pause < 3 or pod.get("terminationGracePeriodSeconds", 30) < needed:
        yield (
            f"gateway: {pod.get('terminationGracePeriodSeconds')} s to end in, {needed} s "
            f"needed, {pause} of them before SIGTERM"
        )
    if one(things, "PodDisruptionBudget", "gateway")["spec"].get("maxUnavailable") != 1:
        yield "more than one gateway may be taken at once"


def settings_are_taken(things):
    """Every process would start: each KNCHAT_ variable is one, its value is legal, its file is
    mounted.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield from _settings_with(things, Path(folder))


def _settings_with(things, folder):
    """`folder` stands for what is mounted."""
    for thing, container in containers(things):
        mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", ())}
        volumes = {volume["name"]: volume for volume in pod_of(thing).get("volumes", ())}
        variables = {}
        for key, value in environment(things, container).items():
            if not key.startswith("KNCHAT_"):
                continue
            text = "gateway-0" if value == {"fieldRef": {"fieldPath": "metadata.name"}} else value
            if isinstance(text, str) and text.startswith("/"):
                path = PurePosixPath(text)
                secret = volumes.get(mounts.get(str(path.parent)), {}).get("secret", {})
                if not secret or path.name not in [
                    item["path"] for item in secret.get("items", [{"path": path.name}])
                ]:
                    yield f"{name(thing)}: {key} names {text}, which no volume brings"
                text = str(_file(folder, path))
            variables[key] = text
        if variables.get("KNCHAT_LOG") == "knative":
            variables["K_SINK"] = (
                "http://kafka-sink-ingress.knative-eventing.svc.cluster.local/chat/commands"
            )
        try:
            Settings.from_env(variables)
        except (Malformed, TypeError, AttributeError) as error:
            yield f"{name(thing)}: {error}"


def _file(folder, path):
    file = folder / path.name
    file.write_text(
        "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=" if path.name == "event-keys" else "secret"
    )
    return file


def the_audit_runs(things):
    """Nothing that was acknowledged depends on a counter of retries, as long as the audit
    runs, repairs, and signs what it appends.
    """
    audits = of_kind(things, "CronJob")
    if [name(audit) for audit in audits] != ["audit"]:
        yield f"CronJobs are {[name(audit) for audit in audits]}"
    for audit in audits:
        spec, (container,) = audit["spec"], pod_of(audit)["containers"]
        if container.get("command", [])[:3] != ["kn-chat", "audit", "--repair"]:
            yield f"audit runs {container.get('command')}"
        if "KNCHAT_EVENT_KEYS_FILE" not in environment(things, container):
            yield "audit does not sign what it appends"
        if (
            spec.get("schedule") != "*/10 * * * *"
            or spec.get("concurrencyPolicy") != "Forbid"
            or spec.get("suspend")
        ):
            yield (
                f"audit runs at {spec.get('schedule')}, {spec.get('concurrencyPolicy')}, "
                f"suspended: {spec.get('suspend')}"
            )
        if spec["jobTemplate"]["spec"].get("backoffLimit") != 0 or not spec["jobTemplate"][
            "spec"
        ].get("activeDeadlineSeconds"):
            yield "audit is tried again although the next one is soon, or never ends"


def secrets_stay_out(things):
    """By reference only, and each to whom it is for: what signs tokens to `accounts` alone."""
    secret = {
        f"KNCHAT_{key.upper()}"
        for key, item in Settings.__dataclass_fields__.items()
        if item.metadata["secret"]
    }
    for thing in of_kind(things, "Secret"):
        yield f"the Secret {name(thing)} is in the tree"
    for thing, container in containers(things):
        for key in environment(things, container).keys() & secret:
            yield f"{name(thing)}: {key} stands there in plain"
    for thing, pod in pods(things):
        for volume in pod.get("volumes", ()):
            taken = volume.get("secret", {})
            keys = {item["key"] for item in taken.get("items", ())}
            if taken.get("secretName") == "kn-chat-keys" and (
                not keys or ("signing-key.pem" in keys and name(thing) != "accounts")
            ):
                yield f"{name(thing)} gets the key that signs tokens"
            if taken.get("secretName") == "kn-chat-stores" and not keys:
                yield f"{name(thing)} gets all that opens a store"
            for key in keys & {"cassandra-password", "redis-password"}:
                if name(thing) not in _OPENS[key]:
                    yield f"{name(thing)} gets {key}"


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


def references_lead_somewhere(things):
    """What an object names is there, or comes from outside by contract."""
    there = {("Function" if is_function(thing) else thing["kind"], name(thing)) for thing in things}
    for source in of_kind(things, "KafkaSource"):
        sink = source["spec"]["sink"].get("ref", {})
        if ("Function", sink.get("name")) not in there or sink.get(
            "apiVersion"
        ) != "serving.knative.dev/v1":
            yield f"KafkaSource {name(source)}: its sink is {sink}"
    for thing in itertools.chain(of_kind(things, "KafkaSource"), of_kind(things, "KafkaSink")):
        for topic in thing["spec"].get("topics") or [thing["spec"].get("topic")]:
            if ("KafkaTopic", topic) not in there:
                yield f"{thing['kind']} {name(thing)}: there is no topic {topic}"
    for thing, container in containers(things):
        for source in container.get("envFrom", ()):
            if ("ConfigMap", source["configMapRef"]["name"]) not in there:
                yield f"{name(thing)}: there is no ConfigMap {source['configMapRef']['name']}"
    gateways = one(things, "StatefulSet", "gateway")["spec"]
    if ("Service", gateways["serviceName"]) not in there:
        yield "the gateways have no headless Service"
    listeners = {
        listener["name"]: listener.get("hostname")
        for listener in one(things, "Gateway", "chat")["spec"]["listeners"]
    }
    for route in of_kind(things, "HTTPRoute"):
        for parent in route["spec"]["parentRefs"]:
            if parent["sectionName"] not in listeners or listeners[parent["sectionName"]] not in {
                None,
                *route["spec"].get("hostnames", ()),
            }:
                yield f"HTTPRoute {name(route)} has no listener"
        for backend in [
            backend for rule in route["spec"]["rules"] for backend in rule.get("backendRefs", ())
        ]:
            grants = [
                grant
                for grant in of_kind(things, "ReferenceGrant")
                if grant["metadata"]["namespace"] == backend.get("namespace")
                and grant["spec"]["to"][0].get("name") == backend["name"]
            ]
            if ("Service", backend["name"]) not in there and not grants:
                yield f"HTTPRoute {name(route)}: {backend['name']} is unknown, and not granted"


def every_object_has_its_place(things):
    """Labels and wave: deploying, counting and removing go by them."""
    seen = set()
    for thing in things:
        metadata = thing["metadata"]
        key = (thing["apiVersion"], thing["kind"], metadata.get("namespace"), metadata["name"])
        if key in seen:
            yield f"{key} is there twice"
        seen.add(key)
        labels, wave = (
            metadata.get("labels", {}),
            metadata.get("annotations", {}).get("kn-chat.dev/wave"),
        )
        if labels.get("app.kubernetes.io/part-of") != "kn-chat" or not labels.get(
            "app.kubernetes.io/name"
        ):
            yield f"{thing['kind']} {metadata['name']}: its labels are {labels}"
        if wave != _WAVES.get(thing["kind"]):
            yield f"{thing['kind']} {metadata['name']}: its wave is {wave}"
        if "app.kubernetes.io/managed-by" in labels:
            yield f"{thing['kind']} {metadata['name']}: who manages it is said by who does"
        if thing["kind"] != "Namespace" and not metadata.get("namespace"):
            yield f"{thing['kind']} {metadata['name']} has no namespace"
        plurals = {kind.partition(".")[0] for kind in waves.KINDS}
        if not plurals & {f"{thing['kind'].lower()}s", re.sub("y$", "ies", thing["kind"].lower())}:
            yield f"{thing['kind']} is no kind that kn-chat status and remove look for"


RULES = [
    delivery_is_whole,
    sources_say_everything,
    triggers_are_called,
    sinks_own_no_topic,
    bindings_say_their_namespace,
    topics_are_as_code_expects,
    gateways_have_partitions_enough,
    no_reserved_names,
    functions_have_time,
    scaling_is_legal,
    containers_are_bounded,
    images_have_our_version,
    pods_may_do_nothing,
    functions_are_hidden,
    probes_tell_the_truth,
    settings_are_taken,
    the_audit_runs,
    secrets_stay_out,
    kafka_is_one,
    references_lead_somewhere,
    every_object_has_its_place,
]
