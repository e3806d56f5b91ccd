"""What runs in pods: names, times, scaling, bounds, images, rights, probes."""

import re
import tomllib

from tests.deploy.overlays import ROOT, containers, name, of_kind, one, pods, settings

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
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
