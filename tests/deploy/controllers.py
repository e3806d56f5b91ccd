"""Fakes of the controllers that a bare API server lacks, in a thread: they set statuses in the
order in which the real ones would.

Strimzi's for topics, Knative's for sinks, bindings, functions and sources, gateway-api's, and a
kubelet that lets pods run at once. What each waits for was read in their sources: a binding whose
named subject is not there does not even resolve its sink (knative/pkg,
webhook/psbinding/reconciler.go). Stateful sets, jobs and namespaces need no fake: Kubernetes' own
controllers run for real.
"""

import json
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from clusters.api import MERGE, Api, ApiFailed
from tests.deploy.cluster import with_paths

_POLL_INTERVAL_S = 0.1

_LISTED = {
    "Pod": "/api/v1/pods",
    "StatefulSet": "/apis/apps/v1/statefulsets",
    "KafkaTopic": "/apis/kafka.strimzi.io/v1/kafkatopics",
    "KafkaSink": "/apis/eventing.knative.dev/v1alpha1/kafkasinks",
    "SinkBinding": "/apis/sources.knative.dev/v1/sinkbindings",
    "Service": "/apis/serving.knative.dev/v1/services",
    "KafkaSource": "/apis/sources.knative.dev/v1/kafkasources",
    "Gateway": "/apis/gateway.networking.k8s.io/v1/gateways",
    "HTTPRoute": "/apis/gateway.networking.k8s.io/v1/httproutes",
}

_FINALIZERS = {
    "KafkaTopic": "strimzi.io/topic-operator",
    "KafkaSink": "kafkasinks.eventing.knative.dev",
    "SinkBinding": "sinkbindings.sources.knative.dev",
    "KafkaSource": "kafkasources.sources.knative.dev",
}

_BOUND = ("K_SINK", "K_CE_OVERRIDES")


class Missing(Exception):
    """What an object waits for: a condition, and why it is not true."""

    def __init__(self, condition, why):
        super().__init__(why)
        self.condition = condition


@contextmanager
def fake_controllers(kubeconfig, *, hold=()):
    """The fake controllers, as long as the block runs.

    Those of the kinds in `hold` do nothing until `release(kind)` is called on them. `StatefulSet`
    and `Job` name the pods that they own.
    """
    fakes = FakeControllers(kubeconfig, hold)
    fakes.thread.start()
    try:
        yield fakes
    finally:
        fakes.ended.set()
        fakes.thread.join(30)
    if fakes.failure:
        raise fakes.failure


class FakeControllers:
    """One thread that looks at everything again whenever something has changed."""

    def __init__(self, kubeconfig, hold):
        self.api = Api(kubeconfig)
        self.held = set(hold)
        self.ended = threading.Event()
        self.failure = None
        self.thread = threading.Thread(target=self._run, name="controllers")
        self.seen = {}
        self._looked_at = None

    def release(self, kind):
        """Lets the controller of a kind go on."""
        self.held.discard(kind)

    def _run(self):
        while not self.ended.wait(_POLL_INTERVAL_S):
            try:
                self._look()
            except ApiFailed as error:
                self._looked_at = None
                if error.status:  # else the server is unavailable, as a test may want it
                    self.failure = error
                    return
            except Exception as error:  # the block's end raises it
                self.failure = error
                return

    def _look(self):
        # Of all that the API server holds: every list says it, of whatever kind.
        version = self.api.call("GET", "/api/v1/namespaces?limit=1")["metadata"]["resourceVersion"]
        now = version, frozenset(self.held)
        if now == self._looked_at:
            return
        self._looked_at = now
        self.seen = {kind: with_paths(self.api, path) for kind, path in _LISTED.items()}
        for kind, things in self.seen.items():
            for thing in things:
                with _racing():
                    self._take(kind, thing)

    def _take(self, kind, thing):
        if kind == "Pod":
            self._run_pod(thing)
            return
        if kind in self.held or kind == "StatefulSet":
            return
        metadata = thing["metadata"]
        if "deletionTimestamp" in metadata:
            self._finalize(kind, thing)
            return
        if (finalizer := _FINALIZERS.get(kind)) and finalizer not in metadata.get("finalizers", ()):
            self._patch_finalizers(thing, [*metadata.get("finalizers", ()), finalizer])
        self._give(thing, *getattr(self, f"_of_{kind.lower()}")(thing))

    # The kinds: each answers with the status and the names of the conditions that are true.

    def _of_kafkatopic(self, thing):
        return {"topicName": _topic(thing)}, ["Ready"], None

    def _of_kafkasink(self, thing):
        place = f"{thing['metadata']['namespace']}/{thing['metadata']['name']}"
        url = f"http://kafka-sink-ingress.knative-eventing.svc.cluster.local/{place}"
        conditions = ["Addressable", "ConfigMapUpdated", "ProbeSucceeded", "TopicReady", "Ready"]
        try:
            self._topic_there(thing["spec"]["topic"], "TopicReady")
        except Missing as missing:
            return {}, ["ConfigMapUpdated"], missing
        return {"address": {"url": url}}, conditions, None

    def _of_sinkbinding(self, thing):
        try:
            sets = self._subjects(thing["spec"]["subject"])
            self._patch_labels(thing["spec"]["subject"]["namespace"])
            url = self._address(thing, thing["spec"]["sink"], "Available")
        except Missing as missing:
            return None, [], missing
        for one in sets:
            self._bind(one, [{"name": "K_SINK", "value": url}, {"name": "K_CE_OVERRIDES"}])
        return {"sinkUri": url}, ["Available", "SinkProvided", "Ready"], None

    def _of_service(self, thing):
        name, space, generation = (
            thing["metadata"][key] for key in ("name", "namespace", "generation")
        )
        revision = f"{name}-{generation:05}"
        url = f"http://{name}.{space}.svc.cluster.local"
        names = {
            "latestCreatedRevisionName": revision,
            "latestReadyRevisionName": revision,
            "url": url,
            "address": {"url": url},
        }
        return names, ["ConfigurationsReady", "RoutesReady", "Ready"], None

    def _of_kafkasource(self, thing):
        try:
            for topic in thing["spec"]["topics"]:
                self._topic_there(topic, "InitialOffsetsCommitted")
            url = self._address(thing, thing["spec"]["sink"], "SinkProvided")
            if dead := thing["spec"].get("delivery", {}).get("deadLetterSink"):
                self._address(thing, dead, "SinkProvided")
        except Missing as missing:
            return {}, [], missing
        return {"sinkUri": url}, ["SinkProvided", "InitialOffsetsCommitted", "Ready"], None

    def _of_gateway(self, _):
        return {}, ["Accepted", "Programmed"], None

    def _of_httproute(self, thing):
        generation = thing["metadata"]["generation"]
        if len(thing.get("status", {}).get("parents", ())) != len(
            thing["spec"].get("parentRefs", ())
        ):
            parents = [
                {
                    "parentRef": ref,
                    "controllerName": "kn-chat.dev/tests",
                    "conditions": _conditions(["Accepted", "ResolvedRefs"], generation),
                }
                for ref in thing["spec"].get("parentRefs", ())
            ]
            self._patch(thing, {"status": {"parents": parents}}, "/status")
        return None, [], None

    # What they share.

    def _subjects(self, subject):
        """The stateful sets that a binding is of: the named one, which must be there, or any number
        by their labels.
        """
        sets = [
            one
            for one in self.seen["StatefulSet"]
            if one["metadata"]["namespace"] == subject.get("namespace")
        ]
        if name := subject.get("name"):
            sets = [one for one in sets if one["metadata"]["name"] == name]
            if not sets:
                raise Missing("Available", f"statefulset.apps {name!r} not found")
            return sets
        wanted = subject["selector"]["matchLabels"].items()
        return [one for one in sets if wanted <= one["metadata"].get("labels", {}).items()]

    def _give(self, thing, status, conditions, missing):
        """Writes a status, unless it stands there already."""
        if status is None and missing is None:
            return
        generation = thing["metadata"]["generation"]
        seen, of_each = (
            ({}, generation)
            if thing["path"].startswith("/apis/gateway.")
            else ({"observedGeneration": generation}, None)
        )
        wanted = {} if status is None else {**status, **seen}
        wanted["conditions"] = _conditions(conditions, of_each, missing)
        live = thing.get("status", {})
        if _timeless({**live, **wanted}) != _timeless(live):
            self._patch(thing, {"status": wanted}, "/status")

    def _finalize(self, kind, thing):
        """Undoes what a binding did, and takes the finalizer off what is to be deleted."""
        if kind == "SinkBinding":
            with suppress(Missing):  # then there is nothing to undo
                for one in self._subjects(thing["spec"]["subject"]):
                    self._bind(one, [])
        if _FINALIZERS.get(kind) in thing["metadata"].get("finalizers", ()):
            kept = [name for name in thing["metadata"]["finalizers"] if name != _FINALIZERS[kind]]
            self._patch_finalizers(thing, kept)

    def _bind(self, stateful_set, variables):
        containers = stateful_set["spec"]["template"]["spec"]["containers"]
        bound = [
            {
                **one,
                "env": [
                    *(item for item in one.get("env", ()) if item["name"] not in _BOUND),
                    *variables,
                ],
            }
            for one in containers
        ]
        if [_valued(one["env"]) for one in bound] != [
            _valued(one.get("env", ())) for one in containers
        ]:
            self._patch(stateful_set, {"spec": {"template": {"spec": {"containers": bound}}}})

    def _patch_labels(self, space):
        labels = {"bindings.knative.dev/include": "true"}
        path = f"/api/v1/namespaces/{space}"
        if not labels.items() <= self.api.call("GET", path)["metadata"].get("labels", {}).items():
            self.api.call("PATCH", path, {"metadata": {"labels": labels}}, content=MERGE)

    def _topic_there(self, name, condition):
        if not any(_topic(topic) == name and _is_ready(topic) for topic in self.seen["KafkaTopic"]):
            raise Missing(condition, f"topic {name} is not there")

    def _address(self, thing, destination, condition):
        """The URL of a sink: given, or that of the object that it refers to."""
        ref = destination.get("ref")
        if ref is None:
            return destination["uri"]
        space = ref.get("namespace", thing["metadata"]["namespace"])
        for one in self.seen.get(ref["kind"], ()):
            if (one["metadata"]["namespace"], one["metadata"]["name"]) == (
                space,
                ref["name"],
            ) and _is_ready(one):
                return one["status"]["address"]["url"] + destination.get("uri", "")
        raise Missing(condition, f"{ref['kind']} {space}/{ref['name']} has no address")

    def _run_pod(self, pod):
        """A kubelet: what is to run runs, and a job's is done."""
        owner = next((one["kind"] for one in pod["metadata"].get("ownerReferences", ())), "Pod")
        if (
            owner in self.held
            or pod["status"].get("phase") != "Pending"
            or "deletionTimestamp" in pod["metadata"]
        ):
            return
        phase = "Succeeded" if owner == "Job" else "Running"
        ready = "False" if owner == "Job" else "True"
        conditions = [
            {"type": kind, "status": ready, "lastTransitionTime": _now()}
            for kind in ("Ready", "ContainersReady")
        ]
        self._patch(pod, {"status": {"phase": phase, "conditions": conditions}}, "/status")

    def _patch_finalizers(self, thing, names):
        """The garbage collector takes one of its own away, which must not be brought back (422)."""
        self._patch(thing, {"metadata": {"finalizers": names}})

    def _patch(self, thing, body, sub=""):
        """Only if the object is still as we saw it: a list of containers that is written back would
        undo what another has set meanwhile.
        """
        seen = thing["metadata"]
        body = {
            **body,
            "metadata": {**body.get("metadata", {}), "resourceVersion": seen["resourceVersion"]},
        }
        now = self.api.call(
            "PATCH", f"{thing['path']}{sub}?fieldManager=tests-controllers", body, content=MERGE
        )
        seen["resourceVersion"] = now["metadata"]["resourceVersion"]


@contextmanager
def _racing():
    """An object that changed or went since we looked is looked at again the next time."""
    try:
        yield
    except ApiFailed as error:
        if error.status not in {404, 409}:
            raise


def _conditions(names, generation=None, missing=None):
    more = (
        {}
        if generation is None
        else {"observedGeneration": generation, "reason": "Fake", "message": ""}
    )
    held = [] if missing is None else [(missing.condition, str(missing)), ("Ready", str(missing))]
    return [
        {"type": name, "status": "True", "lastTransitionTime": _now(), **more} for name in names
    ] + [
        {
            "type": name,
            "status": "False",
            "reason": "Missing",
            "message": why,
            "lastTransitionTime": _now(),
        }
        for name, why in held
    ]


def _timeless(status):
    return json.dumps(
        {
            **status,
            "conditions": [
                {**one, "lastTransitionTime": None} for one in status.get("conditions", ())
            ],
        },
        sort_keys=True,
    )


def _valued(env):
    return [(item["name"], item.get("value", "")) for item in env]


def _topic(thing):
    return thing["spec"].get("topicName", thing["metadata"]["name"])


def _is_ready(thing):
    metadata, status = thing["metadata"], thing.get("status", {})
    return status.get("observedGeneration") == metadata["generation"] and any(
        one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ())
    )


def _now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
