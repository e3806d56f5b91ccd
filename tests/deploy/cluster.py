"""The real API server in tests: `cluster` gives the kubeconfig of one that is the tests' own,
`clean` takes away what a test left there.

A test that asks for one of them is marked `slow` by itself. Without Go or etcd, and no way to have
them, it is left out with the reason; in CI (`CI=true`) it fails. The first run builds the servers,
for minutes. Loaded by `tests/conftest.py`.
"""

import os
import signal
import time
from contextlib import suppress

import pytest

from clusters.api import MERGE, Api, ApiFailed
from clusters.cluster import Cluster
from clusters.tools import TOOLS
from servers.packages import MISSING
from servers.place import Failed

_OURS_FROM_THE_START = {"default", "kube-system", "kube-public", "kube-node-lease"}
_FIXTURES = {"cluster", "clean"}

# Five minutes of building the first time, and a namespace takes its time to go.
_TIMEOUT_S = 1800


def unless_had(make):
    """What `make` gives; where something it needs is missing the test is left out with the reason,
    and fails in CI.
    """
    try:
        return make()
    except Failed as failed:
        if failed.code == MISSING and os.environ.get("CI") != "true":
            pytest.skip(str(failed))
        pytest.fail(str(failed), pytrace=False)


def tool(name):
    """The path of a tool of `scripts/cluster tools`, or the test is left out."""
    return unless_had(TOOLS[name])


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A path of a kubeconfig.

    The cluster ends with the session, so that two runs at once do not disturb each other.
    """
    own = Cluster(tmp_path_factory.mktemp("cluster"))
    # `timeout` ends a run so, and the servers would stay.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        unless_had(own.up)
        with pytest.MonkeyPatch.context() as environ:
            # kubectl, kn and Terraform are started hundreds of times, for a moment each: a quarter
            # of their CPU went into collecting garbage.
            environ.setenv("GOGC", "400")
            yield own.kubeconfig
    finally:
        own.wipe()
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def clean(cluster):
    """The same, with no namespace but Kubernetes' own, before and after."""
    sweep(Api(cluster))
    yield cluster
    sweep(Api(cluster))


def items(api, path):
    """The objects below a path; none when the API server does not know their kind."""
    try:
        return api.call("GET", path)["items"]
    except ApiFailed as error:
        if error.status == 404:
            return []
        raise


def sweep(api):
    """Deletes all namespaces with everything in them, whatever finalizers still wait for
    controllers that are gone.

    Kubernetes' own controller does the same, but begins after 5 s, and looks again 8 s after it has
    met a finalizer.
    """
    deadline, paths = time.monotonic() + 60, ()
    while left := _namespaces(api):
        paths = paths or [*kinds(api, namespaced=True)]
        for space in left:
            with suppress(ApiFailed):
                # Nothing new can be made there any more.
                api.call("DELETE", f"/api/v1/namespaces/{space}")
        found = [
            thing
            for path in paths
            for thing in with_paths(api, path)
            if thing["metadata"].get("namespace") in left
        ]
        for thing in found:
            with suppress(ApiFailed):
                if thing["metadata"].get("finalizers"):
                    api.call(
                        "PATCH", thing["path"], {"metadata": {"finalizers": None}}, content=MERGE
                    )
                api.call(
                    "DELETE", f"{thing['path']}?gracePeriodSeconds=0&propagationPolicy=Background"
                )
        for space in () if found else left:
            with suppress(ApiFailed):
                empty = api.call("GET", f"/api/v1/namespaces/{space}")
                api.call(
                    "PUT",
                    f"/api/v1/namespaces/{space}/finalize",
                    {**empty, "spec": {"finalizers": []}},
                )
        assert time.monotonic() < deadline, left


def _namespaces(api):
    """Those that are not Kubernetes' own."""
    return {
        space["metadata"]["name"] for space in items(api, "/api/v1/namespaces")
    } - _OURS_FROM_THE_START


def kinds(api, *, namespaced=False):
    """The paths of all kinds that can be listed, each in one version: some are not in their group's
    preferred one.
    """
    groups = [
        ["/api/v1"],
        *(
            [f"/apis/{one['groupVersion']}" for one in group["versions"]]
            for group in api.call("GET", "/apis")["groups"]
        ),
    ]
    for versions in groups:
        found = {}
        for version in versions:
            for kind in api.call("GET", version)["resources"]:
                if (
                    "list" in kind["verbs"]
                    and kind["name"] != "events"
                    and kind["namespaced"] >= namespaced
                ):
                    found.setdefault(kind["name"], f"{version}/{kind['name']}")
        yield from found.values()


def with_paths(api, path, query=""):
    """The objects of all namespaces below the path of a kind, each with its own `path`."""
    found = []
    for thing in items(api, path + query):
        start, _, plural = path.rpartition("/")
        metadata = thing["metadata"]
        space = f"namespaces/{metadata['namespace']}/" if "namespace" in metadata else ""
        found.append({**thing, "path": f"{start}/{space}{plural}/{metadata['name']}"})
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks what needs the API server, before `-m` chooses."""
    for item in items:
        if _FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))
