"""The overlays as tests see them: rendered by kubectl, read as dicts, with a few ways to find
things in them.
"""

import copy
import functools
import re
import subprocess
from pathlib import Path

import yaml

from tests.deploy.cluster import tool

ROOT = Path(__file__).parents[2]
OVERLAYS = {path.name: path for path in sorted((ROOT / "knative/overlays").iterdir())}
KIND = ROOT / "knative/kind"


def rendered(overlay):
    """The objects of an overlay, by its name or folder; a copy, to plant mistakes in."""
    return copy.deepcopy(_rendered(OVERLAYS.get(overlay, overlay)))


@functools.cache
def _rendered(folder):
    command = [tool("kubectl"), "kustomize", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # what kustomize warns of will be refused one day
    return list(yaml.safe_load_all(done.stdout))


def is_function(thing):
    return thing["kind"] == "Service" and thing["apiVersion"].startswith("serving.knative.dev/")


def of_kind(things, kind):
    """Those of a kind; `Function` are Knative's Services, `Service` Kubernetes' own."""
    if kind in {"Function", "Service"}:
        return [
            thing
            for thing in things
            if thing["kind"] == "Service" and is_function(thing) == (kind == "Function")
        ]
    return [thing for thing in things if thing["kind"] == kind]


def name(thing):
    return thing["metadata"]["name"]


def one(things, kind, named):
    """The one of that kind and name."""
    (found,) = [thing for thing in of_kind(things, kind) if name(thing) == named]
    return found


def templates(things):
    """Everything that makes pods, with the metadata that they get."""
    for thing in things:
        if is_function(thing) or thing["kind"] in {"StatefulSet", "Job", "Deployment"}:
            yield thing, thing["spec"]["template"].get("metadata", {})
        elif thing["kind"] == "CronJob":
            yield thing, thing["spec"]["jobTemplate"]["spec"]["template"].get("metadata", {})


def pods(things):
    """Everything that makes pods, with the pods' spec."""
    for thing in things:
        if is_function(thing) or thing["kind"] in {"StatefulSet", "Job", "Deployment"}:
            yield thing, thing["spec"]["template"]["spec"]
        elif thing["kind"] == "CronJob":
            yield thing, thing["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def containers(things):
    """Every container, with what it belongs to."""
    for thing, pod in pods(things):
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            yield thing, container


def environment(things, container):
    """Its variables, as the ConfigMap and it itself say; of those that come from elsewhere, where
    from.
    """
    found = {}
    for source in container.get("envFrom", ()):
        found |= one(things, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", ()):
        found[variable["name"]] = (
            variable["value"] if "value" in variable else variable["valueFrom"]
        )
    return found


def settings(things):
    """What all processes read; settings of single stores stand in ConfigMaps of their own."""
    (found,) = [
        thing
        for thing in of_kind(things, "ConfigMap")
        if re.fullmatch(r"kn-chat-[a-z0-9]{10}", name(thing))
    ]
    return found["data"]
