"""`scripts/services`: servers come up once, are found again by any process, keep their data over
kill -9, and end by pid.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing

import pg8000.native
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from servers.place import HOST, USER, Failed, Place
from servers.process import Process
from servers.services import Services

pytestmark = pytest.mark.real


@pytest.fixture
def services(tmp_path):
    """A set of our own, wiped afterwards; its path needs quoting wherever it is written."""
    services = Services(tmp_path / "a set", brief=True)
    yield services
    for name in ("redis", "postgres", "kafka"):
        services.wipe(name)


def run(services, *arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "servers", *arguments, "--folder", services.folder],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
    )


def test_up_starts_once_and_every_process_sees_the_same_server(services):
    """A second `up` says so; status, down and the environment file know it from
    the folder alone.
    """
    up = run(services, "up", "redis")
    process, port = services.process("redis"), services.place("redis").port()
    again = run(services, "up", "redis")
    status = run(services, "status", "redis", "--json")
    down = run(services, "down", "redis")

    assert (up.returncode, again.returncode, status.returncode, down.returncode) == (0, 0, 0, 0)
    assert f"redis: ready on port {port}" in up.stderr
    assert again.stderr == f"kn-chat: redis: runs already on port {port}\n"
    assert json.loads(status.stdout) | {"memory_bytes": 0} == {
        "name": "redis",
        "port": port,
        "pid": process.pid,
        "memory_bytes": 0,
        "state": "ready",
    }
    assert json.loads(status.stdout)["memory_bytes"] > 2**20
    assert (
        services.folder / "services.env"
    ).read_text() == f"KNCHAT_REDIS=redis://127.0.0.1:{port}/0\n"
    assert not process.alive()
    assert run(services, "status", "redis").returncode == 1


def test_two_that_start_the_same_server_get_one(services):
    """The second waits for the first."""
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(services.start("redis"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_paused_server_is_not_ready_and_comes_back(services):
    """Connections to it open and nothing answers; `up` says what holds it up."""
    services.start("redis")
    services.pause("redis")
    paused = services.status("redis")
    up = run(services, "up", "redis")
    services.resume("redis")

    assert paused.process == services.process("redis")
    assert not paused.ready
    assert (up.returncode, "is paused: kill -CONT" in up.stderr) == (1, True)
    assert services.status("redis").ready


def test_a_paused_server_can_be_stopped(services):
    """It is woken to hear that it should end."""
    process = services.start("redis")
    services.pause("redis")
    services.stop("redis")

    assert not process.alive()


def test_a_pid_that_another_process_has_meanwhile_is_left_alone(services):
    """After a restart of the machine the file may name any process."""
    services.start("redis")
    services.kill("redis")
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with stranger:
        Process(stranger.pid, 1).write(services.place("redis").folder / "pid")
        services.stop("redis")

        assert services.process("redis") is None
        assert stranger.poll() is None
        with pytest.raises(Failed, match="redis does not run"):
            services.kill("redis")
        stranger.stdin.close()


def test_a_server_whose_port_was_taken_says_so(services):
    """It keeps its port for good, since clients know it; the way to another is named."""
    services.start("redis")
    port = services.place("redis").port()
    services.stop("redis")
    with closing(socket.create_server((HOST, port))):
        up = run(services, "up", "redis")

    assert up.returncode == 4
    assert f"port {port} was taken" in up.stderr


def test_a_server_that_cannot_start_shows_its_last_words(services):
    """And `up` fails at once, without waiting for the time limit."""
    services.start("redis")
    services.stop("redis")
    [file] = (services.place("redis").folder / "data" / "appendonlydir").glob("*.manifest")
    file.write_text("not a manifest\n")
    up = run(services, "up", "redis")

    assert up.returncode == 1
    assert "redis ended before it was ready" in up.stderr
    assert "manifest" in up.stderr
    assert "manifest" in run(services, "logs", "redis").stdout


def test_a_missing_package_is_one_line_to_run(services):
    """Nothing that could install it is on this PATH."""
    up = run(services, "up", "redis", PATH="")

    assert up.returncode == 3
    assert (
        up.stderr
        == "services: redis-server is missing; on Debian or Ubuntu: apt-get install redis-server\n"
    )


def test_a_name_that_is_no_server_is_wrong_usage(services):
    """The text names those there are."""
    up = run(services, "up", "mongo")

    assert up.returncode == 2
    assert "there are kafka, cassandra, postgres, redis" in up.stderr


def test_postgres_keeps_what_it_acknowledged_over_a_crash(services):
    """kill -9 of all its processes; it comes back on its port."""
    services.start("postgres")
    place = services.place("postgres")

    def ask(statement):
        with pg8000.native.Connection(
            USER, host=HOST, port=place.port(), password=place.password(), database=USER, timeout=5
        ) as connection:
            return connection.run(statement)

    ask("CREATE EXTENSION pg_trgm")
    ask("CREATE TABLE kept AS SELECT 7 AS number")
    services.kill("postgres")
    services.start("postgres")

    assert ask("SELECT number FROM kept") == [[7]]
    assert ask("SHOW fsync") == [["on"]]
    with pytest.raises(pg8000.native.DatabaseError, match="password authentication failed"):
        pg8000.native.Connection(
            USER, host=HOST, port=place.port(), password="wrong", database=USER, timeout=5
        )


@pytest.mark.slow
def test_kafka_keeps_what_it_acknowledged_over_a_crash(services):
    """kill -9 of the only broker; it comes back on its port, and makes no topic by itself."""
    process = services.start("kafka")
    address = services.place("kafka").address
    with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        admin.create_topics([NewTopic(name="kept", num_partitions=1, replication_factor=1)])
    with closing(KafkaProducer(bootstrap_servers=address, acks="all")) as producer:
        producer.send("kept", b"value").get(timeout=10)
    services.kill("kafka")
    again = services.start("kafka")

    assert again != process
    assert services.place("kafka").address == address
    with closing(
        KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
    ) as consumer:
        consumer.assign([TopicPartition("kept", 0)])
        records = consumer.poll(timeout_ms=10_000)
        assert [record.value for batch in records.values() for record in batch] == [b"value"]
        assert consumer.partitions_for_topic("not-made") in (None, set())


def test_a_process_that_does_not_end_is_killed(tmp_path):
    """It ignored what asked it to."""
    script = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', "
        "flush=True); signal.pause()"
    )
    stubborn = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    with stubborn:
        stubborn.stdout.readline()

        assert not Process.find(stubborn.pid).stop(signal.SIGTERM, timeout_s=0.2)


def test_clients_are_loaded_before_servers_start_in_threads():
    """Two threads that import drivers at once can wait for each other's modules: Python ends one of
    them with a deadlock.
    """
    ask = (
        "import sys, servers.services; print({'cassandra.cluster', 'kafka', 'pg8000.native', "
        "'redis'} <= sys.modules.keys())"
    )

    assert (
        subprocess.run(
            [sys.executable, "-c", ask], check=True, capture_output=True, text=True, timeout=60
        ).stdout
        == "True\n"
    )


def test_a_machine_whose_own_name_does_not_resolve_has_one_for_java(tmp_path, monkeypatch):
    """Cassandra asks for it and ends where there is no answer, as in a network namespace."""
    monkeypatch.setattr(socket, "gethostname", lambda: "nowhere-to-be-found")
    place = Place(tmp_path, "cassandra", secure=False)

    assert "127.0.0.1 localhost nowhere-to-be-found" in place.hosts().read_text()


def test_servers_of_one_set_choose_different_ports(tmp_path, monkeypatch):
    """A port is free to bind until its server has started, and all start at once."""
    monkeypatch.setattr("servers.place._PORTS", range(31_900, 31_904))
    one, other = (Place(tmp_path, name, secure=False) for name in ("one", "other"))
    one.choose_ports(["client", "controller"])
    other.choose_ports(["client", "jmx"])

    ports = [one.port(), one.port("controller"), other.port(), other.port("jmx")]
    assert sorted(ports) == [31_900, 31_901, 31_902, 31_903]
