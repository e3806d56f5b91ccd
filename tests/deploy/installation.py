"""What the tests of `kn-chat deploy` and its kin share: an overlay of a version, its Secrets,
kubectl, and the command on their cluster.
"""

import json
import os
import subprocess
from pathlib import Path

from knchat.operate.kubectl import Kubectl
from knchat.operate.needed_secrets import missing
from tests.knchat.command import Command

ROOT = Path(__file__).parents[2]
DEV = ROOT / "knative/overlays/dev"
IMAGES = ("ghcr.io/kn-chat/functions", "ghcr.io/kn-chat/gateway")


class Installation:
    """kn-chat on one cluster.

    `kubectl(...)` gives what kubectl prints, `knchat(...)` runs a subcommand there.
    """

    def __init__(self, kubeconfig, folder):
        self.kubeconfig = str(kubeconfig)
        self._folder = folder
        self._command = Command(folder / "config")

    def kubectl(self, *words, stdin=None, check=True):
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", *words]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0 or not check, (words, done.stderr)
        return done.stdout

    def get(self, *words):
        """One object, or None."""
        text = self.kubectl("get", *words, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text else None

    def settings(self):
        """The ConfigMap of the gateways, whose name ends in a hash."""
        (sources,) = [
            container["envFrom"]
            for container in self.get("statefulset/gateway", "-n", "chat")["spec"]["template"][
                "spec"
            ]["containers"]
        ]
        return f"configmap/{sources[0]['configMapRef']['name']}"

    def knchat(self, *words):
        return self._command(*words, "--kubeconfig", self.kubeconfig)

    def start(self, *words):
        """Starts the subcommand in a process of its own; see `tests.knchat.command.Running`."""
        return self._command.start(*words, "--kubeconfig", self.kubeconfig)

    def stop_all(self):
        self._command.stop_all()

    def prepare(self):
        """The namespaces that are there before us, and the Secrets that the overlay names; nothing
        runs that would read them.
        """
        kubectl = Kubectl(kubeconfig=self.kubeconfig)
        things = kubectl.render(str(DEV))
        spaces = sorted(
            {thing["metadata"].get("namespace", "default") for thing in things} - {"default"}
        )
        for space in spaces:
            self.kubectl("create", "namespace", space)
        for entry, keys, _ in missing(kubectl, things):
            values = [f"--from-literal={key}=a-test" for key in sorted(keys or {"any"})]
            self.kubectl("-n", entry.namespace, "create", "secret", "generic", entry.name, *values)

    def overlay(self, version):
        """A folder: the overlay for development, with images of this version."""
        folder = self._folder / f"overlay-{version}"
        folder.mkdir(exist_ok=True)
        lines = [f"resources: [{os.path.relpath(DEV, folder)}]", "images:"]
        lines += [f"  - {{name: {image}, newTag: {version!r}}}" for image in IMAGES]
        (folder / "kustomization.yaml").write_text("\n".join(lines) + "\n")
        return str(folder)
