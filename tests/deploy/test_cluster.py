"""`scripts/cluster`: what it says when something is missing, and that its cluster keeps what it was
given.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clusters import definitions
from clusters.api import MERGE, Api, ApiFailed
from clusters.cluster import Cluster
from clusters.control_plane import API_SERVER, CONTROLLERS
from clusters.tools import TOOLS
from tests.deploy.cluster import items, with_paths
from tests.deploy.controllers import FakeControllers

_ROOT = Path(__file__).parents[2]


def run(*words, **environ):
    return subprocess.run(
        [sys.executable, "-m", "clusters", *words],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_kubernetes_and_its_parts_are_of_one_version():
    """An upgrade that forgets one of them would build an untested mixture."""
    text = (_ROOT / "scripts/servers/go/kubernetes/go.mod").read_text()
    parts = set(re.findall(r"=> k8s\.io/\S+ (v0\.\S+)", text))

    assert API_SERVER.version == CONTROLLERS.version
    assert {part.replace("v0.", "v1.") for part in parts} == {API_SERVER.version}


def test_without_go_it_says_what_is_missing_and_where_it_is(tmp_path):
    """And the exit code is that of all missing programs."""
    done = run("tools", "kn", PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))

    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith(
        "cluster: kn is built by Go, which is missing: https://go.dev/dl"
    )


def test_without_definitions_it_says_who_names_them(tmp_path):
    """Before anything is built or started."""
    done = run("up", "--folder", str(tmp_path / "own"), KNCHAT_CRDS=str(tmp_path / "none"))

    assert done.returncode == 3
    assert "KNCHAT_CRDS" in done.stderr
    assert not (tmp_path / "own/etcd").exists()


def test_wrong_words_teach():
    """A tool that is none."""
    done = run("tools", "helm")

    assert done.returncode == 2
    assert all(name in done.stderr for name in TOOLS)


def test_it_comes_back_with_its_objects(cluster, tmp_path):
    """On its ports, and without writing its definitions again; a second `up` starts nothing."""
    own = Cluster(tmp_path / "own")
    try:
        own.up()
        api = Api(own.kubeconfig)
        api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "kept"}})
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        before = {
            one["metadata"]["name"]: one["metadata"]["generation"] for one in items(api, path)
        }
        ports = [status.port for status in own.status()]
        own.down()
        stopped = [status.process for status in own.status()]
        own.up()
        pids = [status.process.pid for status in own.status()]
        own.up()

        assert stopped == [None, None, None]
        assert [status.port for status in own.status()] == ports
        assert [status.process.pid for status in own.status()] == pids
        assert all(status.ready for status in own.status())
        assert "kept" in {space["metadata"]["name"] for space in items(api, "/api/v1/namespaces")}
        assert {
            one["metadata"]["name"]: one["metadata"]["generation"] for one in items(api, path)
        } == before
        assert definitions.texts().keys() == before.keys()
    finally:
        own.wipe()
    assert [status.process for status in own.status()] == [None, None, None]
    assert not own.kubeconfig.exists()


def test_a_fake_controller_undoes_nothing_that_another_has_set(clean):
    """A binding writes whole containers; what was set since it looked would be lost, for good."""
    api, path = Api(clean), "/apis/apps/v1/statefulsets"
    container = {"name": "gateway", "image": "gateway:0.1.0"}
    pod = {"metadata": {"labels": {"app": "gateway"}}, "spec": {"containers": [container]}}
    api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "chat"}})
    spec = {
        "replicas": 0,
        "serviceName": "gateway",
        "selector": {"matchLabels": {"app": "gateway"}},
        "template": pod,
    }
    api.call(
        "POST",
        "/apis/apps/v1/namespaces/chat/statefulsets",
        {"metadata": {"name": "gateway"}, "spec": spec},
    )
    (seen,) = with_paths(api, path)
    mine = {"name": "MINE", "value": "set since"}
    api.call(
        "PATCH",
        seen["path"],
        {"spec": {"template": {"spec": {"containers": [{**container, "env": [mine]}]}}}},
        content=MERGE,
    )

    with pytest.raises(ApiFailed) as failed:
        FakeControllers(clean, ())._bind(seen, [{"name": "K_SINK", "value": "http://sink"}])
    assert failed.value.status == 409
    assert items(api, path)[0]["spec"]["template"]["spec"]["containers"][0]["env"] == [mine]
