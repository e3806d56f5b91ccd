"""`terraform/app` on a real API server, with fake controllers: applied, applied again,
planned empty, upgraded, destroyed.
"""

import json
import re
import subprocess

import pytest

from clusters.api import Api
from tests.deploy.cluster import items, with_paths
from tests.deploy.controllers import fake_controllers
from tests.deploy.stacks import Terraform, copied, tool

EXAMPLE = "app/examples/production"
NAMESPACED = (
    "/api/v1/configmaps",
    "/api/v1/services",
    "/api/v1/serviceaccounts",
    "/apis/apps/v1/statefulsets",
    "/apis/batch/v1/cronjobs",
    "/apis/batch/v1/jobs",
    "/apis/networking.k8s.io/v1/networkpolicies",
    "/apis/policy/v1/poddisruptionbudgets",
    "/apis/kafka.strimzi.io/v1/kafkatopics",
    "/apis/eventing.knative.dev/v1alpha1/kafkasinks",
    "/apis/sources.knative.dev/v1/sinkbindings",
    "/apis/sources.knative.dev/v1/kafkasources",
    "/apis/serving.knative.dev/v1/services",
    "/apis/gateway.networking.k8s.io/v1/gateways",
    "/apis/gateway.networking.k8s.io/v1/httproutes",
    "/apis/gateway.networking.k8s.io/v1beta1/referencegrants",
)


def ours(api):
    """Names of the objects that the overlay has made, wherever they are; not what those have made,
    like the audit's jobs.
    """
    return sorted(
        thing["path"]
        for path in NAMESPACED
        for thing in with_paths(api, path)
        if thing["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") == "kn-chat"
        and "ownerReferences" not in thing["metadata"]
    )


@pytest.fixture
def terraform(tmp_path, clean):
    """In a copy, with the namespaces of others that an overlay reaches into: Kafka's and the
    ingress'.
    """
    stacks = Terraform(copied(tmp_path))
    spaces = re.findall(
        r"^  namespace: (\S+)$", rendered(tmp_path / "knative/overlays/dev"), re.MULTILINE
    )
    for space in sorted(set(spaces) - {"chat"}):
        kubectl(clean, "create", "namespace", space)
    stacks.init(EXAMPLE)
    return stacks


def rendered(overlay):
    return kubectl("/dev/null", "kustomize", str(overlay))


def kubectl(kubeconfig, *words):
    done = subprocess.run(
        [tool("kubectl"), f"--kubeconfig={kubeconfig}", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def secrets(kubeconfig):
    """What a person makes by hand: the two Secrets, here with nothing in them."""
    for name in ("kn-chat-keys", "kn-chat-stores"):
        kubectl(kubeconfig, "create", "secret", "generic", name, "--namespace=chat")


def test_from_nothing_to_everything_and_back(terraform, clean, tmp_path):
    """The whole life of a deployment: refused without Secrets, applied, unchanged, a new version,
    gone.
    """
    api = Api(clean)
    overlay = tmp_path / "knative/overlays/dev"
    given = {"kubeconfig": clean, "overlay": overlay}
    with fake_controllers(clean):
        refused = terraform(EXAMPLE, "apply", "-auto-approve", code=1, **given)
        assert "kn-chat-keys" in refused
        assert "docs/operations/secrets.md" in refused
        assert not items(api, "/apis/kafka.strimzi.io/v1/kafkatopics")  # nothing but the namespace

        secrets(clean)
        terraform(EXAMPLE, "apply", "-auto-approve", **given)
        there = ours(api)
        assert len(there) == rendered(overlay).count("\nkind: ") - 1  # the Namespace

        terraform(EXAMPLE, "apply", "-auto-approve", **given)
        assert ours(api) == there
        assert "No changes." in terraform(EXAMPLE, "plan", "-detailed-exitcode", **given)

        new_version(overlay)
        planned = terraform(EXAMPLE, "plan", "-detailed-exitcode", code=2, **given)
        # The Job that migrates, which Kubernetes does not let change.
        assert "must be replaced" in planned
        terraform(EXAMPLE, "apply", "-auto-approve", **given)
        images = set(
            re.findall(
                r'"image": ?"([^"]+)"',
                json.dumps(items(api, "/apis/serving.knative.dev/v1/services")),
            )
        )
        assert {image.rpartition(":")[2] for image in images} == {"9.9.9"}
        assert "No changes." in terraform(EXAMPLE, "plan", "-detailed-exitcode", **given)

        # The provider looks every 10 s whether an object has gone; so many at once, not 10.
        terraform(EXAMPLE, "destroy", "-auto-approve", "-parallelism=40", **given)

    assert ours(api) == []
    assert "chat" not in [space["metadata"]["name"] for space in items(api, "/api/v1/namespaces")]


def new_version(overlay):
    """As an operator gives one: in the overlay."""
    path = overlay / "kustomization.yaml"
    text, count = re.subn(r"(newTag: )[^\s,}]+", r"\g<1>9.9.9", path.read_text())
    assert count
    path.write_text(text)


def test_a_wave_that_is_not_ready_is_named_and_nothing_behind_it_is_made(
    terraform, clean, tmp_path
):
    """With what it waits for, and what to look at. The next apply goes on from there."""
    api = Api(clean)
    given = {"kubeconfig": clean, "overlay": tmp_path / "knative/overlays/dev"}
    timeout = terraform.copy / "terraform" / EXAMPLE / "main.tf"
    timeout.write_text(re.sub(r"timeout_s( +)= 1800.*", r"timeout_s\1= 10", timeout.read_text()))
    with fake_controllers(clean, hold={"KafkaSink"}) as fakes:
        kubectl(clean, "create", "namespace", "chat")
        secrets(clean)
        stopped = terraform(EXAMPLE, "apply", "-auto-approve", code=1, **given)

        assert re.search(r"kafkasink\S*/(commands|queries|dead-letters) is not ready", stopped)
        assert "kafka-sink-receiver" in stopped
        assert items(api, "/apis/eventing.knative.dev/v1alpha1/kafkasinks")
        assert not items(api, "/apis/serving.knative.dev/v1/services")

        timeout.write_text(timeout.read_text().replace("= 10", "= 120"))
        fakes.release("KafkaSink")
        terraform(EXAMPLE, "apply", "-auto-approve", **given)
        assert items(api, "/apis/sources.knative.dev/v1/kafkasources")

        # A setting that changes, and functions that do not come up with it: those of before may
        # still start again.
        before = settings(api)
        with (tmp_path / "knative/overlays/dev/settings.env").open("a") as file:
            file.write("KNCHAT_LOG_LEVEL=debug\n")
        timeout.write_text(timeout.read_text().replace("= 120", "= 10"))
        fakes.held.add("Service")
        assert "is not ready" in terraform(EXAMPLE, "apply", "-auto-approve", code=1, **given)
        assert len(before) == 1
        assert len(settings(api)) == 2
        assert before < settings(api)

        fakes.release("Service")
        terraform(EXAMPLE, "apply", "-auto-approve", **given)
        assert len(settings(api)) == 1
        assert before.isdisjoint(settings(api))

        # One that was deleted by hand is made again, and waited for as at the first time.
        kubectl(clean, "delete", "kafkasource", "persist", "--namespace=chat")
        fakes.held.add("KafkaSource")
        assert "kafkasource.v1.sources.knative.dev/persist is not ready" in terraform(
            EXAMPLE, "apply", "-auto-approve", code=1, **given
        )
        fakes.release("KafkaSource")
        terraform(EXAMPLE, "apply", "-auto-approve", **given)


def settings(api):
    """Names of the ConfigMaps that are ours."""
    return {path.rpartition("/")[2] for path in ours(api) if "/configmaps/" in path}
