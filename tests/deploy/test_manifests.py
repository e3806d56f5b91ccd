"""The overlays in knative/: they build, the real schemas take every object, and the rules that
no API server checks hold.

Each rule is shown to fail: MISTAKES plants one of what it is there for into a good overlay.
"""

import re

import pytest

from knchat.__main__ import main
from tests.deploy import crds, rules
from tests.deploy.manifest_mistakes import MISTAKES, put
from tests.deploy.overlays import KIND, OVERLAYS, ROOT, of_kind, one, rendered, settings

overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def test_there_are_the_two_overlays():
    """One to try out, one to copy."""
    assert list(OVERLAYS) == ["dev", "production"]


@overlays
def test_every_object_is_taken_by_its_real_schema(overlay):
    """Strictly: a field that the schema does not have is an error."""
    assert [line for thing in rendered(overlay) for line in crds.mistakes(thing)] == []


def test_the_stores_for_kind_are_taken_and_have_the_addresses_of_dev():
    """Services of the names that the overlay's settings lead to."""
    things = rendered(KIND)
    (kafka,) = of_kind(things, "Kafka")
    given = settings(rendered("dev"))
    places = {
        f"{thing['metadata']['name']}.stores.svc:{thing['spec']['ports'][0]['port']}"
        for thing in of_kind(things, "Service")
    }

    assert [line for thing in things for line in crds.mistakes(thing)] == []
    assert places == {
        re.search(r"[a-z.-]+:[0-9]+(?=/)", given[key])[0]
        for key in ("KNCHAT_DATABASE", "KNCHAT_REDIS")
    }
    named, port = kafka["metadata"]["name"], kafka["spec"]["kafka"]["listeners"][0]["port"]
    assert given["KNCHAT_KAFKA"] == f"{named}-kafka-bootstrap.kafka.svc:{port}"


@overlays
@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_overlay_keeps_the_rule(overlay, rule):
    """What no schema says."""
    assert list(rule(rendered(overlay))) == []


@overlays
def test_the_hosts_are_those_that_are_printed(overlay, capsys):
    """hosts.yaml is what `kn-chat hosts` says for the domain of KNCHAT_PUBLIC_URL and the number of
    gateways.
    """
    things = rendered(overlay)
    domain = re.fullmatch(
        r"wss://gw-\{ordinal\}\.(.+)/v1/socket", settings(things)["KNCHAT_PUBLIC_URL"]
    )[1]
    gateways = one(things, "StatefulSet", "gateway")["spec"]["replicas"]

    assert main(["hosts", "--domain", domain, "--gateways", str(gateways)]) == 0
    assert capsys.readouterr().out == (OVERLAYS[overlay] / "hosts.yaml").read_text()


@pytest.mark.parametrize(
    "words",
    [
        ["--domain", "example.org", "--gateways", "0"],
        ["--domain", "example.org", "--gateways", "63"],
        ["--domain", "https://example.org", "--gateways", "1"],
        ["--domain", "example", "--gateways", "1"],
        ["--domain", "example.org", "--gateways", "1", "--ingress", "kourier-internal"],
        ["--domain", "example.org", "--gateways", "1", "--namespace", "a: b"],
    ],
)
def test_hosts_refuses_what_no_cluster_would_take(words, capsys):
    """In one line, with the exit code for a wrong word."""
    assert main(["hosts", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_hosts_of_another_ingress_and_namespace(capsys):
    """Everything that is named follows."""
    main(
        [
            "hosts",
            "--domain",
            "example.org",
            "--gateways",
            "2",
            "--namespace",
            "talk",
            "--ingress",
            "kourier-system/kourier-internal",
        ]
    )
    text = capsys.readouterr().out

    assert 'hostname: "accounts.talk.svc.cluster.local"' in text
    assert '  namespace: "kourier-system"' in text
    assert "knative-serving" not in text
    assert '"chat.example.org"' in text
    assert text.count('"gw-1.example.org"') == 2


def test_the_readme_says_what_each_file_is_for():
    """Each file of knative/ is in the table once, and nothing else is."""
    named = re.findall(
        r"^\| `([^`]+)` \|",
        (ROOT / "knative/README.md").read_text().partition("\n## Files\n")[2],
        re.MULTILINE,
    )
    files = {
        path.relative_to(ROOT / "knative").as_posix()
        for path in (ROOT / "knative").rglob("*")
        if path.is_file()
    }

    assert sorted(named) == sorted(files - {"README.md"})


def test_no_file_is_left_out_of_its_kustomization():
    """A manifest that no kustomization names is never applied."""
    for path in (ROOT / "knative").rglob("*.yaml"):
        if (
            path.parent.joinpath("kustomization.yaml").exists()
            and path.name != "kustomization.yaml"
        ):
            assert path.name in path.with_name("kustomization.yaml").read_text(), path


@pytest.mark.parametrize(
    ("kind", "named", "path", "value"),
    [
        ("Function", "send", "spec.template.spec.containers.0.imagee", "x"),
        ("Function", "send", "spec.template.spec.containers.0.readinessProbe.failureThresholds", 1),
        ("Function", "send", "spec.template.spec.terminationGracePeriodSeconds", 60),
        ("KafkaSource", "send", "spec.delivery.retr", 3),
        ("KafkaSource", "send", "spec.delivery.retry", "3"),
        ("KafkaSource", "send", "spec.sink.ref.nam", "send"),
        ("KafkaSink", "commands", "spec.contentMode", "both"),
        ("KafkaSink", "commands", "spec.bootstrapServers", "kafka:9092"),
        ("SinkBinding", "gateway", "spec.subjects", {}),
        ("KafkaTopic", "chat-commands", "spec.partition", 3),
        ("HTTPRoute", "api", "spec.rules.0.match", []),
        ("Gateway", "chat", "spec.listeners.0.protocoll", "HTTP"),
        ("StatefulSet", "gateway", "spec.template.spec.containers.0.lifecycle.preStop.sleeps", {}),
        ("StatefulSet", "gateway", "spec.replicas", "three"),
        ("NetworkPolicy", "functions", "spec.ingres", []),
        ("PodDisruptionBudget", "gateway", "spec.maxUnavailabel", 1),
        ("Job", "migrate", "spec.backofLimit", 1),
        ("CronJob", "audit", "spec.scheduled", "* * * * *"),
    ],
)
def test_the_schemas_refuse_what_is_misspelt(kind, named, path, value):
    """At any depth, for every kind."""
    thing = one(rendered("production"), kind, named)
    put(thing, path, value)

    assert crds.mistakes(thing) != []


def test_every_rule_has_its_mistakes():
    """A rule that was never seen to fail proves nothing."""
    assert list(MISTAKES) == rules.RULES


@pytest.mark.parametrize(
    ("rule", "number"),
    [(rule, number) for rule, mistakes in MISTAKES.items() for number in range(len(mistakes))],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_the_rule_finds_the_mistake(rule, number):
    """Planted into the production overlay."""
    things = rendered("production")
    MISTAKES[rule][number](things)

    assert list(rule(things)) != []


def test_only_the_overlay_for_trials_is_insecure():
    """Clear text and unsigned events are nothing that production asks for."""
    assert settings(rendered("dev"))["KNCHAT_INSECURE"] == "1"
    assert "KNCHAT_INSECURE" not in settings(rendered("production"))
