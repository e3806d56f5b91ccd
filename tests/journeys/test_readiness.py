"""What each process says while a server that it needs, or does not, is down or hangs: `/readyz`
names it within 2 s, `/livez` stays 200.
"""

import asyncio
import os
import sys
import time

import httpx
import pytest

from backends.settings import Settings
from backends.signing import SigningKey
from backends.wiring import Backends
from functions.triggers import TRIGGERS

TARGETS = list(dict.fromkeys(trigger.target for trigger in TRIGGERS))
LOG = dict.fromkeys(("gateway", "send", "persist", "history", "report_failed"), "log (kafka)")
CHATS = dict.fromkeys(("persist", "history", "chats"), "chats (cassandra)")
SQL = {
    "accounts": "accounts (sql)",
    "files": "files (sql)",
    "resize": "files (sql)",
    "index": "search (sql)",
}
NEEDED = {"kafka": LOG, "cassandra": CHATS, "postgres": SQL, "redis": {}}
"""Server -> process -> what it says is missing."""

pytestmark = [pytest.mark.slow, pytest.mark.real]


class Process:
    """One process of the product, and what its probes say."""

    def __init__(self, name, environ):
        self.name, self.environ, self.url, self.process = name, environ, "", None

    async def start(self, port, *, said=asyncio.subprocess.DEVNULL):
        """It will listen on this port. What it says goes to `said`, or to our own output."""
        command, own = ["-m", "gateway"], {"KNCHAT_GATEWAY_PORT": str(port)}
        if self.name != "gateway":
            command, own = (
                [
                    "-m",
                    "uvicorn",
                    "functions.runtime.asgi:app",
                    "--port",
                    str(port),
                    "--log-level",
                    "warning",
                ],
                {"FUNCTION_TARGET": self.name},
            )
        self.url = f"http://127.0.0.1:{port}"
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            env={**os.environ, **self.environ, **own},
            stdout=said,
            stderr=None if said == asyncio.subprocess.DEVNULL else asyncio.subprocess.STDOUT,
        )

    async def ready(self, http):
        """Status, message, and how long it took; status 0: it does not listen."""
        began_s = time.monotonic()
        try:
            answer = await http.get(f"{self.url}/readyz")
        except httpx.ConnectError:
            return 0, "", 0.0
        return (
            answer.status_code,
            "" if answer.status_code == 200 else answer.json()["message"],
            time.monotonic() - began_s,
        )

    async def end(self):
        """In order, or else."""
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), 20)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def all_ready(processes, http, *, within_s=120):
    """Waits until all are."""
    async with asyncio.timeout(within_s):
        for process in processes:
            while (said := await process.ready(http))[0] != 200:
                assert process.process.returncode is None, process.name
                await asyncio.sleep(0.2)
            assert said[1] == ""


async def test_readiness_is_what_a_process_needs(fragile, tmp_path, unused_tcp_port_factory):
    """Each server paused in turn, then all stopped: who needs one is not ready and names it, who
    does not is; all are afterwards.
    """
    await asyncio.to_thread(fragile.up, NEEDED)
    environ = {
        **fragile.settings(),
        "KNCHAT_DATA": str(tmp_path),
        "KNCHAT_LOG": "kafka",
        "KNCHAT_CHATS": "cassandra",
        "KNCHAT_DELIVERY_PARTITIONS": "4",
        "KNCHAT_GATEWAY_NAME": "gateway-0",
        "KNCHAT_DRAIN_S": "0",
    }
    backends = Backends(Settings.from_env(environ))
    try:
        await backends.migrate()
        await backends.topics.create()
        assert SigningKey.of(backends.settings)
    finally:
        await backends.close()
    processes = [Process(name, environ) for name in ("gateway", *TARGETS)]
    async with httpx.AsyncClient(timeout=10) as http:
        try:
            await asyncio.gather(
                *(process.start(unused_tcp_port_factory()) for process in processes)
            )
            await all_ready(processes, http)
            rounds = [([server], fragile.pause, fragile.resume) for server in NEEDED]
            for servers, hurt, heal in (*rounds, (list(NEEDED), fragile.stop, fragile.start)):
                await asyncio.gather(*(asyncio.to_thread(hurt, server) for server in servers))
                said = await asyncio.gather(*(process.ready(http) for process in processes))
                lives = await asyncio.gather(
                    *(http.get(f"{process.url}/livez") for process in processes)
                )
                await asyncio.gather(*(asyncio.to_thread(heal, server) for server in servers))

                where = f"{servers}, {hurt.__name__}"
                expected = {
                    process.name: ", ".join(
                        NEEDED[server][process.name]
                        for server in servers
                        if process.name in NEEDED[server]
                    )
                    for process in processes
                }
                assert {
                    process.name: message.removeprefix("not ready: ")
                    for process, (_, message, _) in zip(processes, said, strict=True)
                } == expected, where
                assert [status for status, *_ in said] == [
                    503 if message else 200 for message in expected.values()
                ], where
                assert max(took_s for *_, took_s in said) < 2, where
                assert {answer.status_code for answer in lives} == {200}, where
                await all_ready(processes, http)
        finally:
            await asyncio.gather(*(process.end() for process in processes if process.process))


@pytest.mark.parametrize("name", ["gateway", "accounts", "chats"])
async def test_a_wrong_password_stops_the_start(name, secure_settings, tmp_path, unused_tcp_port):
    """The one line that is said names the setting and not the secret."""
    settings = secure_settings("redis")
    environ = {
        "KNCHAT_DATA": str(tmp_path),
        "KNCHAT_REDIS": settings["redis"],
        "KNCHAT_REDIS_CA": str(settings["redis_ca"]),
        "KNCHAT_REDIS_PASSWORD": "canary-4711",
    }
    process = Process(name, environ)
    await process.start(unused_tcp_port, said=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        output, _ = await process.process.communicate()

    assert process.process.returncode not in {0, None}
    assert b"KNCHAT_REDIS_PASSWORD" in output
    assert b"canary" not in output
    assert b"Traceback" not in output
