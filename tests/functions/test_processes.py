"""Each function alone in a process of its own, as an image starts it."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from tests.functions.samples import EVENT_TARGETS, ROOT, sample
from tests.support.servers import free_port


class Server:
    """A server process of our own, and requests to it."""

    def __init__(self, command, environ, port):
        self.port = port
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **environ},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # gunicorn's workers outlive it, so the whole group is ended
        )

    def ask(self, method, path, headers=None, body=None):
        """Status and body; waits until the server listens."""
        end = time.monotonic() + 30
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            try:
                connection.request(method, path, body=body, headers=headers or {})
                answer = connection.getresponse()
            except ConnectionRefusedError:
                assert self.process.poll() is None, self.process.communicate()[0]
                assert time.monotonic() < end
                time.sleep(0.02)  # nothing tells that a port listens but trying it
            else:
                return answer.status, answer.read()
            finally:
                connection.close()

    def stop(self):
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=20)
        return self.process.returncode


@pytest.fixture
def serving():
    """Starts servers, and ends those that still run."""
    started = []

    def start(module, *arguments, **environ):
        port = free_port()
        command = [
            sys.executable,
            "-m",
            module,
            *arguments,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        started.append(Server(command, environ, port))
        return started[-1]

    yield start
    for server in started:
        with suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.communicate()


async def test_each_function_runs_alone(serving, backends, people, topics):
    """functions-framework and one request are enough: 200, and the records are in the data folder,
    where other processes see them.
    """
    data = str(backends.settings.data)
    source = str(ROOT / "functions" / "main.py")
    servers = {
        target: serving(
            "functions_framework", "--source", source, "--target", target, KNCHAT_DATA=data
        )
        for target in EVENT_TARGETS
    }
    for target in ("send", "persist", "index", "history", "resize", "report_failed"):
        headers, body = sample(target)
        status, _ = await asyncio.to_thread(servers[target].ask, "POST", "/", headers, body)

        assert status == 200

    assert [outcome.refused for outcome in await topics.items("chat-messages")] == [""]
    kinds = sorted(
        delivery.WhichOneof("body") for delivery in await topics.items("chat-deliveries")
    )
    # The sample of report_failed lies in no topic, so its sender is not told.
    assert kinds == [
        "message",
        "message",
    ]
    page, chats = await topics.items("session-deliveries")
    assert [item.message.body.text for item in page.page.messages] == ["Hello from a sample event"]
    assert [state.chat for state in chats.chats.chats] == ["d-1001-1002"]


def test_production_serves_a_function(serving, tmp_path):
    """uvicorn: ready, takes an event, refuses garbage with a reason, ends in order."""
    server = serving(
        "uvicorn", "functions.runtime.asgi:app", FUNCTION_TARGET="send", KNCHAT_DATA=str(tmp_path)
    )
    headers, body = sample("send")

    assert server.ask("GET", "/readyz") == (200, b"ok")
    assert server.ask("POST", "/", headers, body)[0] == 200
    assert server.ask("POST", "/", headers, b"12345")[0] == 422
    assert server.stop() in {0, -signal.SIGTERM}


def test_a_wrong_target_stops_the_start(serving, tmp_path):
    """The process ends and names it."""
    server = serving(
        "uvicorn", "functions.runtime.asgi:app", FUNCTION_TARGET="sendd", KNCHAT_DATA=str(tmp_path)
    )
    output, _ = server.process.communicate(timeout=20)

    assert server.process.returncode != 0
    assert (
        "FUNCTION_TARGET must be one of accounts, chats, files, history, index, persist, "
        "report_failed, resize, send, not 'sendd'" in output
    )
