"""What of ours is on a cluster: the objects that an overlay brought, and what controllers made of
them (pods, revisions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from knchat.operate.kubectl import PART_OF, WAVE, Kubectl, Object, at, wave
from knchat.operate.waves import KINDS, is_function

REVISIONS: Final = "revisions.serving.knative.dev"
NAMESPACE: Final = "chat"
"""Where functions and gateways run."""


@dataclass(frozen=True, slots=True)
class Installed:
    """The objects of ours, and the pods and revisions in their namespaces."""

    things: list[Object]
    pods: list[Object]
    revisions: list[Object]

    def of_kind(self, kind: str) -> list[Object]:
        """Objects of this kind; `Function` is a Service of Knative, `Service` one of Kubernetes."""
        if kind in {"Function", "Service"}:
            return [
                thing
                for thing in self.things
                if thing["kind"] == "Service" and is_function(thing) == (kind == "Function")
            ]
        return [thing for thing in self.things if thing["kind"] == kind]


def objects(kubectl: Kubectl) -> list[Object]:
    """The objects that an overlay brought, by wave and name.

    What controllers copied labels to has an owner, and is left out.
    """
    found = kubectl.find(KINDS, label=PART_OF)
    ours = [
        thing
        for thing in found
        if WAVE in thing["metadata"].get("annotations", {})
        and not at(thing, "metadata", "ownerReferences")
    ]
    return sorted(ours, key=lambda thing: (wave(thing), thing["kind"], thing["metadata"]["name"]))


def look(kubectl: Kubectl) -> Installed:
    """All there is."""
    things = objects(kubectl)
    pods: list[Object] = []
    revisions: list[Object] = []
    for thing in kubectl.find(["pods", REVISIONS], namespace=_namespace(things)):
        (pods if thing["kind"] == "Pod" else revisions).append(thing)
    return Installed(things, pods, revisions)


def _namespace(things: list[Object]) -> str:
    """The one that the gateways are in, wherever an overlay has put them."""
    return next(
        (
            str(at(thing, "metadata", "namespace"))
            for thing in things
            if thing["kind"] == "StatefulSet" and wave(thing) == 4
        ),
        NAMESPACE,
    )
