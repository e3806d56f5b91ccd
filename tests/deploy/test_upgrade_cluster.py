"""`kn-chat upgrade`, `status` and `remove` on a real API server, and what canaries are rolled back
for.

Knative's and Strimzi's controllers are fakes.
"""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from backends.log import ProducerRecord
from backends.settings import Settings
from backends.wiring import Backends
from schemas.cloudevents import Event
from schemas.topics import DEAD_LETTERS, TOPICS
from tests.deploy.controllers import fake_controllers
from tests.deploy.installation import Installation

FUNCTIONS = (
    "accounts",
    "chats",
    "files",
    "history",
    "index",
    "persist",
    "report-lost",
    "resize",
    "send",
)


@pytest.fixture
def installation(clean, tmp_path, monkeypatch):
    """An empty cluster, and kn-chat to install into it."""
    monkeypatch.delenv("KNCHAT_KAFKA", raising=False)
    here = Installation(clean, tmp_path)
    yield here
    here.stop_all()


@pytest.fixture
def fakes(clean):
    """The fake controllers."""
    with fake_controllers(clean) as fakes:
        yield fakes


@pytest.fixture
def deployed(installation, fakes):
    """Version 0.1.0, ready."""
    installation.prepare()
    ran = installation.knchat("deploy", installation.overlay("0.1.0"), "--timeout", "120")
    assert ran.code == 0, ran.err
    return installation


def service(installation, name="send"):
    return installation.get("services.serving.knative.dev", name, "-n", "chat")


def image(thing):
    return thing["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2]


def until(question, *, within_s=60):
    """What it answers, once that is true."""
    deadline = time.monotonic() + within_s
    while not (answer := question()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return answer


def test_a_dry_run_is_checked_by_the_server_and_keeps_nothing(installation):
    """Once the namespaces and Secrets are there."""
    installation.prepare()
    ran = installation.knchat("deploy", installation.overlay("0.1.0"), "--dry-run")

    assert ran.code == 0, ran.err
    assert "KafkaTopic kafka/chat-commands made" in ran.err
    assert "nothing was changed: this was a dry run" in ran.err
    assert installation.get("kafkatopics", "-A") is None


def test_status_shows_what_serves(deployed):
    """Objects, revisions and gateways; a code for scripts, and JSON."""
    ran = deployed.knchat("status")

    assert ran.code == 0, ran.out
    for line in (
        r"5     KafkaSource chat/send",
        "send-00001",
        "gateway-0",
        "ghcr.io/kn-chat/functions:0.1.0",
    ):
        assert line in ran.out
    assert "KNCHAT_KAFKA says no brokers" in ran.err
    told = json.loads(deployed.knchat("status", "--json").out)
    assert {row["waits_for"] for row in told["objects"]} == {""}
    assert {row["function"] for row in told["functions"]} == set(FUNCTIONS)


def test_status_of_an_empty_cluster_says_how_to_begin(installation):
    """Nothing is there to show."""
    ran = installation.knchat("status")

    assert ran.code == 1
    assert "kn-chat deploy OVERLAY" in ran.err


def test_upgrade_migrates_then_moves_functions_then_gateways(deployed):
    """Each function by a canary; at the end nothing is pinned, and a second upgrade finds nothing
    to do.
    """
    job = deployed.get("job", "migrate", "-n", "chat")["metadata"]["uid"]
    ran = deployed.knchat("upgrade", deployed.overlay("0.2.0"), "--hold", "1", "--timeout", "240")

    assert ran.code == 0, ran.err
    steps = [
        "Job chat/migrate is deleted and made again",
        "Service chat/send: 10 % to the new revision, 90 % to send-00001",
    ]
    steps += [
        "Service chat/send: all to the new revision",
        "StatefulSet chat/gateway: one pod at a time",
        "wave 5",
    ]
    places = [ran.err.find(step) for step in steps]
    assert -1 not in places, ran.err
    assert places == sorted(places)
    assert deployed.get("job", "migrate", "-n", "chat")["metadata"]["uid"] != job
    for name in FUNCTIONS:
        assert image(service(deployed, name)) == "0.2.0"
        assert "traffic" not in service(deployed, name)["spec"]
    assert image(deployed.get("statefulset", "gateway", "-n", "chat")) == "0.2.0"

    again = deployed.knchat("upgrade", deployed.overlay("0.2.0"), "--hold", "1")
    assert again.code == 0, again.err
    assert again.err.count("no new revision") == len(FUNCTIONS)
    assert "made again" not in again.err


def test_a_revision_that_fails_is_rolled_back(deployed, fakes):
    """Its function and those that were moved before serve the old ones again; doctor says so, and
    the next upgrade goes on.
    """
    fakes.held.add("Service")
    running = deployed.start(
        "upgrade", deployed.overlay("0.3.0"), "--hold", "1", "--timeout", "240"
    )
    name, old = until(
        lambda: next(
            (
                (one, at["metadata"]["generation"])
                for one in FUNCTIONS
                if "traffic" in (at := service(deployed, one))["spec"]
            ),
            None,
        )
    )
    failed = {
        "type": "ConfigurationsReady",
        "status": "False",
        "reason": "RevisionFailed",
        "message": "the image cannot be pulled",
    }
    status = {
        "observedGeneration": old,
        "latestCreatedRevisionName": f"{name}-00002",
        "conditions": [failed],
    }
    deployed.kubectl(
        "patch",
        "services.serving.knative.dev",
        name,
        "-n",
        "chat",
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": status}),
    )
    ran = running.end()

    assert ran.code == 1
    assert f"rolled back: Service chat/{name} did not do well" in ran.err
    assert "the image cannot be pulled" in ran.err
    assert service(deployed, name)["spec"]["traffic"] == [
        {"latestRevision": False, "revisionName": f"{name}-00001", "percent": 100}
    ]
    assert image(deployed.get("statefulset", "gateway", "-n", "chat")) == "0.1.0"
    assert f"sends 100 % of its calls to the revision {name}-00001" in deployed.knchat("doctor").out

    fakes.release("Service")
    until(lambda: service(deployed, name)["status"]["conditions"][0]["status"] == "True")
    again = deployed.knchat("upgrade", deployed.overlay("0.4.0"), "--hold", "0", "--timeout", "240")
    assert again.code == 0, again.err
    assert "traffic" not in service(deployed, name)["spec"]


def test_a_canary_that_makes_dead_letters_is_rolled_back(deployed, kafka_settings, monkeypatch):
    """They are counted in the real Kafka while it is watched."""
    monkeypatch.setenv("KNCHAT_KAFKA", ",".join(kafka_settings["kafka"]))
    settings = Settings(
        log="kafka",
        kafka=kafka_settings["kafka"],
        kafka_replication=1,
        event_keys=(b"0123456789abcdef",),
    )

    async def set_aside():
        backends = Backends(settings)
        try:
            await backends.topics.create()
            await backends.appends.append(
                [
                    ProducerRecord(
                        DEAD_LETTERS, Event(id="1", source="/tests", type="tests", data=b"\x08\x01")
                    )
                ]
            )
        finally:
            await backends.close()

    asyncio.run(set_aside())
    running = deployed.start(
        "upgrade", deployed.overlay("0.2.0"), "--hold", "60", "--timeout", "240"
    )
    running.err("watched for 60 s")
    asyncio.run(set_aside())
    ran = running.end()

    assert ran.code == 1
    assert "dead letters came meanwhile" in ran.err
    assert "back to " in ran.err


def test_upgrade_of_nothing_says_deploy(installation):
    """There is no old version to keep."""
    installation.prepare()
    ran = installation.knchat("upgrade", installation.overlay("0.1.0"))

    assert ran.code == 1
    assert "nothing is there to upgrade: kn-chat deploy" in ran.err


def test_remove_asks_and_keeps_topics_if_told(deployed):
    """Without a terminal it wants a yes; it says what topics hold; in the end nothing of ours is
    there.
    """
    asked = deployed.knchat("remove")

    assert asked.code == 2
    assert "WITH ALL THAT THEY HOLD: chat-commands" in asked.err
    assert "say --yes" in asked.err
    kept = deployed.knchat("remove", "--keep-topics", "--yes")
    assert kept.code == 0, kept.err
    assert kept.err.index("wave 5") < kept.err.index("wave 4") < kept.err.index("wave 1")
    assert len(deployed.get("kafkatopics", "-n", "kafka")["items"]) == len(TOPICS)
    assert deployed.get("namespace", "chat") is None

    gone = deployed.knchat("remove", "--yes")
    assert gone.code == 0, gone.err
    assert deployed.get("kafkatopics", "-A") is None
    assert "nothing of kn-chat is on the cluster" in deployed.knchat("remove").err


def test_remove_ends_with_what_holds_an_object(deployed, fakes):
    """A finalizer whose controller has gone."""
    fakes.held.add("KafkaSource")
    ran = deployed.knchat("remove", "--yes", "--timeout", "3")

    assert ran.code == 5
    assert "KafkaSource chat/send its end: held by kafkasources.sources.knative.dev" in ran.err
    fakes.release("KafkaSource")
