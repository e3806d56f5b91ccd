"""`kn-chat doctor` on a real API server: all is well after a deploy, and each planted mistake is
found and told what to do about.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from backends.log import ProducerRecord
from backends.settings import Settings
from backends.wiring import Backends
from clusters.api import Api
from knchat.operate.doctor import CHECKS
from schemas.cloudevents import Event
from schemas.topics import DEAD_LETTERS
from tests.deploy.cluster import sweep
from tests.deploy.controllers import fake_controllers
from tests.deploy.doctor_mistakes import ELSEWHERE, MISTAKES, SETTINGS, Mistake, setting
from tests.deploy.installation import Installation
from tests.support.servers import free_port


@pytest.fixture(scope="module")
def installed(cluster, tmp_path_factory):
    """The overlay for development, deployed; and the fake controllers, which go on."""
    here = Installation(cluster, tmp_path_factory.mktemp("installed"))
    here.prepare()
    with fake_controllers(cluster) as fakes:
        deployed = here.knchat("deploy", here.overlay("0.1.0"), "--timeout", "120")
        assert deployed.code == 0, deployed.err
        here.fakes = fakes
        yield here
        fakes.held.clear()
        removed = here.knchat("remove", "--yes", "--timeout", "120")
    sweep(Api(cluster))
    assert removed.code == 0, removed.err


@pytest.fixture
def away_kafka(monkeypatch):
    """No brokers in the environment."""
    monkeypatch.delenv("KNCHAT_KAFKA", raising=False)


def findings(ran):
    """Check -> its findings, of a `doctor --json`."""
    return {
        check["name"]: check["findings"]
        for check in json.loads(ran.out)["checks"]
        if check["findings"]
    }


def settled(installed):
    """Waits until nothing is found, as after the mistake before; what is found at the end."""
    deadline = time.monotonic() + 30
    while True:
        ran = installed.knchat("doctor", "--json")
        if ran.code == 0 or time.monotonic() > deadline:
            return ran
        time.sleep(0.5)


def test_all_is_well_after_a_deploy(installed, away_kafka):
    """No false alarm; what was not asked is said to be so."""
    assert findings(settled(installed)) == {}
    ran = installed.knchat("doctor")

    assert ran.code == 0
    assert "all is well" in ran.err
    assert "-    topics-in-kafka      not asked: KNCHAT_KAFKA says no brokers" in ran.out
    assert "-    store-unavailable    not asked: no --http, no --gateway" in ran.out


def put_back(installed, saved):
    """kubectl asks for the object's version before it writes: a controller that writes a status in
    between makes it a conflict.
    """
    for _ in range(20):
        if installed.kubectl("replace", "-f", "-", stdin=json.dumps(saved), check=False):
            return
        time.sleep(0.2)
    raise AssertionError(saved)


@contextmanager
def planted(installed, mistake):
    """The mistake, and afterwards all as before."""
    where = ("-n", mistake.space)
    thing = mistake.thing if mistake.thing != SETTINGS else installed.settings()
    saved = installed.get(thing, *where)
    del saved["metadata"]["resourceVersion"]
    installed.fakes.held.update(mistake.hold)
    try:
        if mistake.patch is None:
            installed.kubectl("delete", thing, *where)
        else:
            sub = ["--subresource=status"] if mistake.status else []
            installed.kubectl(
                "patch", thing, *where, "--type=json", "-p", json.dumps(mistake.patch), *sub
            )
        yield
    finally:
        if thing.startswith("pod/"):
            pass  # its owner has made another one
        elif installed.get(thing, *where):
            put_back(installed, saved)
        else:
            for field in ("uid", "ownerReferences", "finalizers", "generation"):
                saved["metadata"].pop(field, None)
            if saved["kind"] == "Job":
                saved["spec"].pop("selector")
                saved["spec"]["template"]["metadata"].pop("labels")
            installed.kubectl("create", "-f", "-", stdin=json.dumps(saved))
        installed.fakes.held.difference_update(mistake.hold)


@pytest.mark.parametrize(
    "mistake", MISTAKES, ids=lambda mistake: f"{mistake.check}-{mistake.thing.rpartition('/')[2]}"
)
def test_a_planted_mistake_is_found(installed, away_kafka, mistake):
    """By its check, with words that say what to do and where to read on; the exit code tells a
    script.
    """
    with planted(installed, mistake):
        ran = installed.knchat("doctor")

    assert ran.code == 6
    lines = [line for line in ran.out.splitlines() if line.startswith(f"BAD  {mistake.check} ")]
    assert mistake.said in "\n".join(lines), ran.out
    assert f"more: docs/operations/runbook.md#{mistake.check}" in ran.out
    assert "to set right" in ran.err


@contextmanager
def function(target, folder, **environ):
    """A process of a function, as in production; its base URL."""
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "uvicorn",
            "functions.runtime.asgi:app",
            "--port",
            str(port),
            "--log-level",
            "warning",
        ],
        env={**os.environ, "FUNCTION_TARGET": target, "KNCHAT_DATA": str(folder), **environ},
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_processes_that_have_all_they_need_are_well(installed, away_kafka, tmp_path):
    """Their clock is ours."""
    assert findings(settled(installed)) == {}
    with function("accounts", tmp_path) as url:
        ran = installed.knchat("doctor", "--http", url, "--json")

    assert findings(ran) == {}


def test_an_unreachable_store_is_found(installed, away_kafka, tmp_path):
    """The process names it."""
    with function(
        "accounts", tmp_path, KNCHAT_DATABASE="postgresql://knchat@127.0.0.1:1/knchat"
    ) as url:
        ran = installed.knchat("doctor", "--http", url)

    assert ran.code == 6
    assert (
        f"BAD  store-unavailable    {url} is not ready: accounts (sql), clock: see that what it "
        "names runs" in ran.out
    ), ran.out


def test_a_store_of_a_newer_version_is_found(installed, away_kafka, tmp_path):
    """It is told from one that is unavailable, since waiting does not help."""
    with function("accounts", tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "data.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'later'")
        database.commit()
    with function("accounts", tmp_path) as url:
        found = findings(installed.knchat("doctor", "--http", url, "--json"))

    assert "made by a newer kn-chat" in found["schema"][0]["wrong"]
    assert "store-unavailable" not in found


def test_a_process_that_does_not_answer_is_found(installed, away_kafka):
    """A gateway by its address for clients, too."""
    ran = installed.knchat("doctor", "--gateway", "ws://127.0.0.1:1/v1/socket")

    assert ran.code == 6
    assert "store-unavailable    http://127.0.0.1:1 does not answer" in ran.out


@pytest.mark.parametrize(
    ("off_s", "said"), [(90, "s ahead of this machine's"), (-90, "s behind this machine's")]
)
def test_a_clock_that_is_off_is_found(installed, away_kafka, off_s, said):
    """By the date of an answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response_only(200)
            self.send_header(
                "Date", format_datetime(datetime.now(UTC) + timedelta(seconds=off_s), usegmt=True)
            )
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        ran = installed.knchat("doctor", "--gateway", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()

    assert ran.code == 6
    assert said in ran.out
    assert "docs/operations/runbook.md#clock" in ran.out


@pytest.fixture
def kafka(kafka_settings, monkeypatch):
    """The real Kafka, with our topics as `kn-chat topics create` makes them for development."""
    monkeypatch.setenv("KNCHAT_KAFKA", ",".join(kafka_settings["kafka"]))
    settings = Settings(
        log="kafka",
        kafka=kafka_settings["kafka"],
        kafka_replication=1,
        event_keys=(b"0123456789abcdef",),
    )

    async def act(work):
        backends = Backends(settings)
        try:
            return await work(backends)
        finally:
            await backends.close()

    asyncio.run(act(lambda backends: backends.topics.create()))
    return lambda work: asyncio.run(act(work))


def test_dead_letters_that_come_are_found(installed, kafka):
    """With how many there are, and how old the newest is."""
    event = Event(id="1", source="/tests", type="tests", data=base64.b64decode(b"AAAA"))
    kafka(lambda backends: backends.appends.append([ProducerRecord(DEAD_LETTERS, event)]))
    found = findings(installed.knchat("doctor", "--json"))

    assert found["dead-letters"][0]["where"] == "chat-dead-letters"
    assert "kn-chat dead-letters list" in found["dead-letters"][0]["do"]
    assert "topics-in-kafka" not in found


def test_a_topic_that_kafka_has_otherwise_is_found(installed, kafka):
    """Whatever its KafkaTopic asks for."""
    other = Mistake(
        "topics-in-kafka", SETTINGS, setting("/data/KNCHAT_DELIVERY_PARTITIONS", "48"), ""
    )
    with planted(installed, other):
        found = findings(installed.knchat("doctor", "--json"))

    assert {"chat-deliveries", "session-deliveries"} == {
        finding["where"] for finding in found["topics-in-kafka"]
    }
    assert "not the 48 of KNCHAT_DELIVERY_PARTITIONS" in found["topics-in-kafka"][0]["wrong"]


def test_a_kafka_that_cannot_be_asked_is_found(installed, monkeypatch):
    """The operator has named it, so it ought to answer."""
    monkeypatch.setenv("KNCHAT_KAFKA", "127.0.0.1:1")
    ran = installed.knchat("doctor")

    assert ran.code == 6
    assert "BAD  topics-in-kafka      Kafka cannot be asked" in ran.out


def test_a_kind_that_the_cluster_does_not_know_is_found(installed, away_kafka):
    """What installs it is named; `deploy` says the same.

    The objects of the kind went with it, so a deploy brings them back.
    """
    definition = "referencegrants.gateway.networking.k8s.io"
    saved = installed.get("customresourcedefinition", definition)
    for field in ("resourceVersion", "uid", "generation"):
        del saved["metadata"][field]
    installed.kubectl("delete", "customresourcedefinition", definition)
    ran, deployed = (
        installed.knchat("doctor"),
        installed.knchat("deploy", installed.overlay("0.1.0")),
    )
    installed.kubectl("create", "-f", "-", stdin=json.dumps(saved))
    installed.kubectl(
        "wait",
        "--for=condition=Established",
        f"customresourcedefinition/{definition}",
        "--timeout=60s",
    )
    # The tests above have replaced objects by kubectl, which makes it the owner of their fields.
    conflict = installed.knchat("deploy", installed.overlay("0.1.0"), "--timeout", "120")
    again = installed.knchat(
        "deploy", installed.overlay("0.1.0"), "--timeout", "120", "--force-conflicts"
    )

    assert (
        f"BAD  definitions          {definition} is unknown to the cluster: install the Gateway API"
        in ran.out
    )
    assert deployed.code == 1
    assert "the cluster knows no ReferenceGrant (gateway.networking.k8s.io/v1" in deployed.err
    assert conflict.code == 1
    assert 'conflict with "kubectl-replace"' in conflict.err
    assert "Another tool has set them; --force-conflicts takes them over" in conflict.err
    assert again.code == 0, again.err


def test_a_mistake_is_planted_for_each_check():
    """None is there that never found anything."""
    assert {mistake.check for mistake in MISTAKES} | set(ELSEWHERE) == {
        check.name for check in CHECKS
    }
