"""Journeys go client to client, over the public interfaces of a running server, with a WebSocket
client that is not ours.

By default they start their own `kn-chat dev`; with `--real` one with two gateways on real parts,
with `--sink` too a sink before Kafka. `--http URL` runs them against a server that is already
there.
"""

import asyncio
import os
import secrets
import signal
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import websockets

from servers.services import Services

PASSWORD = "correct horse battery"
TIMEOUT_S = 15
AUTHORITIES = ssl.create_default_context()
"""Of all calls: reading them takes 40 ms."""


class Dev:
    """Our own `kn-chat dev` in a process of its own, on ports that stay the same over restarts."""

    def __init__(self, folder: Path, *flags: str, environ: dict[str, str] | None = None) -> None:
        self.folder, self._flags, self._environ = folder, flags, environ or {}
        self.log_folder = folder.parent
        self._ports = ("0", "0")
        self.process: subprocess.Popen[str] | None = None
        self.http = self.ws = ""

    def start(self) -> "Dev":
        command = [
            sys.executable,
            "-m",
            "knchat",
            "dev",
            "--data",
            str(self.folder),
            "--http-port",
            self._ports[0],
            "--gateway-port",
            self._ports[1],
        ]
        self.log = (self.log_folder / f"{self.folder.name}.stderr").open("a")
        self.process = subprocess.Popen(
            [*command, *self._flags],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, "PYTHONFAULTHANDLER": "1", **self._environ},
        )
        line = self.process.stdout.readline()
        assert line.startswith("ready "), (line, Path(self.log.name).read_text())
        _, self.http, self.ws = line.split()
        self._ports = (httpx.URL(self.http).port, httpx.URL(self.ws.replace("ws", "http", 1)).port)
        self._ports = tuple(str(port) for port in self._ports)
        return self

    def operate(self, *words: str) -> str:
        """What `kn-chat` prints to an operator who has this server's settings; it must be done."""
        ran = subprocess.run(
            [sys.executable, "-m", "knchat", *words, "--data", str(self.folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, **self._environ},
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self._ended()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self._ended()

    def _ended(self) -> int:
        try:
            # Several processes one after the other take longer than one.
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            # What each thread was doing stands in the log then.
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(60)
            raise AssertionError(
                f"it did not end:\n{Path(self.log.name).read_text()[-8_000:]}"
            ) from None
        finally:
            self.process.stdout.close()
            self.log.close()


def pytest_addoption(parser):
    parser.addoption(
        "--http", help="run the journeys against this server instead of one of our own"
    )
    parser.addoption(
        "--real",
        action="store_true",
        help="run the journeys on real parts: kn-chat dev --real --gateways 2",
    )
    parser.addoption("--sink", action="store_true", help="with --real: gateways post to a sink")
    parser.addoption(
        "--dwell",
        type=float,
        default=1.5,
        help="seconds under load after each step of the clock; 70 holds renewals of all kinds",
    )


def pytest_collection_modifyitems(config, items):
    """With `--http` or `--real` only the journeys that go to that server: the others start what
    they need themselves, always the same.
    """
    if config.getoption("--sink") and not config.getoption("--real"):
        raise pytest.UsageError("--sink belongs to --real")
    if config.getoption("--http") or config.getoption("--real"):
        others = [item for item in items if "http" not in item.fixturenames]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if "http" in item.fixturenames]


def real_dev(folder: Path, *, sink: bool, environ: dict[str, str] | None = None) -> Dev:
    """The product as processes on the real servers of this checkout."""
    services = Services()
    services.up()
    return Dev(
        folder,
        "--real",
        "--gateways",
        "2",
        *(["--sink"] if sink else []),
        environ={**services.settings(), **(environ or {})},
    )


@dataclass
class User:
    """A user with an account, and the URLs of the server that holds it."""

    http: str
    name: str
    user: str = ""
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    """device -> the whole answer of its log-in"""

    def register(self) -> "User":
        body = {"user_name": self.name, "password": PASSWORD, "display_name": self.name.title()}
        answer = httpx.post(f"{self.http}/v1/users", json=body, verify=AUTHORITIES)
        assert answer.status_code == 201, answer.text
        self.user = answer.json()["user"]
        return self

    def log_in(self, device: str) -> dict[str, Any]:
        body = {"user_name": self.name, "password": PASSWORD, "device": device}
        answer = httpx.post(f"{self.http}/v1/sessions", json=body, verify=AUTHORITIES)
        assert answer.status_code == 201, answer.text
        self.tokens[device] = answer.json()
        return self.tokens[device]

    def get(self, path: str, **query: object) -> httpx.Response:
        token = next(iter(self.tokens.values()))["access_token"]
        return httpx.get(
            f"{self.http}{path}",
            params=query,
            headers={"authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            verify=AUTHORITIES,
        )

    def call(self, method: str, path: str, *, device: str, **arguments: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tokens[device]['access_token']}"}
        return httpx.request(
            method,
            f"{self.http}{path}",
            headers=headers,
            timeout=TIMEOUT_S,
            verify=AUTHORITIES,
            **arguments,
        )


class Device:
    """One WebSocket by the `websockets` package: frames as plain dicts, JSON or MessagePack."""

    def __init__(self, user: User, device: str, *, packed: bool = False) -> None:
        self.user, self.device, self.packed = user, device, packed
        self.cursor = ""
        self.socket: websockets.ClientConnection | None = None
        self.pushes: list[dict[str, Any]] = []
        """Durable pushes of this session, in order."""
        self._waiting: list[dict[str, Any]] = []
        self._number = 0

    async def connect(self, *, resume: str | None = None) -> dict[str, Any]:
        """Says hello, reads up to `live`; the welcome."""
        if self.socket is not None:
            await self.socket.close()
        login = self.user.tokens.get(self.device) or self.user.log_in(self.device)
        protocol = "knchat.v1.msgpack" if self.packed else "knchat.v1.json"
        self.socket = await websockets.connect(
            login["gateway"],
            subprotocols=[protocol],
            compression=None,
            max_size=2**20,
            max_queue=None,
        )
        assert self.socket.subprotocol == protocol
        self.pushes, self._waiting = [], []
        hello = {"type": "hello", "token": login["access_token"], "device": self.device}
        await self.say(hello if resume is None else {**hello, "resume": resume})
        welcome = await self.hear("welcome")
        await self.hear("live")
        return welcome

    async def say(self, frame: dict[str, Any] | list[dict[str, Any]]) -> None:
        await self.socket.send(
            msgspec.msgpack.encode(frame) if self.packed else msgspec.json.encode(frame).decode()
        )

    async def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        """Sends a frame with a number and waits for its reply, whatever its type."""
        self._number += 1
        await self.say({**frame, "id": self._number})
        return await self.hear(re=self._number)

    async def send(
        self, to: User, text: str, *, key: str | None = None, **more: Any
    ) -> dict[str, Any]:
        return await self.ask(
            {
                "type": "send",
                "to": to.user,
                "key": key or secrets.token_hex(8),
                "text": text,
                **more,
            }
        )

    async def hear(
        self, kind: str | None = None, *, re: int | None = None, **fields: Any
    ) -> dict[str, Any]:
        """The next frame of this type (or with this `re`) and these fields; frames between stay for
        later calls.
        """

        def fits(frame: dict[str, Any]) -> bool:
            wanted = fields | ({"type": kind} if kind else {}) | ({"re": re} if re else {})
            return all(frame.get(name) == value for name, value in wanted.items())

        for index, frame in enumerate(self._waiting):
            if fits(frame):
                return self._waiting.pop(index)
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for frame in self._decode(await self.socket.recv()):
                    if "cursor" in frame:
                        self.cursor = frame["cursor"]
                    if "n" in frame:
                        self.pushes.append(frame)
                    self._waiting.append(frame)
                for index, frame in enumerate(self._waiting):
                    if fits(frame):
                        return self._waiting.pop(index)

    def _decode(self, payload: str | bytes) -> list[dict[str, Any]]:
        assert isinstance(payload, bytes) == self.packed
        frame = msgspec.msgpack.decode(payload) if self.packed else msgspec.json.decode(payload)
        return frame if isinstance(frame, list) else [frame]

    async def closed(self) -> tuple[int, str]:
        """Waits for the server's close: (code, reason)."""
        async with asyncio.timeout(TIMEOUT_S):
            try:
                while True:
                    self._waiting += self._decode(await self.socket.recv())
            except websockets.ConnectionClosed as end:
                assert end.rcvd is not None, "the connection ended without a close frame"
                return end.rcvd.code, end.rcvd.reason

    def cut(self) -> None:
        """Ends the TCP connection without a word."""
        self.socket.transport.abort()

    async def close(self) -> None:
        await self.socket.close()


@pytest.fixture(scope="session")
def dev(request, tmp_path_factory):
    """A server for all journeys that do not kill it; None when `--http` names another."""
    if request.config.getoption("--http"):
        yield None
        return
    folder = tmp_path_factory.mktemp("dev") / "data"
    server = (
        real_dev(folder, sink=request.config.getoption("--sink"))
        if request.config.getoption("--real")
        else Dev(folder)
    )
    server.start()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def http(request, dev):
    return request.config.getoption("--http") or dev.http


@pytest.fixture
def own_dev(tmp_path):
    """A server of this test's own, to kill and restart; scripts/faults does it
    to the real parts.
    """
    server = Dev(tmp_path / "data").start()
    yield server
    server.stop()


def new_user(http: str, name: str) -> User:
    return User(http, f"{name}-{secrets.token_hex(4)}").register()


@pytest.fixture
def people(http):
    """Two fresh users."""
    return new_user(http, "ann"), new_user(http, "ben")


@pytest.fixture
async def open_device():
    """Connects devices and closes them at the end of the test."""
    devices: list[Device] = []

    async def connect(
        user: User, device: str, *, packed: bool = False, resume: str | None = None
    ) -> Device:
        opened = Device(user, device, packed=packed)
        devices.append(opened)
        opened.welcome = await opened.connect(resume=resume)
        return opened

    yield connect
    for device in devices:
        await device.close()
