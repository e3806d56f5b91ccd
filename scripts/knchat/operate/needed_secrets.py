"""Which Secrets the rendered objects rely on, with which keys, and the command that makes those
that are missing.

`deploy` and `upgrade` ask before they change anything, `doctor` asks too. No value of a Secret is
ever read: kubectl describes their keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from knchat import exits
from knchat.operate.kubectl import Kubectl, Object, at

# A template of go-template: the names of the keys, and nothing of their values.
_KEYS: Final = (
    "{{range .items}}{{.metadata.name}}{{range $key, $_ := "
    '.data}}{{"\\t"}}{{$key}}{{end}}{{"\\n"}}{{end}}'
)


@dataclass(slots=True)
class Needed:
    """A Secret that objects refer to. `keys` may be empty: then the objects do not say which."""

    namespace: str
    name: str
    keys: set[str] = field(default_factory=set)
    by: set[str] = field(default_factory=set)

    def command(self, keys: set[str]) -> str:
        """What makes it: a file for each key."""
        files = (
            "".join(f" --from-file={key}=FILE" for key in sorted(keys)) or " --from-file=KEY=FILE"
        )
        return f"kubectl -n {self.namespace} create secret generic {self.name}{files}"


def needed(things: Sequence[Object]) -> list[Needed]:
    """All Secrets that these objects name and do not bring with them; optional
    ones are left out.
    """
    brought = {
        (at(thing, "metadata", "namespace"), thing["metadata"]["name"])
        for thing in things
        if thing["kind"] == "Secret"
    }
    settings = _settings(things)
    found: dict[tuple[str, str], Needed] = {}
    for thing in things:
        namespace = at(thing, "metadata", "namespace") or "default"
        for name, keys in (*_named(thing), *_mounted(thing, settings)):
            if (namespace, name) not in brought:
                entry = found.setdefault((namespace, name), Needed(namespace, name))
                entry.keys |= keys
                entry.by.add(f"{thing['kind']} {thing['metadata']['name']}")
    return [found[place] for place in sorted(found)]


def missing(kubectl: Kubectl, things: Sequence[Object]) -> list[tuple[Needed, set[str], bool]]:
    """What is missing: the Secret, its missing keys, and whether the Secret itself is not there."""
    found = []
    wanted = needed(things)
    for namespace in sorted({entry.namespace for entry in wanted}):
        lines = kubectl.run(
            "get", "secrets", "-n", namespace, "-o", f"go-template={_KEYS}"
        ).splitlines()
        there = {name: set(keys) for name, *keys in (line.split("\t") for line in lines)}
        for entry in wanted:
            if entry.namespace == namespace:
                lacks = entry.keys - there.get(entry.name, set())
                if lacks or entry.name not in there:
                    found.append((entry, lacks, entry.name not in there))
    return found


def refuse_without(kubectl: Kubectl, things: Sequence[Object]) -> None:
    """Raises Ended when a Secret is missing, with the commands that make it."""
    lacking = missing(kubectl, things)
    if not lacking:
        return
    lines = []
    namespaces = {entry.namespace for entry, _, _ in lacking}
    there = set(kubectl.run("get", "namespaces", "-o", "name").split())
    commands = [
        f"kubectl create namespace {name}"
        for name in sorted(namespaces)
        if f"namespace/{name}" not in there
    ]
    for entry, keys, whole in lacking:
        what = "is missing" if whole else f"lacks {', '.join(sorted(keys))}"
        lines.append(
            f"the Secret {entry.namespace}/{entry.name} {what}; {', '.join(sorted(entry.by))} need "
            "it"
        )
        edit = (
            f"kubectl -n {entry.namespace} edit secret {entry.name}   # add "
            f"{', '.join(sorted(keys))}"
        )
        commands.append(entry.command(keys) if whole else edit)
    raise exits.Ended(
        "nothing was changed: "
        + "\n".join(lines)
        + "\nMake them; docs/operations/secrets.md says what belongs in each:\n  "
        + "\n  ".join(commands)
    )


def _named(part: Any) -> Iterator[tuple[str, set[str]]]:
    """Secrets that are named outright, wherever in an object."""
    match part:
        case {"secretKeyRef": {"name": str(name), "key": str(key), **rest}} if not rest.get(
            "optional"
        ):
            yield name, {key}
        case {"secretRef": {"name": str(name), **rest}} if not rest.get("optional"):
            yield name, set()
        case {"auth": {"secret": {"ref": {"name": str(name)}}}}:
            yield name, {"protocol"}  # without it neither sink nor source looks at the others
    for inner in (
        part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    ):
        yield from _named(inner)


def _mounted(thing: Object, settings: dict[str, dict[str, str]]) -> Iterator[tuple[str, set[str]]]:
    """Secrets that are mounted as files: their keys are the files that the settings name there."""
    pod = pod_of(thing)
    for volume in at(pod, "volumes") or ():
        for source in (volume, *(at(volume, "projected", "sources") or ())):
            secret = source.get("secret") or {}
            name = secret.get("secretName") or secret.get("name")
            if name and not secret.get("optional"):
                keys = {item["key"] for item in secret.get("items") or ()}
                yield name, keys or set(_files_below(pod, volume["name"], settings))


def _files_below(pod: Object, volume: str, settings: dict[str, dict[str, str]]) -> Iterator[str]:
    for container in containers_of(pod):
        paths = [
            PurePosixPath(mount["mountPath"])
            for mount in container.get("volumeMounts") or ()
            if mount["name"] == volume
        ]
        for text in environment_of(container, settings).values():
            for path in paths:
                if text.startswith("/") and PurePosixPath(text).parent == path:
                    yield PurePosixPath(text).name


def pod_of(thing: Object) -> Object:
    """What a workload's pods are made of; empty for what has none."""
    if thing["kind"] == "CronJob":
        return at(thing, "spec", "jobTemplate", "spec", "template", "spec") or {}
    return (
        at(thing, "spec", "template", "spec") or {}
        if thing["kind"] in {"Service", "StatefulSet", "Deployment", "Job"}
        else {}
    )


def containers_of(pod: Object) -> list[Object]:
    """All containers of a pod."""
    return [*(pod.get("initContainers") or ()), *(pod.get("containers") or ())]


def environment_of(container: Object, settings: dict[str, dict[str, str]]) -> dict[str, str]:
    """Its variables that stand in the objects: those of ConfigMaps, then its own.

    What comes from a Secret is `secret:NAME/KEY`.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        found |= settings.get(at(source, "configMapRef", "name") or "", {})
    for variable in container.get("env") or ():
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        elif taken := at(variable, "valueFrom", "secretKeyRef"):
            found[variable["name"]] = f"secret:{taken['name']}/{taken['key']}"
        elif taken := at(variable, "valueFrom", "configMapKeyRef"):
            found[variable["name"]] = settings.get(taken["name"], {}).get(taken["key"], "")
    return found


def _settings(things: Sequence[Object]) -> dict[str, dict[str, str]]:
    return {
        thing["metadata"]["name"]: thing.get("data") or {}
        for thing in things
        if thing["kind"] == "ConfigMap"
    }
