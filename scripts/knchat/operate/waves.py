"""What Ready means for each kind of object, and waiting for it wave by wave, with a line whenever
what it waits for changes.

`deploy`, `upgrade`, `status` and `remove` share it. The order of the waves stands on the objects
(`kn-chat.dev/wave`); knative/README.md says why it is that order.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from knchat import exits
from knchat.operate.kubectl import Kubectl, Object, Ref, at, poll, ref
from schemas.errors import Unavailable

POLL_INTERVAL_S: Final = 1.0
REPORT_INTERVAL_S: Final = 20.0

WHAT: Final = {
    1: "namespace, settings, topics",
    2: "sinks",
    3: "binding and migration",
    4: "functions and gateways",
    5: "sources and audit",
}
"""Wave -> what is in it, for people."""

KINDS: Final = (
    "namespaces",
    "serviceaccounts",
    "configmaps",
    "services",
    "networkpolicies.networking.k8s.io",
    "poddisruptionbudgets.policy",
    "jobs.batch",
    "cronjobs.batch",
    "deployments.apps",
    "statefulsets.apps",
    "kafkatopics.kafka.strimzi.io",
    "kafkasinks.eventing.knative.dev",
    "sinkbindings.sources.knative.dev",
    "services.serving.knative.dev",
    "kafkasources.sources.knative.dev",
    "gateways.gateway.networking.k8s.io",
    "httproutes.gateway.networking.k8s.io",
    "referencegrants.gateway.networking.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
)
"""Where objects of ours are looked for: all kinds that the overlays have; a test compares."""

_READY_KINDS: Final = frozenset({"KafkaTopic", "KafkaSink", "KafkaSource", "SinkBinding"})
_RULED: Final = _READY_KINDS | {
    "Namespace",
    "Job",
    "StatefulSet",
    "Deployment",
    "Gateway",
    "HTTPRoute",
}

_WHAT_TO_DO: Final = {
    "KafkaTopic": "does Strimzi's topic operator run? kubectl -n {namespace} get pods; kubectl -n "
    "{namespace} describe kafkatopic {name}",
    "KafkaSink": "the topic must be there and Kafka reachable: kubectl -n knative-eventing get "
    "pods, and the logs of kafka-controller",
    "SinkBinding": "its sink must be Ready: kubectl -n knative-eventing get pods, and the logs of "
    "eventing-webhook",
    "Service": "kubectl -n {namespace} describe ksvc {name}; the pods' logs say what a function "
    "lacks",
    "StatefulSet": "kubectl -n {namespace} describe pod -l app.kubernetes.io/name={name}; /readyz "
    "of a pod names what it lacks",
    "Deployment": "kubectl -n {namespace} describe deployment {name}",
    "Job": "kubectl -n {namespace} logs job/{name}",
    "KafkaSource": "topic, function and dead-letter sink must be there: kubectl -n {namespace} "
    "describe kafkasource {name}",
    "Namespace": "kubectl get namespace {name} -o yaml",
    "Gateway": "does its controller run, and has each listener its certificate? kubectl -n "
    "{namespace} describe gateway {name}",
    "HTTPRoute": "its Gateway must be Programmed, and its backends there and granted: kubectl -n "
    "{namespace} describe httproute {name}",
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that is not Ready: what it waits for, and why not yet, in the cluster's words.

    `hopeless`: it will not come by itself.
    """

    condition: str
    why: str = ""
    hopeless: bool = False

    def __str__(self) -> str:
        return f"{self.condition}: {self.why}" if self.why else self.condition


def is_function(thing: Object) -> bool:
    """Whether it is a Service of Knative; Kubernetes has one of the same name."""
    return thing["kind"] == "Service" and str(thing["apiVersion"]).startswith(
        "serving.knative.dev/"
    )


def has_rule(thing: Object) -> bool:
    """Whether anything is known of when an object of this kind is Ready; without a rule `waits_for`
    says nothing of it.
    """
    return thing["kind"] in _RULED or is_function(thing)


def waits_for(thing: Object | None) -> Waiting | None:
    """What an object waits for; None: it is Ready, or of a kind without a rule (`has_rule`)."""
    if thing is None:
        return Waiting("being there")
    generation = at(thing, "metadata", "generation")
    seen = at(thing, "status", "observedGeneration")
    kind = thing["kind"]
    if kind == "Namespace":
        return (
            None
            if at(thing, "status", "phase") in {"Active", None}
            else Waiting("Active", str(at(thing, "status", "phase")))
        )
    if kind == "Job":
        return _of_job(thing)
    if kind == "Gateway":
        return _of_gateway_api(thing, at(thing, "status", "conditions"), ("Accepted", "Programmed"))
    if kind == "HTTPRoute":
        return _of_route(thing)
    if kind in _READY_KINDS or kind in {"StatefulSet", "Deployment"} or is_function(thing):
        if isinstance(generation, int) and (seen is None or seen < generation):
            return Waiting(
                "its controller",
                "no controller has seen it yet"
                if seen is None
                else "its controller has not seen the change yet",
            )
        if kind in {"StatefulSet", "Deployment"}:
            return _of_pods(thing)
        return _of_condition(thing, "Ready")
    return None


def holds_up(thing: Object | None) -> Waiting | None:
    """What the next wave has to wait for.

    Bindings are less than Ready then, since what they bind comes after them. One that names its
    subject does not even resolve its sink before that is there. One that chooses by labels does,
    and then binds what comes later as it is made.
    """
    if thing is None or thing["kind"] != "SinkBinding":
        return waits_for(thing)
    if at(thing, "spec", "subject", "name") or at(thing, "status", "sinkUri"):
        return None
    return _of_condition(thing, "SinkProvided") or Waiting("sinkUri")


def advice(thing: Ref) -> str:
    """What to look at when it does not become Ready."""
    return _WHAT_TO_DO.get(thing.kind, "").format(namespace=thing.namespace, name=thing.name)


def condition(thing: Object, name: str) -> Object:
    """A condition of its status; empty where there is none."""
    return next(
        (entry for entry in at(thing, "status", "conditions") or () if entry.get("type") == name),
        {},
    )


def say(text: str) -> None:
    """A line of progress, at once."""
    print(text, file=sys.stderr, flush=True)


def await_all(
    kubectl: Kubectl,
    things: Sequence[Object],
    *,
    deadline: float,
    question: Callable[[Object | None], Waiting | None] = waits_for,
) -> None:
    """Returns when all of these are Ready.

    Raises Unavailable at the deadline (monotonic), with all that is still waited for and what to do
    about it; Ended for what is hopeless.
    """
    progress = _Progress()

    def done() -> bool:
        live = kubectl.live(things)
        waiting = {
            ref(thing): reason
            for thing in things
            if (reason := question(live.get(ref(thing)))) is not None
        }
        progress.show(waiting)
        if lost := {thing: reason for thing, reason in waiting.items() if reason.hopeless}:
            raise exits.Ended(_explained(lost))
        return not waiting

    if things and not poll(done, deadline=deadline, every_s=POLL_INTERVAL_S):
        raise Unavailable(
            f"the time is over; still waited for:\n{_explained(progress.waiting)}\nThen run it "
            "again: it goes on from here."
        )


def await_gone(kubectl: Kubectl, things: Sequence[Object], *, deadline: float) -> None:
    """Returns when none of these is there.

    Raises Unavailable at the deadline, with what holds them.
    """
    progress = _Progress()

    def done() -> bool:
        progress.show(
            {
                thing: Waiting("its end", _held_by(live))
                for thing, live in kubectl.live(things).items()
            }
        )
        return not progress.waiting

    if things and not poll(done, deadline=deadline, every_s=POLL_INTERVAL_S):
        left = "\n".join(f"  {thing} {reason}" for thing, reason in progress.waiting.items())
        raise Unavailable(
            f"the time is over; still there:\n{left}\nA finalizer is taken off by its controller: "
            "it must be running."
        )


class _Progress:
    """Says what is waited for: at once when that changes, and now and then how many there are."""

    def __init__(self) -> None:
        self.waiting: dict[Ref, Waiting] = {}
        self._started = self._said_at = time.monotonic()

    def show(self, waiting: dict[Ref, Waiting]) -> None:
        now = time.monotonic()
        for thing, reason in waiting.items():
            if self.waiting.get(thing) != reason:
                say(f"  {thing} waits for {reason}")
                self._said_at = now
        for thing in self.waiting.keys() - waiting.keys():
            say(f"  {thing} done")
        if waiting and now - self._said_at > REPORT_INTERVAL_S:
            say(
                f"  {len(waiting)} still waited for after {now - self._started:.0f} s: "
                f"{', '.join(map(str, sorted(waiting)))}"
            )
            self._said_at = now
        self.waiting = waiting


def _explained(waiting: dict[Ref, Waiting]) -> str:
    lines = []
    for thing, reason in sorted(waiting.items(), key=lambda item: item[0]):
        lines.append(f"  {thing} waits for {reason}")
        if words := advice(thing):
            lines.append(f"    {words}")
    return "\n".join(lines)


def _of_condition(thing: Object, name: str) -> Waiting | None:
    entry = condition(thing, name)
    if entry.get("status") == "True":
        return None
    # Ready itself often says no more than that another condition is not: the first of those that
    # says why is better.
    told = [entry, *(at(thing, "status", "conditions") or ())]
    why = next((words for one in told if one.get("status") != "True" and (words := _why(one))), "")
    return Waiting(name, why)


def _of_gateway_api(
    thing: Object, conditions: Sequence[Object] | None, wanted: Sequence[str]
) -> Waiting | None:
    """Conditions of the Gateway API: each says for itself of which generation it is."""
    generation = at(thing, "metadata", "generation") or 0
    told = {entry.get("type"): entry for entry in conditions or ()}
    if not any(
        name in told and told[name].get("observedGeneration", generation) >= generation
        for name in wanted
    ):
        return Waiting(
            "its controller",
            "no controller has seen it yet"
            if not told
            else "its controller has not seen the change yet",
        )
    for name in wanted:
        entry = told.get(name, {})
        if (
            entry.get("status") != "True"
            or entry.get("observedGeneration", generation) < generation
        ):
            return Waiting(name, _why(entry))
    return None


def _of_route(thing: Object) -> Waiting | None:
    """A route is Ready when each of its parents has taken it, and found where it leads."""
    parents: list[Object] = at(thing, "status", "parents") or []
    if len(parents) < len(at(thing, "spec", "parentRefs") or ()):
        return Waiting(
            "its controller",
            "no controller has seen it yet"
            if not parents
            else "not all of its gateways have seen it yet",
        )
    reasons = (
        _of_gateway_api(thing, parent.get("conditions"), ("Accepted", "ResolvedRefs"))
        for parent in parents
    )
    return next((reason for reason in reasons if reason is not None), None)


def _why(entry: Object) -> str:
    return ", ".join(text for text in (entry.get("reason", ""), entry.get("message", "")) if text)


def _of_job(thing: Object) -> Waiting | None:
    if condition(thing, "Complete").get("status") == "True":
        return None
    failed = condition(thing, "Failed")
    if failed.get("status") == "True":
        return Waiting("Complete", f"it has failed ({_why(failed)})", hopeless=True)
    failures = at(thing, "status", "failed") or 0
    return Waiting("Complete", f"{failures} tries have failed" if failures else "")


def _of_pods(thing: Object) -> Waiting | None:
    wanted = at(thing, "spec", "replicas")
    wanted = 1 if wanted is None else wanted
    status: dict[str, Any] = thing.get("status", {})
    new, ready = status.get("updatedReplicas") or 0, status.get("readyReplicas") or 0
    if thing["kind"] == "StatefulSet" and status.get("updateRevision") == status.get(
        "currentRevision"
    ):
        new = max(new, status.get("currentReplicas") or 0)
    if new < wanted:
        return Waiting("its pods", f"{new} of {wanted} are new, {ready} ready")
    if ready < wanted:
        return Waiting("its pods", f"{ready} of {wanted} are ready")
    if (status.get("replicas") or 0) > wanted:
        return Waiting("its pods", f"{status['replicas'] - wanted} old ones are still there")
    return None


def _held_by(thing: Object) -> str:
    if not at(thing, "metadata", "deletionTimestamp"):
        return "its deletion was not requested"
    held = ", ".join(at(thing, "metadata", "finalizers") or ())
    left = [
        _why(entry)
        for entry in at(thing, "status", "conditions") or ()
        if thing["kind"] == "Namespace" and entry["status"] == "True"
    ]
    return f"held by {held}" if held else "; ".join(left)
