"""The cluster, as the subcommands for Knative see it: `kubectl` as a program, objects as dicts, and
its errors in our words.

Every call has a limit. It knows nothing of what the objects are for; `waves` and `checkup` do.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, Final

import click

from knchat import exits
from knchat.command import Callback, declared
from schemas.errors import Unavailable

Object = dict[str, Any]
"""One object of the cluster, as its JSON."""

REQUEST_TIMEOUT_S: Final = 30.0
"""Timeout of one call; an apply of all our objects takes about 5 s (80 ms each)."""
PART_OF: Final = "app.kubernetes.io/part-of=kn-chat"
WAVE: Final = "kn-chat.dev/wave"
_OWN_LABEL: Final = "app.kubernetes.io/managed-by=kn-chat"
_RETRY_DELAY_S: Final = 2.0
_FIRST_RETRY_DELAY_S: Final = 0.1

_AWAY: Final = re.compile(
    r"was refused|connection refused|no such host|i/o timeout|Unable to connect|TLS handshake "
    r"timeout|currently unable to handle"
    r"|Client\.Timeout|context deadline exceeded|etcdserver: |EOF$",
    re.MULTILINE,
)
_NO_CLUSTER: Final = re.compile(
    r"current-context is not set|context .* does not exist|no context exists|no configuration has "
    r"been provided"
)
_NOT_LET_IN: Final = re.compile(r"must be logged in|Unauthorized|x509: ")
_UNKNOWN_KIND: Final = re.compile(r'no matches for kind "(\w+)" in version "([^"]+)"')
# Knative's webhooks need some seconds after their installation; before that every apply of their
# kinds fails.
_WEBHOOK_AWAY: Final = re.compile(r"failed calling webhook|failed to call webhook")

INSTALLED_BY: Final = {
    "serving.knative.dev": "Knative Serving",
    "sources.knative.dev": "Knative Eventing with its Kafka source",
    "eventing.knative.dev": "Knative Eventing's Kafka sink",
    "kafka.strimzi.io": "the Strimzi operator",
    "gateway.networking.k8s.io": "the Gateway API",
}
"""API group -> what brings it."""


class Failed(exits.Ended):
    """kubectl said no. `text` is what it said."""

    def __init__(self, text: str) -> None:
        super().__init__(text.removeprefix("error: "))
        self.text = text


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Which object."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.namespace}/{self.name}"
            if self.namespace
            else f"{self.kind} {self.name}"
        )


def ref(thing: Object) -> Ref:
    """Which object this is."""
    metadata = thing["metadata"]
    return Ref(thing["kind"], metadata.get("namespace", ""), metadata["name"])


def wave(thing: Object) -> int:
    """When it is its turn, 1 to 5: what has no wave, or a strange one, comes first."""
    text = str(thing["metadata"].get("annotations", {}).get(WAVE, ""))
    return int(text) if text.isascii() and text.isdigit() else 1


def at(thing: Any, *path: str | int) -> Any:
    """What lies there; None where the path ends early."""
    for step in path:
        match thing, step:
            case {}, str() if step in thing:
                thing = thing[step]
            case [*_], int() if step < len(thing):
                thing = thing[step]
            case _:
                return None
    return thing


def options(act: Callback) -> Callback:
    """Which cluster: the command gets `kubectl` for it."""

    @wraps(act)
    def with_kubectl(context: str | None, kubeconfig: str | None, **given: Any) -> int | None:
        return act(**given, kubectl=Kubectl(context=context, kubeconfig=kubeconfig))

    return declared(
        with_kubectl,
        click.option(
            "--context",
            metavar="NAME",
            help="the cluster: a context of your kubeconfig (default: its current one)",
        ),
        click.option(
            "--kubeconfig",
            metavar="FILE",
            help="another kubeconfig (default: KUBECONFIG, else ~/.kube/config)",
        ),
    )


class Kubectl:
    """kubectl for one cluster.

    All calls raise Unavailable when the cluster does not answer, and Ended otherwise.
    """

    def __init__(self, *, context: str | None = None, kubeconfig: str | None = None) -> None:
        self._cluster = [
            *([f"--context={context}"] if context else []),
            *([f"--kubeconfig={kubeconfig}"] if kubeconfig else []),
        ]
        self._context = context

    def context(self) -> str:
        """The name of the cluster's context."""
        return self._context or self.run("config", "current-context").strip()

    def render(self, folder: str) -> list[Object]:
        """The objects of an overlay, in the order of their waves. Asks no cluster."""
        text = self.run("kustomize", folder)
        # kubectl reads YAML for us: with --local it changes a label without a cluster, and answers
        # in JSON.
        things = _parsed(
            self.run(
                "label", "--local", "--overwrite", "-f", "-", "-o", "json", _OWN_LABEL, stdin=text
            )
        )
        if not things:
            raise exits.Ended(f"{folder} has no objects", exits.USAGE)
        return sorted(things, key=wave)

    def apply(
        self,
        things: Sequence[Object],
        *,
        dry_run: bool = False,
        force: bool = False,
        within_s: float = 0.0,
    ) -> list[Object]:
        """Makes the objects as they are given, by server-side apply; as they are then.

        Waits up to `within_s` for webhooks that do not answer yet. `dry_run`: the server checks
        everything and keeps nothing.
        """
        options = [
            *(["--dry-run=server"] if dry_run else []),
            *(["--force-conflicts"] if force else []),
        ]
        words = [
            "apply",
            "--server-side",
            "--field-manager=kn-chat",
            "--validate=strict",
            *options,
            "-o",
            "json",
            "-f",
            "-",
        ]
        deadline = time.monotonic() + within_s
        while True:
            try:
                return _parsed(self.run(*words, stdin=_listed(things)))
            except Failed as error:
                if not _WEBHOOK_AWAY.search(error.text) or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_DELAY_S)

    def live(self, things: Sequence[Object]) -> dict[Ref, Object]:
        """Those of them that are there, as they are now."""
        if not things:
            return {}
        found = _parsed(
            self.run("get", "-f", "-", "--ignore-not-found", "-o", "json", stdin=_listed(things))
        )
        return {ref(thing): thing for thing in found}

    def find(self, kinds: Iterable[str], *, namespace: str = "", label: str = "") -> list[Object]:
        """All objects of these kinds (`kafkasources.sources.knative.dev`), of one namespace or of
        all.

        Kinds that the cluster does not know have none.
        """
        known = self._known_kinds
        asked = [kind for kind in kinds if kind in known]
        if not asked:
            return []
        where = ["-n", namespace] if namespace else ["-A"]
        which = ["-l", label] if label else []
        return _parsed(
            self.run("get", ",".join(asked), *where, *which, "--ignore-not-found", "-o", "json")
        )

    def delete(self, things: Sequence[Object]) -> None:
        """Deletes them, and does not wait until they are gone."""
        if things:
            self.run(
                "delete", "-f", "-", "--ignore-not-found", "--wait=false", stdin=_listed(things)
            )

    def known(self, kinds: Iterable[str]) -> set[str]:
        """Those of these kinds that the cluster knows."""
        return self._known_kinds & set(kinds)

    @cached_property
    def _known_kinds(self) -> set[str]:
        return set(self.run("api-resources", "--verbs=list", "-o", "name").split())

    def run(
        self, *words: str, stdin: str | None = None, within_s: float = REQUEST_TIMEOUT_S
    ) -> str:
        """What kubectl prints."""
        return self.run_both(*words, stdin=stdin, within_s=within_s)[0]

    def run_both(
        self, *words: str, stdin: str | None = None, within_s: float = REQUEST_TIMEOUT_S
    ) -> tuple[str, str]:
        """What kubectl prints on stdout and stderr."""
        limits = (
            []
            if words[0] in {"kustomize", "config"} or "--local" in words
            else [f"--request-timeout={within_s:g}s"]
        )
        command = ["kubectl", *self._cluster, *limits, *words]
        try:
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=within_s + 5,
                check=False,
            )
        except FileNotFoundError:
            raise exits.Ended(
                "kubectl is missing: https://kubernetes.io/docs/tasks/tools says how to get it",
                exits.MISSING,
            ) from None
        except subprocess.TimeoutExpired:
            raise Unavailable(
                f"the cluster does not answer within {within_s:g} s: kubectl {words[0]}"
            ) from None
        if done.returncode != 0:
            raise _error_of(done.stderr)
        return done.stdout, done.stderr


def poll(question: Callable[[], bool], *, deadline: float, every_s: float) -> bool:
    """Asks until it is true, soon at first; False when the deadline (monotonic) comes first.

    A request to an API server that is unavailable for a moment is repeated.
    """
    pause_s = min(_FIRST_RETRY_DELAY_S, every_s)
    while True:
        try:
            if question():
                return True
        except Unavailable:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, every_s)


def _error_of(text: str) -> exits.Ended | Unavailable:
    # Discovery repeats itself, with time stamps, before the line that matters.
    text = (
        "\n".join(line for line in text.splitlines() if not re.match(r"[EWI]\d{4} ", line)).strip()
        or text.strip()
    )
    text, conflict, _ = text.partition("\nPlease review the fields above")
    if conflict:
        return Failed(f"{text}\nAnother tool has set them; --force-conflicts takes them over")
    if _NO_CLUSTER.search(text):
        return exits.Ended(
            "no cluster is chosen: --context or KUBECONFIG says which "
            f"({text.removeprefix('error: ')})",
            exits.USAGE,
        )
    if unknown := sorted({(kind, version) for kind, version in _UNKNOWN_KIND.findall(text)}):
        return exits.Ended(
            "\n".join(
                f"the cluster knows no {kind} ({version}): {_bringer(version)}"
                for kind, version in unknown
            )
        )
    if _WEBHOOK_AWAY.search(text):
        return Failed(text)
    if _NOT_LET_IN.search(text):
        return exits.Ended(f"the cluster does not let us in: {text}")
    if _AWAY.search(text):
        return Unavailable(f"the cluster does not answer: {text.splitlines()[-1]}")
    return Failed(text)


def _bringer(version: str) -> str:
    group = version.partition("/")[0]
    return f"install {INSTALLED_BY.get(group, group)} first; the stack terraform/platform does"


def _listed(things: Sequence[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(things)})


def _parsed(text: str) -> list[Object]:
    """The objects of kubectl's JSON: one, a List, or several in a row."""
    found: list[Object] = []
    decoder, place = json.JSONDecoder(), 0
    while place < len(text.rstrip()):
        thing, end = decoder.raw_decode(text, place)
        found += thing["items"] if _is_list(thing) else [thing]
        place = end + len(text[end:]) - len(text[end:].lstrip())
    return found


def _is_list(thing: Mapping[str, Any]) -> bool:
    return thing["kind"].endswith("List") and "items" in thing
