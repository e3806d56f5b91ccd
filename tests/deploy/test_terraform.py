"""The stacks of `terraform/`, offline: format, our own rules by a parser, Terraform's validate and
test with the real provider kubectl.
"""

import json
import re
import subprocess

import hcl2
import pytest

from tests.deploy.crds import mistakes
from tests.deploy.stacks import STACKS, Terraform, copied, tool

FILES = sorted(
    path
    for pattern in ("*.tf", "*.hcl")
    for path in STACKS.rglob(pattern)
    if ".terraform" not in path.parts and path.name != ".terraform.lock.hcl"
)
EXAMPLES = sorted(str(path.relative_to(STACKS)) for path in STACKS.glob("*/examples/*"))
PROVIDERS = {"hashicorp/helm": "3.0.2", "gavinbunney/kubectl": "1.19.0"}
"""The whole list: source and the one version."""


def unquoted(value):
    """The parser leaves quotes on names and strings."""
    if isinstance(value, dict):
        return {
            unquoted(name): unquoted(item)
            for name, item in value.items()
            if not str(name).startswith("__")
        }
    if isinstance(value, list):
        return [unquoted(item) for item in value]
    return (
        value[1:-1]
        if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"'
        else value
    )


def parsed(text):
    return unquoted(hcl2.loads(text))


def named(text, block, depth=1):
    """(labels..., body) of each block of that name."""
    for item in parsed(text).get(block, []):
        for label, body in item.items():
            if depth == 1:
                yield label, body
            else:
                yield from ((label, name, inner) for name, inner in body.items())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(STACKS)))
def test_every_file_is_hcl(path):
    assert parsed(path.read_text())


def test_files_are_formatted():
    done = subprocess.run(
        [tool("terraform"), "fmt", "-check", "-recursive", "-diff", STACKS],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "path", sorted(STACKS.rglob("versions.tf")), ids=lambda path: str(path.relative_to(STACKS))
)
def test_each_module_pins_its_providers(path):
    """To one version, and the source is spelt as the published provider's: another one is a
    program of another author.
    """
    (terraform,) = parsed(path.read_text())["terraform"]
    pins = {
        pin["source"]: pin["version"]
        for group in terraform.get("required_providers", [])
        for pin in group.values()
    }

    assert pins.items() <= PROVIDERS.items()
    assert terraform["required_version"] == ">= 1.9, < 2.0"


@pytest.mark.parametrize(
    "path", sorted(STACKS.rglob("*.tf")), ids=lambda path: str(path.relative_to(STACKS))
)
def test_variables_and_outputs_explain_themselves(path):
    """Type, description, and validations that say what would be right."""
    text = path.read_text()
    for name, body in named(text, "variable"):
        assert body.get("type"), name
        assert len(body.get("description", "")) > 15, name
        for validation in body.get("validation", []):
            assert len(validation["error_message"]) > 40, name
    for name, body in named(text, "output"):
        assert len(body.get("description", "")) > 10, name


def wrong_charts(text):
    """What is wrong with a helm.tf: each release has one version of its chart, is rolled back when
    it fails, and has a limit of time.
    """
    found = []
    (charts,) = (item["charts"] for item in parsed(text)["locals"])
    for name, chart in charts.items():
        if not re.fullmatch(
            r"v?(\d+\.\d+\.\d+|\$\{local\.knative_version\})", chart.get("version", "")
        ):
            found.append(f"{name}: version {chart.get('version')}")
        if not re.match(r"(https|oci)://", chart.get("repository", "")):
            found.append(f"{name}: repository {chart.get('repository')}")
    for kind, name, release in named(text, "resource", depth=2):
        if kind != "helm_release":
            continue
        if release.get("version") != "${each.value.version}" and not re.fullmatch(
            r"v?\d+\.\d+\.\d+", release.get("version", "")
        ):
            found.append(f"{name}: version {release.get('version')}")
        found += [
            f"{name}: {field} is not true"
            for field in ("atomic", "wait", "create_namespace")
            if release.get(field) is not True
        ]
        if release.get("timeout") != "${var.timeout_s}":
            found.append(f"{name}: timeout {release.get('timeout')}")
    return found


HELM = STACKS / "platform/helm.tf"


def test_charts_are_pinned_and_end():
    assert not wrong_charts(HELM.read_text())


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        ('version    = "v1.21.2"', 'version    = ">= 1.21"', "cert-manager: version >= 1.21"),
        ('version    = "0.29.0"\n', "", "cloudnative-pg: version None"),
        (
            "https://valkey.io",
            "http://valkey.io",
            "valkey: repository http://valkey.io/valkey-helm/",
        ),
        ('version          = "0.55.2"\n', "", "cass_operator: version None"),
        ("  atomic           = true\n", "", "cass_operator: atomic is not true"),
        ("  timeout          = var.timeout_s\n", "", "chart: timeout None"),
    ],
)
def test_a_mistake_in_a_chart_is_found(right, wrong, found):
    """The rules can fail."""
    text = HELM.read_text()
    assert right in text

    assert found in wrong_charts(text.replace(right, wrong))


def test_only_files_named_helm_need_the_provider_helm():
    """So that all the rest is checked where that provider cannot be had."""
    for path in STACKS.rglob("*.tf"):
        if path.name not in {"helm.tf", "versions.tf"}:
            assert "helm_release" not in re.sub(r"#.*", "", path.read_text()), path


@pytest.fixture(scope="module")
def terraform(tmp_path_factory):
    return Terraform(copied(tmp_path_factory.mktemp("stacks")))


@pytest.mark.parametrize("stack", ["app", "platform"])
def test_stacks_are_valid_and_pass_their_tests(terraform, stack):
    """`terraform validate` and `terraform test`, the planted mistakes included."""
    terraform.init(stack)

    assert "Success!" in terraform(stack, "validate")
    assert re.search(r"Success! [1-9]\d+ passed, 0 failed\.", terraform(stack, "test"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_valid(terraform, example):
    terraform.init(example)

    assert "Success!" in terraform(example, "validate")


@pytest.mark.parametrize("overlay", ["dev", "production"])
def test_every_object_of_an_overlay_is_planned_once(terraform, overlay, tmp_path):
    """By the real provider's own kustomize, which is not kubectl's: both render
    the same objects.
    """
    example = "app/examples/production"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
            }
        )
    )
    folder = terraform.copy / "knative/overlays" / overlay
    rendered = subprocess.run(
        [tool("kubectl"), "kustomize", folder],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split("\n---\n")
    terraform.init(example)
    terraform(example, "plan", f"-out={tmp_path / 'plan'}", overlay=folder, kubeconfig=kubeconfig)
    plan = json.loads(terraform(example, "show", "-json", str(tmp_path / "plan")))

    created = [
        change["change"]["after"]
        for change in plan["resource_changes"]
        if change["type"] == "kubectl_manifest"
    ]
    assert len(created) == len(rendered)
    assert sum(map(len, plan["planned_values"]["outputs"]["waves"]["value"].values())) == len(
        rendered
    )


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"replicas": 1, "kafka_secure": "false"},
        {"storage_class": "fast", "acme_email": "ops@example.org"},
    ],
    ids=["default", "small", "more"],
)
def test_objects_of_the_platform_fit_their_definitions(terraform, given):
    """Kafka's and gateway-api's; the definitions of Knative's operator, cert-manager and the
    stores' operators are not to be had here.
    """
    terraform.init("platform")
    said = terraform(
        "platform",
        "console",
        stdin="jsonencode(local.objects)\n",
        kubeconfig="versions.tf",
        **given,
    )
    objects = json.loads(json.loads(said))
    checked = [
        thing
        for thing in objects.values()
        if thing["kind"] in {"Kafka", "KafkaNodePool", "GatewayClass"}
    ]

    assert len(checked) == 3
    assert [line for thing in checked for line in mistakes(thing)] == []
    checked[0]["spec"]["misspelt"] = True
    assert len(mistakes(checked[0])) == 1


SHIPPED = {
    ("kafka-source-data-plane", "config-kafka-source-consumer.properties"): """
        cloudevent.invalid.transformer.enabled cloudevent.invalid.kind.plural key.deserializer
        value.deserializer fetch.min.bytes heartbeat.interval.ms max.partition.fetch.bytes
        session.timeout.ms allow.auto.create.topics auto.offset.reset client.dns.lookup
        connections.max.idle.ms default.api.timeout.ms enable.auto.commit exclude.internal.topics
        fetch.max.bytes isolation.level max.poll.interval.ms max.poll.records
        partition.assignment.strategy receive.buffer.bytes request.timeout.ms security.protocol
        send.buffer.bytes auto.commit.interval.ms check.crcs fetch.max.wait.ms metadata.max.age.ms
        metrics.recording.level reconnect.backoff.max.ms retry.backoff.ms""",
    ("kafka-sink-data-plane", "config-kafka-sink-producer.properties"): """
        key.serializer value.serializer acks buffer.memory retries batch.size client.dns.lookup
        connections.max.idle.ms delivery.timeout.ms linger.ms max.block.ms max.request.size
        receive.buffer.bytes request.timeout.ms enable.idempotence
        max.in.flight.requests.per.connection metadata.max.age.ms metrics.num.samples
        metrics.recording.level metrics.sample.window.ms reconnect.backoff.max.ms
        reconnect.backoff.ms retry.backoff.ms""",
}
"""The keys of each properties file that we replace, as eventing-kafka-broker ships it
(data-plane/config, July 2026).
"""


def properties(text):
    return dict(
        line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#")
    )


@pytest.mark.parametrize("place", SHIPPED, ids=lambda place: place[1])
def test_a_file_of_the_data_plane_that_is_replaced_lacks_nothing_that_is_shipped(terraform, place):
    """An override that replaces a whole file must not drop a line of it: records that are no
    CloudEvents vanished that way.
    """
    terraform.init("platform")
    said = terraform(
        "platform",
        "console",
        stdin='jsonencode(local.objects["knative-eventing"].spec.config)\n',
        kubeconfig="versions.tf",
    )
    config = json.loads(json.loads(said))

    ours = properties(config[place[0]][place[1]])
    assert set(SHIPPED[place].split()) - ours.keys() == set()
    assert {
        (config_map, name) for config_map, files in config.items() for name in files
    } == SHIPPED.keys()


def test_a_record_that_is_no_cloudevent_becomes_a_dead_letter(terraform):
    """The data plane wraps it only where it is told to, and as what."""
    terraform.init("platform")
    said = terraform(
        "platform", "console", stdin="jsonencode(local.kafka_consumer)\n", kubeconfig="versions.tf"
    )

    wrapped = {
        "cloudevent.invalid.transformer.enabled": "true",
        "cloudevent.invalid.kind.plural": "kafkasources",
    }
    assert wrapped.items() <= properties(json.loads(json.loads(said))).items()
