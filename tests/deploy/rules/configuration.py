"""What configures and connects objects: addresses, settings, secrets, references, places."""

import itertools
import re
import tempfile
from pathlib import Path, PurePosixPath

from backends.settings import Settings
from knchat.operate import waves
from knchat.operate.needed_secrets import pod_of
from schemas.errors import Malformed
from tests.deploy.overlays import (
    containers,
    environment,
    is_function,
    name,
    of_kind,
    one,
    pods,
    templates,
)

_OPENS = {
    "cassandra-password": {"send", "persist", "history", "chats", "migrate", "audit"},
    "redis-password": {"accounts", "chats", "files", "gateway"},
    "s3-secret": {"files", "resize", "files-sweep"},
}
"""The targets that need a store."""
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
_KNATIVES = {"knative-serving", "kourier-system"}


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
    jobs = of_kind(things, "CronJob")
    if sorted(map(name, jobs)) != ["audit", "files-sweep"]:
        yield f"CronJobs are {[name(job) for job in jobs]}"
    for sweep in jobs:
        command = pod_of(sweep)["containers"][0].get("command")
        if name(sweep) == "files-sweep" and command != ["kn-chat", "files", "sweep"]:
            yield f"files-sweep runs {command}"
        if "KNCHAT_EVENT_KEYS_FILE" not in environment(things, pod_of(sweep)["containers"][0]):
            yield f"{name(sweep)} signs no event that it appends"
    for audit in [job for job in jobs if name(job) == "audit"]:
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
            for key in keys & _OPENS.keys():
                if name(thing) not in _OPENS[key]:
                    yield f"{name(thing)} gets {key}"


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
