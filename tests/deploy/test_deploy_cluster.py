"""What operators run, on a real API server: `kn-chat deploy` and its siblings, and kn.

Knative's and Strimzi's controllers are fakes. The API server checks every field of every object
against Knative's, Strimzi's and gateway-api's own definitions.
"""

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clusters.api import Api
from knchat.operate.kubectl import Kubectl
from knchat.operate.needed_secrets import needed
from knchat.operate.waves import POLL_INTERVAL_S
from tests.deploy.cluster import items, kinds, tool, with_paths
from tests.deploy.controllers import fake_controllers
from tests.knchat.command import Running

ROOT = Path(__file__).parents[2]
OVERLAYS = ROOT / "knative/overlays"

_OURS = "?labelSelector=app.kubernetes.io/part-of%3Dkn-chat"


class Ours:
    """A cluster, as an operator prepares it and looks at it."""

    def __init__(self, kubeconfig):
        self.kubeconfig = kubeconfig
        self.api = Api(kubeconfig)

    def prepare(self, overlay, *, secrets=True):
        """The namespaces that are there before us (Kafka's, the ingress's, ours), and the Secrets
        that the overlay names; their names.
        """
        things = Kubectl(kubeconfig=str(self.kubeconfig)).render(str(overlay))
        standing = {
            thing["metadata"]["namespace"] for thing in things if "namespace" in thing["metadata"]
        }
        for name in standing:
            self.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        for secret in needed(things) if secrets else ():
            data = {key: base64.b64encode(b"anything").decode() for key in secret.keys or {"any"}}
            self.api.call(
                "POST",
                f"/api/v1/namespaces/{secret.namespace}/secrets",
                {"metadata": {"name": secret.name}, "data": data},
            )
        return standing

    def objects(self):
        """All with our label, of every kind, by path; what controllers have made of them (pods,
        revisions) is left out.
        """
        found = {}
        for path in kinds(self.api):
            for thing in with_paths(self.api, path, _OURS):
                if not thing["metadata"].get("ownerReferences"):
                    found[thing["path"]] = thing
        return found

    def versions(self):
        """What changes when an object is written, and what changes when its spec does."""
        return {
            path: (thing["metadata"].get("generation"), thing["metadata"]["resourceVersion"])
            for path, thing in self.objects().items()
        }

    def run(self, *words, timeout_s=250):
        """`kn-chat WORDS` on this cluster."""
        return subprocess.run(
            self._command(words),
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *words):
        """The same, under way."""
        pipe = subprocess.PIPE
        return Running(
            subprocess.Popen(
                self._command(words), env=self._environ, stdin=pipe, stdout=pipe, stderr=pipe
            )
        )

    def _command(self, words):
        return [sys.executable, "-m", "knchat", *map(str, words)]

    @property
    def _environ(self):
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}


@pytest.fixture
def ours(clean):
    """A cluster with nothing of ours."""
    tool("kubectl")
    return Ours(clean)


@pytest.mark.parametrize("overlay", ["dev", "production"])
def test_a_second_deploy_changes_nothing_and_remove_leaves_nothing(ours, overlay):
    """Every object is written once, by the first; between them all is ready."""
    standing = ours.prepare(OVERLAYS / overlay)
    with fake_controllers(ours.kubeconfig):
        first = ours.run("deploy", OVERLAYS / overlay, "--timeout", 200)
        assert first.returncode == 0, first.stderr
        status = ours.run("status", "--json")
        assert status.returncode == 0, status.stdout
        before = ours.versions()
        applied = len(Kubectl().render(str(OVERLAYS / overlay)))
        second = ours.run("deploy", OVERLAYS / overlay, "--timeout", 60)
        after = ours.versions()
        gone = ours.run("remove", "--yes", "--timeout", 100)

    assert second.returncode == 0, second.stderr
    assert after == before
    assert len(json.loads(status.stdout)["objects"]) == applied
    assert "changed" not in second.stderr.replace("nothing was changed", "")
    assert gone.returncode == 0, gone.stderr
    assert ours.objects() == {}
    assert {
        space["metadata"]["name"] for space in items(ours.api, "/api/v1/namespaces")
    } >= standing - {"chat"}


def test_without_secrets_nothing_is_applied(ours):
    """And the command that makes them is printed."""
    ours.prepare(OVERLAYS / "production", secrets=False)
    done = ours.run("deploy", OVERLAYS / "production", "--timeout", 10)

    assert done.returncode == 1
    assert "create secret generic kn-chat-keys" in done.stderr
    assert ours.objects() == {}


def test_deploy_ends_in_time_with_what_it_waits_for_and_goes_on_later(ours):
    """A topic that is not made stops it in its first wave; the next run goes on from there."""
    ours.prepare(OVERLAYS / "dev")
    with fake_controllers(ours.kubeconfig, hold={"KafkaTopic"}) as fakes:
        held = ours.run("deploy", OVERLAYS / "dev", "--timeout", 4)
        sinks = [path for path in ours.objects() if "kafkasinks" in path]
        fakes.release("KafkaTopic")
        later = ours.run("deploy", OVERLAYS / "dev", "--timeout", 200)

    assert held.returncode == 5
    assert "KafkaTopic kafka/chat-commands waits for" in held.stderr
    assert "topic operator" in held.stderr
    assert sinks == []
    assert later.returncode == 0, later.stderr


def test_nothing_is_applied_before_what_it_needs(ours):
    """Functions wait for the migration, sources for functions."""
    ours.prepare(OVERLAYS / "dev")
    with fake_controllers(ours.kubeconfig, hold={"Job", "Service"}) as fakes:
        running = ours.start("deploy", OVERLAYS / "dev")
        try:
            for kind, named, later in (
                ("Job", "Job chat/migrate", "statefulsets"),
                ("Service", "Service chat/send", "kafkasources"),
            ):
                running.err(f"{named} waits for")
                with pytest.raises(subprocess.TimeoutExpired):
                    running.process.wait(3 * POLL_INTERVAL_S)
                assert not [path for path in ours.objects() if f"/{later}/" in path]
                fakes.release(kind)
            ended = running.end()
        finally:
            running.stop()

    assert ended.code == 0, ended.err


def test_a_deploy_that_was_killed_goes_on(ours):
    """At any point: the next run ends with everything ready."""
    ours.prepare(OVERLAYS / "dev")
    with fake_controllers(ours.kubeconfig):
        killed = subprocess.Popen(
            [sys.executable, "-m", "knchat", "deploy", str(OVERLAYS / "dev")],
            env={**os.environ, "KUBECONFIG": str(ours.kubeconfig)},
            stderr=subprocess.PIPE,
            text=True,
        )
        with contextlib.closing(killed.stderr):
            while "wave 3" not in killed.stderr.readline():
                assert killed.poll() is None
            killed.kill()
            killed.wait()
        again = ours.run("deploy", OVERLAYS / "dev", "--timeout", 200)

    assert again.returncode == 0, again.stderr


def test_kn_finds_the_plugin_and_takes_our_functions(ours, tmp_path):
    """`kn chat` is `kn-chat`, and `kn service apply` brings one function alone to a cluster."""
    kn = tool("kn")
    ours.prepare(OVERLAYS / "dev")
    plugin = tmp_path / "kn-chat"
    plugin.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m knchat "$@"\n')
    plugin.chmod(0o755)
    environ = {
        **os.environ,
        "KUBECONFIG": str(ours.kubeconfig),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }

    def run(*words):
        return subprocess.run(
            [kn, *words], env=environ, capture_output=True, text=True, timeout=100, check=False
        )

    functions = [
        thing
        for thing in Kubectl(kubeconfig=str(ours.kubeconfig)).render(str(OVERLAYS / "dev"))
        if thing["apiVersion"].startswith("serving.knative.dev/")
    ]
    assert {thing["metadata"]["name"] for thing in functions} == {
        "send",
        "persist",
        "index",
        "history",
        "resize",
        "report-lost",
        "accounts",
        "chats",
        "files",
    }
    with fake_controllers(ours.kubeconfig):
        for thing in functions[:2]:
            manifest = tmp_path / "function.json"
            manifest.write_text(json.dumps(thing))
            applied = run(
                "service",
                "apply",
                "--filename",
                str(manifest),
                "--namespace",
                "chat",
                "--wait-timeout",
                "30",
            )
            assert applied.returncode == 0, applied.stderr
        listed = run("plugin", "list")
        asked = run("chat", "status")

    assert "kn-chat" in listed.stdout
    assert all(
        f"Service chat/{thing['metadata']['name']}" in asked.stdout for thing in functions[:2]
    )


def test_two_deploys_at_once_end_alike(ours):
    """Two operators, or one who was impatient: both end well, and nothing differs from one."""
    ours.prepare(OVERLAYS / "dev")
    ended = []
    with fake_controllers(ours.kubeconfig):
        both = [
            threading.Thread(
                target=lambda: ended.append(ours.run("deploy", OVERLAYS / "dev", "--timeout", 200))
            )
            for _ in range(2)
        ]
        for one in both:
            one.start()
        for one in both:
            one.join()
        status = ours.run("status")

    assert [done.returncode for done in ended] == [0, 0], [done.stderr for done in ended]
    assert status.returncode == 0, status.stdout
