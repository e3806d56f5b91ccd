"""Checks of what runs: images, pods, settings of gateways and functions, event keys, public
addresses, and the migration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from functions.triggers import TRIGGERS
from knchat.operate.checkup import Check, Finding, Seen, named
from knchat.operate.checkup.topics_and_sources import delivery_partitions
from knchat.operate.kubectl import Object, at, ref
from knchat.operate.needed_secrets import pod_of
from knchat.operate.status import is_ready
from knchat.operate.waves import advice, is_function, waits_for

PARTITIONS_EACH: Final = 4
"""Partitions of chat-deliveries for each gateway ever planned (design.md D7)."""
_KEYS: Final = "KNCHAT_EVENT_KEYS"
OF_SCHEMA: Final = re.compile(r"kn-chat migrate|newer kn-chat")


def not_ready(seen: Seen) -> Iterator[Finding]:
    """Objects that are not Ready; sources have a check of their own, and so has the migration."""
    for thing in seen.installed.things:
        if thing["kind"] not in {"KafkaSource", "Job"} and (reason := waits_for(thing)):
            yield Finding(
                named(thing), f"waits for {reason}", advice(ref(thing)) or "kubectl describe it"
            )


def function_missing(seen: Seen) -> Iterator[Finding]:
    """Targets without their Knative Service, and gateways that are not there."""
    there = {thing["metadata"]["name"] for thing in seen.installed.of_kind("Function")}
    for name in dict.fromkeys(trigger.service for trigger in TRIGGERS):
        if name not in there:
            yield Finding(f"the function {name}", "is missing", "kn-chat deploy your overlay")
    if seen.gateways is None:
        yield Finding(
            "StatefulSet gateway",
            "is missing: no client can connect",
            "kn-chat deploy your overlay",
        )


def pods_not_ready(seen: Seen) -> Iterator[Finding]:
    """Pods that do not serve, with the reason that the cluster gives."""
    for pod in seen.installed.pods:
        if (
            at(pod, "status", "phase") == "Succeeded"
            or at(pod, "metadata", "deletionTimestamp")
            or is_ready(pod)
        ):
            continue
        if any(
            owner.get("kind") == "Job" for owner in at(pod, "metadata", "ownerReferences") or ()
        ):
            continue  # a try of the migration, or an audit; the Job says how it went
        space, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        yield Finding(
            named(pod),
            f"is not ready ({_why_not(pod)})",
            f"kubectl -n {space} describe pod {name}; kubectl -n {space} logs {name} --previous",
        )


def schema(seen: Seen) -> Iterator[Finding]:
    """Stores that were not brought to this version, or belong to a newer one."""
    for answer in seen.answers or ():
        if answer.status != 200 and OF_SCHEMA.search(answer.text):
            yield Finding(
                answer.url,
                f"says: {answer.text}",
                "kn-chat upgrade with the overlay of the newest version runs the migration first",
            )
    jobs = [thing for thing in seen.workloads if thing["kind"] == "Job"]
    if not jobs:
        yield Finding(
            "Job migrate",
            "is not there: whether the stores were migrated is unknown",
            "kn-chat deploy your overlay; it runs again",
        )
    functions = {_image(thing) for thing in seen.installed.of_kind("Function")}
    for job in jobs:
        if reason := waits_for(job):
            space, name = job["metadata"]["namespace"], job["metadata"]["name"]
            yield Finding(
                named(job),
                f"has not finished ({reason})",
                f"kubectl -n {space} logs job/{name}; then kn-chat deploy, which tries again",
            )
        elif functions and _image(job) not in functions:
            told = ", ".join(sorted(functions))
            yield Finding(
                named(job),
                f"has migrated with {_image(job)}, and functions are of {told}",
                "kn-chat upgrade your overlay",
            )


_CHORES: Final = {
    "audit": "nothing looks for what was lost on the way",
    "files-sweep": "files that nothing refers to stay",
}
"""CronJob -> what comes of it when it does not run."""


def audit(seen: Seen) -> Iterator[Finding]:
    """An audit or a sweep that does not run, or whose last run did not end well."""
    jobs = {job["metadata"]["name"]: job for job in seen.installed.of_kind("CronJob")}
    for name, effect in _CHORES.items():
        if (job := jobs.get(name)) is None:
            yield Finding(f"CronJob {name}", f"is missing: {effect}", "kn-chat deploy your overlay")
            continue
        status, space = job.get("status") or {}, job["metadata"]["namespace"]
        begun, well = status.get("lastScheduleTime") or "", status.get("lastSuccessfulTime") or ""
        if at(job, "spec", "suspend"):
            yield Finding(
                named(job),
                f"is suspended: {effect}",
                "set spec.suspend: false",
            )
        elif begun > well and not status.get("active"):  # both RFC 3339 in UTC
            yield Finding(
                named(job),
                f"ran at {begun}, and "
                f"{f'ended well last at {well}' if well else 'has never ended well'}",
                f"kubectl -n {space} logs -l app.kubernetes.io/name={job['metadata']['name']} "
                "--tail=50 says what is missing, or unavailable",
            )


def event_keys(seen: Seen) -> Iterator[Finding]:
    """Event keys that are not set, or not the same everywhere: what one signs another refuses."""
    signing = {
        trigger.service for trigger in TRIGGERS if "appends" in (*trigger.needs, *trigger.uses)
    }
    places: dict[str, list[str]] = {}
    for thing in seen.workloads:
        if (thing["kind"], thing["metadata"]["name"]) == ("CronJob", "files-sweep"):
            continue  # it has nothing to do with the log
        if thing["kind"] in {"StatefulSet", "CronJob"} or (
            is_function(thing) and thing["metadata"]["name"] in signing
        ):
            place = _taken_from(seen, thing, _KEYS)
            if place is None:
                yield Finding(
                    named(thing),
                    f"has no {_KEYS}: it neither signs nor checks events",
                    f"set {_KEYS}_FILE to the key of Secret kn-chat-keys",
                )
            else:
                places.setdefault(place, []).append(named(thing))
    if len(places) > 1:
        usual = max(places, key=lambda place: len(places[place]))
        for place, things in places.items():
            if place != usual:
                yield Finding(
                    ", ".join(things),
                    f"take their event keys from {place}, all others from {usual}",
                    "give gateways and functions the same keys: what one signs the others refuse, "
                    "and it becomes a dead letter",
                )


def secrets(seen: Seen) -> Iterator[Finding]:
    """Secrets that are named and not there, or lack a key."""
    for entry, keys, whole in seen.lacking:
        what = "is missing" if whole else f"lacks {', '.join(sorted(keys))}"
        yield Finding(
            f"Secret {entry.namespace}/{entry.name}",
            f"{what}; {', '.join(sorted(entry.by))} need it",
            entry.command(keys or entry.keys),
        )


def public_url(seen: Seen) -> Iterator[Finding]:
    """Gateways that cannot say where clients find them."""
    gateways = seen.gateways
    if gateways is None:
        return
    url = seen.environment(gateways).get("KNCHAT_PUBLIC_URL", "")
    count = at(gateways, "spec", "replicas") or 1
    if not url:
        yield Finding(
            named(gateways),
            "has no KNCHAT_PUBLIC_URL: clients would be told an address inside the cluster",
            "set it: wss://gw-{ordinal}.DOMAIN/v1/socket",
        )
    elif "{ordinal}" not in url and count > 1:
        yield Finding(
            named(gateways),
            f"has KNCHAT_PUBLIC_URL {url} for {count} gateways: all would be told the same address",
            "put {ordinal} where the gateway's number belongs: wss://gw-{ordinal}.DOMAIN/v1/socket",
        )


def gateway_routes(seen: Seen) -> Iterator[Finding]:
    """Gateways whose host leads nowhere."""
    gateways = seen.gateways
    url = "" if gateways is None else seen.environment(gateways).get("KNCHAT_PUBLIC_URL", "")
    if gateways is None or not url:
        return
    hosts = {
        host
        for route in seen.installed.of_kind("HTTPRoute")
        for host in at(route, "spec", "hostnames") or ()
    }
    for ordinal in range(at(gateways, "spec", "replicas") or 1):
        host = urlsplit(url.replace("{ordinal}", str(ordinal))).hostname or ""
        if host not in hosts:
            yield Finding(
                f"gateway {ordinal}",
                f"has the host {host}, and no HTTPRoute leads there",
                "kn-chat hosts --domain DOMAIN --gateways N prints what is missing",
            )


def trusted_proxies(seen: Seen) -> Iterator[Finding]:
    """A function with calls that are open, which knows no proxy: on Knative there is always one
    before it.
    """
    for thing in seen.installed.of_kind("Function"):
        if thing["metadata"]["name"] == "accounts" and not seen.environment(thing).get(
            "KNCHAT_TRUSTED_PROXIES"
        ):
            yield Finding(
                named(thing),
                "has no KNCHAT_TRUSTED_PROXIES: log-ins and registrations have no limit by address",
                "set it to 127.0.0.0/8 (queue-proxy) and the networks of your pods, like "
                "10.244.0.0/16",
            )


def delivery_settings(seen: Seen) -> Iterator[Finding]:
    """Fewer partitions than the gateways need, or not the same number everywhere."""
    gateways, wanted = seen.gateways, delivery_partitions(seen)
    if (
        gateways is not None
        and (count := at(gateways, "spec", "replicas") or 1) * PARTITIONS_EACH > wanted
    ):
        yield Finding(
            named(gateways),
            f"has {count} gateways for {wanted} partitions of chat-deliveries, {PARTITIONS_EACH} "
            "for each are needed",
            "have fewer gateways; more partitions need new topics (runbook)",
        )
    for thing in seen.workloads:
        given = seen.environment(thing).get("KNCHAT_DELIVERY_PARTITIONS", str(wanted))
        if given != str(wanted):
            yield Finding(
                named(thing),
                f"has KNCHAT_DELIVERY_PARTITIONS {given}, the gateways have {wanted}",
                "set it once, in the ConfigMap kn-chat",
            )


def images_mixed(seen: Seen) -> Iterator[Finding]:
    """Workloads of several versions."""
    versions: dict[str, list[str]] = {}
    for thing in seen.workloads:
        if (version := _version(_image(thing))) and "@" not in _image(thing):
            versions.setdefault(version, []).append(named(thing))
    if len(versions) > 1:
        told = "; ".join(
            f"{version}: {', '.join(things)}" for version, things in sorted(versions.items())
        )
        yield Finding(
            "the images",
            f"are of {len(versions)} versions ({told})",
            "set one version in the overlay's `images`, and kn-chat upgrade",
        )


def image_latest(seen: Seen) -> Iterator[Finding]:
    """Images whose name says no version."""
    for thing in seen.workloads:
        image = _image(thing)
        if "@" not in image and _version(image) in {"", "latest"}:
            yield Finding(
                named(thing),
                f"runs {image}: that is any version, and may be another tomorrow",
                "name a version in the overlay's `images`",
            )


def traffic_pinned(seen: Seen) -> Iterator[Finding]:
    """Functions that an upgrade has left at an old revision."""
    for thing in seen.installed.of_kind("Function"):
        pinned = [
            entry
            for entry in at(thing, "spec", "traffic") or ()
            if entry.get("revisionName") and entry.get("percent")
        ]
        for entry in pinned:
            yield Finding(
                named(thing),
                f"sends {entry['percent']} % of its calls to the revision {entry['revisionName']}, "
                "whatever is newer",
                "an upgrade was rolled back or stopped half-way: kn-chat upgrade goes on, kn-chat "
                "deploy takes the newest",
            )


def _why_not(pod: Object) -> str:
    for entry in at(pod, "status", "containerStatuses") or ():
        if words := at(entry, "state", "waiting") or at(entry, "lastState", "terminated"):
            return ", ".join(text for text in (words.get("reason"), words.get("message")) if text)
    told = [
        entry for entry in at(pod, "status", "conditions") or () if entry.get("status") == "False"
    ]
    words = next(
        (f"{entry.get('reason', '')}, {entry.get('message', '')}".strip(", ") for entry in told), ""
    )
    return words or at(pod, "status", "phase") or "Pending"


def _image(thing: Object) -> str:
    return at(pod_of(thing), "containers", 0, "image") or ""


def _version(image: str) -> str:
    return image.rpartition("/")[2].partition("@")[0].partition(":")[2]


def _taken_from(seen: Seen, thing: Object, name: str) -> str | None:
    """Where a workload takes a secret from, in words; None: from nowhere."""
    environment, pod = seen.environment(thing), pod_of(thing)
    if value := environment.get(name):
        return (
            value.replace("secret:", "Secret ")
            if value.startswith("secret:")
            else "a value in the open"
        )
    path = PurePosixPath(environment.get(f"{name}_FILE") or "/")
    for mount in at(pod, "containers", 0, "volumeMounts") or ():
        if PurePosixPath(mount["mountPath"]) in path.parents:
            volume: Object = next(
                (entry for entry in pod.get("volumes") or () if entry["name"] == mount["name"]), {}
            )
            secret = at(volume, "secret", "secretName") or at(
                volume, "projected", "sources", 0, "secret", "name"
            )
            return f"Secret {secret}/{path.name}"
    return None


CHECKS: Final = (
    Check("function-missing", "functions and gateways are there", function_missing),
    Check("not-ready", "all objects are Ready", not_ready),
    Check("pods-not-ready", "all pods are ready", pods_not_ready),
    Check("schema", "the stores were migrated to this version", schema),
    Check("audit", "what was acknowledged is audited, and files are swept", audit),
    Check("event-keys", "gateways and functions have the same event keys", event_keys),
    Check("secrets", "all Secrets are there", secrets),
    Check("public-url", "gateways know their public addresses", public_url),
    Check("gateway-routes", "each gateway's host has its HTTPRoute", gateway_routes),
    Check(
        "trusted-proxies", "the functions know whose X-Forwarded-For to believe", trusted_proxies
    ),
    Check(
        "delivery-partitions",
        "there are partitions enough for the gateways, everywhere the same number",
        delivery_settings,
    ),
    Check("images-mixed", "all images are of one version", images_mixed),
    Check("image-latest", "all images name their version", image_latest),
    Check("traffic-pinned", "all functions serve their newest revision", traffic_pinned),
)
"""In the order in which they are shown."""
