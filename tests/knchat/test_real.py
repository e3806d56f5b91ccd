"""`kn-chat dev --real` as its users drive it: what it starts, what it refuses, how it ends.

Children alone: test_processes.py.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from backends.coordination import PartitionOwner
from backends.settings import Settings
from backends.wiring import Backends
from functions.triggers import TRIGGERS, OnEvents
from knchat import exits
from knchat.develop.processes import POLL_INTERVAL_S
from knchat.develop.real import Processes
from servers.process import Process
from servers.services import Services
from tests.knchat.command import Command

READY = re.compile(r"ready (http://127\.0\.0\.1:\d+) (ws://127\.0\.0\.1:\d+/v1/socket)\n")
ANY_PORTS = ("--http-port", "0", "--gateway-port", "0")
# A start is 12 Python processes, 15 s of CPU: 20 s on a busy machine with two cores (measured).
START_S = 90


@pytest.fixture(scope="module")
def stores():
    """What leads to the real servers of this checkout, for the environment."""
    services = Services()
    services.up()
    return services.settings()


@pytest.fixture
def environ(monkeypatch, stores):
    """The environment of this test's processes: those stores and no other setting."""
    for name in [name for name in os.environ if name.startswith("KNCHAT_")]:
        monkeypatch.delenv(name)
    for name, value in stores.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def ports_in_a_row(count):
    """Free ones, below those that outgoing connections take."""
    for first in range(20_000 + os.getpid() % 8_000, 32_000, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return list(range(first, first + count))
    pytest.fail("no free ports")


def left_over(folder):
    """The processes that run with this data folder."""
    wanted, found = f"KNCHAT_DATA={folder}\0".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in path.read_bytes():
                found.append(int(path.parent.name))
    return found


class Product:
    """One `dev --real`, of several gateways on ports that count up."""

    def __init__(self, folder, stores):
        self._settings = Settings.from_env(stores)
        self.data = folder / "data"
        self.command = Command(folder / "config")
        self.ports = ports_in_a_row(3)

    def start(self, *more):
        flags = (
            "--real",
            "--data",
            str(self.data),
            "--http-port",
            "0",
            "--gateways",
            "3",
            "--gateway-port",
            str(self.ports[0]),
        )
        self.running = self.command.start("dev", *flags, *more)
        line = self.running.out("\n", within_s=START_S)
        assert READY.fullmatch(line), line
        self.http, self.ws = READY.fullmatch(line).groups()
        self.owners = asyncio.run(self._owners())
        return self

    async def _owners(self):
        """The URLs of all partitions' owners, as log-ins read them."""
        backends = Backends(self._settings)
        try:
            return {
                (await backends.owners.owner_of(partition)).url
                for partition in range(self._settings.delivery_partitions)
            }
        finally:
            await backends.close()

    def children(self):
        """name -> what processes.json says."""
        return json.loads((self.data / "processes.json").read_text())

    def log_in(self, name="alice"):
        body = {"user_name": name, "password": f"{name}-demo-password", "device": "test"}
        return httpx.post(f"{self.http}/v1/sessions", json=body, timeout=20)


@pytest.fixture(scope="module")
def product(stores, tmp_path_factory):
    """Started once for all tests of this file, which leave it serving."""
    with pytest.MonkeyPatch.context() as environ:
        for name in [name for name in os.environ if name.startswith("KNCHAT_")]:
            environ.delenv(name)
        for name, value in stores.items():
            environ.setenv(name, value)
        product = Product(tmp_path_factory.mktemp("real"), stores)
        try:
            yield product.start()
        finally:
            product.command.stop_all()


def line_of(ended, code=exits.CANNOT_START):
    """The one line of a process that does not start."""
    assert (ended.code, ended.out) == (code, ""), ended
    (line,) = [
        line
        for line in ended.err.splitlines()
        if line.startswith("kn-chat: ") and "stores: tables" not in line
    ]
    return line


@pytest.mark.real
@pytest.mark.slow
class TestProduct:
    """On one product that is started once, and once again."""

    def test_each_part_is_a_process_and_the_gateways_count_up(self, product):
        """The ready line is that of `kn-chat dev`; the welcome says where the stores are and how
        they end.
        """
        children = product.children()

        assert [children[f"gateway-{number}"]["port"] for number in range(3)] == product.ports
        kinds = [name.partition("-")[0] for name in children]
        sources = [trigger for trigger in TRIGGERS if isinstance(trigger, OnEvents)]
        functions = len({source.target for source in sources}) + 1  # HTTP functions share one
        assert kinds.count("function") == functions
        assert kinds.count("pump") == len(sources)
        assert kinds.count("gateway") == 3
        for port in product.ports:
            assert httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=20).status_code == 200
        gateways = {f"ws://127.0.0.1:{port}/v1/socket" for port in product.ports}
        assert product.log_in().json()["gateway"] in gateways
        assert product.owners <= gateways
        welcome = product.running.err("curl -s")
        for text in (
            "Kafka 127.0.0.1:",
            "Cassandra 127.0.0.1:",
            "PostgreSQL 127.0.0.1:",
            "Redis 127.0.0.1:",
            "scripts/services down",
        ):
            assert text in welcome

    def test_one_that_is_killed_is_started_again_on_its_port(self, product):
        """And said on stderr; the ready line is printed once."""
        before = product.children()["function-http"]
        os.kill(before["pid"], signal.SIGKILL)
        product.running.err("a process has ended, it is started again child=function-http")
        # Half a second, doubled.
        with httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=20) as client:
            assert client.get(f"{product.http}/readyz").status_code == 200

        after = product.children()["function-http"]
        assert after["port"] == before["port"]
        assert after["pid"] != before["pid"]
        assert product.running.out("ready").count("ready") == 1

    @pytest.mark.parametrize("folder", ["the same", "another"])
    def test_a_second_one_is_refused_and_the_first_serves_on(
        self, product, folder, knchat, environ, tmp_path
    ):
        """They would answer to the same names in Kafka's groups, and take each other's partitions
        away.
        """
        data = product.data if folder == "the same" else tmp_path / "data"
        line = line_of(knchat.start("dev", "--real", "--data", str(data), *ANY_PORTS).end())

        assert f"is in use by another kn-chat (process {product.running.process.pid})" in line
        assert product.log_in().status_code == 201

    def test_after_kill_9_nothing_is_left_and_it_starts_again_on_the_same_ports(
        self, product, environ
    ):
        """The kernel ends the children; accounts, keys and log-ins are those of before.

        Then Ctrl-C ends all in order.
        """
        if product.running.process.poll() is not None:
            product.start()  # the second try
        token = product.log_in().json()["access_token"]
        children = [Process.find(child["pid"]) for child in product.children().values()]
        product.running.process.kill()
        for child in children:
            assert child.wait(timeout_s=20)
        assert left_over(product.data) == []

        product.start()
        assert (
            httpx.get(
                f"{product.http}/v1/me", headers={"authorization": f"Bearer {token}"}, timeout=20
            ).status_code
            == 200
        )
        assert product.log_in("bob").status_code == 201
        product.running.process.send_signal(signal.SIGINT)
        ended = product.running.end()

        assert (ended.code, ended.out.count("\n")) == (0, 1)
        assert left_over(product.data) == []
        gateways, pumps = (
            ended.err.rindex("gateway stopped"),
            ended.err.index("knchat.develop.pump: stopping"),
        )
        assert gateways < pumps
        assert "stopped; everything acknowledged is kept" in ended.err
        assert "Traceback" not in ended.err
        assert not (product.data / "processes.json").exists()


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_during_the_start_ends_it(signals, knchat, environ, tmp_path):
    """One waits for the children that were started, two do not; none is left."""
    running = knchat.start("dev", "--real", "--data", str(tmp_path), *ANY_PORTS)
    running.err("functions:")
    while not left_over(tmp_path):
        pass
    for _ in range(signals):
        running.process.send_signal(signal.SIGINT)
    ended = running.end()

    assert left_over(tmp_path) == []
    assert ended.out == ""
    assert "Traceback" not in ended.err
    if signals == 1:
        assert ended.code == exits.INTERRUPTED
        assert ended.err.endswith("kn-chat: stopped before it served\n")


@pytest.mark.real
@pytest.mark.parametrize("option", ["--http-port", "--gateway-port"])
def test_a_port_in_use_is_said_in_one_line(option, knchat, environ, tmp_path):
    """With the option that changes it; the second port of two gateways counts too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = port - (option == "--gateway-port")
        flags = (
            "--real",
            "--gateways",
            "2",
            "--data",
            str(tmp_path),
            *ANY_PORTS,
            option,
            str(first),
        )
        line = line_of(knchat.start("dev", *flags).end())

    assert line.startswith(f"kn-chat: port {port} is in use")
    assert option in line


def test_more_gateways_than_ports(knchat, monkeypatch, tmp_path):
    """Counted before anything starts."""
    monkeypatch.setenv("KNCHAT_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("KNCHAT_DATABASE", "postgresql://knchat@127.0.0.1:1/knchat")
    ended = knchat(
        "dev", "--real", "--data", str(tmp_path), "--gateways", "3", "--gateway-port", "65534"
    )

    assert "--gateway-port" in line_of(ended, exits.USAGE)


def test_without_stores_it_says_who_starts_them(knchat, monkeypatch, tmp_path):
    """In one line, with the variable's name."""
    for name in [name for name in os.environ if name.startswith("KNCHAT_")]:
        monkeypatch.delenv(name)
    line = line_of(knchat("dev", "--real", "--data", str(tmp_path)), exits.USAGE)

    assert "KNCHAT_KAFKA" in line
    assert "scripts/dev --real" in line


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KNCHAT_LOG", "embedded"),
        ("KNCHAT_DRAIN_S", "soon"),
        ("KNCHAT_DATABASE_PASSWORD_FILE", "a file with a wrong one"),
        ("KNCHAT_REDIS", "redis://unused@{redis}/0"),
    ],
)
def test_a_wrong_setting_is_named_before_a_process_starts(
    name, value, knchat, environ, stores, tmp_path
):
    """Also one that only the store can tell; exit code 2."""
    if name.endswith("_FILE"):
        (tmp_path / "wrong").write_text("not this one")
        value = str(tmp_path / "wrong")
    if "{redis}" in value:
        environ.setenv("KNCHAT_REDIS_PASSWORD", "not this one")
        value = value.format(redis=stores["KNCHAT_REDIS"].split("/")[2])
    environ.setenv(name, value)
    ended = knchat.start("dev", "--real", "--data", str(tmp_path / "data"), *ANY_PORTS).end()

    assert name.removesuffix("_FILE") in line_of(ended, exits.USAGE)
    assert "not this one" not in ended.err
    assert "functions:" not in ended.err


@pytest.mark.parametrize(
    "flags", [("--gateways", "2"), ("--sink",), ("--in-process",), ("--from-zero",)]
)
def test_flags_of_real_alone_are_refused(flags, knchat, tmp_path):
    """Rather than ignored."""
    assert "belong to --real" in line_of(
        knchat("dev", "--data", str(tmp_path), *flags), exits.USAGE
    )


def test_functions_in_their_pumps_cannot_be_left_out(knchat, tmp_path):
    """`--in-process` with `--from-zero`."""
    assert "--from-zero" in line_of(
        knchat("dev", "--real", "--data", str(tmp_path), "--in-process", "--from-zero"), exits.USAGE
    )


def test_pumps_name_their_functions(tmp_path):
    """In the URL: it stands in dead letters, and `report_failed` would take its own for others'."""
    settings = replace(Settings(), data=tmp_path, http_port=0, gateway_port=0)
    processes = Processes(settings, {}, gateways=1, sink=False, in_process=False)
    named = {child.name: child.command[-1] for child in processes.pumps}

    assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/report_failed", named["pump-report-lost"])


async def test_users_are_let_in_when_every_gateway_owns_some(tmp_path):
    """The first that comes owns all for a moment: who logs in then is moved at once, which a log-in
    to a server that is ready never is.
    """
    settings = replace(Settings(), data=tmp_path, http_port=0, gateway_port=0)
    processes = Processes(settings, {}, gateways=2, sink=False, in_process=False)
    first, second = "ws://127.0.0.1:1/v1/socket", "ws://127.0.0.1:2/v1/socket"
    for child, url in zip(processes.gateways, (first, second), strict=True):
        child.words = [url]
    everything = range(settings.delivery_partitions)
    backends = Backends(settings)
    try:
        await backends.owners.own([PartitionOwner(partition, first, 1) for partition in everything])

        waiting = asyncio.create_task(processes.shared_out(backends.owners))
        done, _ = await asyncio.wait([waiting], timeout=5 * POLL_INTERVAL_S)
        assert not done
        await backends.owners.own(
            [PartitionOwner(partition, second, 2) for partition in everything[1::2]]
        )
        async with asyncio.timeout(5):
            await waiting
    finally:
        await backends.close()
