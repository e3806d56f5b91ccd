"""The functions as they are served: probes, CORS, paths, and each event function alone in a process
of its own.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import replace

import httpx
import pytest

from backends.clock import Clock, Reading
from backends.health import Health
from backends.wiring import Backends
from functions.runtime import asgi, openapi
from functions.runtime.context import use_backends
from functions.triggers import TRIGGERS
from tests.functions.samples import EVENT_TARGETS, ROOT, sample


def client(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://functions")


@pytest.mark.parametrize("target", sorted({trigger.target for trigger in TRIGGERS}))
async def test_every_target_has_probes(target, backends, monkeypatch):
    """Alive, and ready when what it needs answers."""
    await backends.accounts.ping()  # the tables are made now, and not while a probe waits
    monkeypatch.setenv("FUNCTION_TARGET", target)
    async with client(asgi.app) as http:
        alive, ready = await http.get("/livez"), await http.get("/readyz")

    assert (alive.status_code, ready.status_code) == (200, 200)


async def test_behind_the_probes_is_the_function(people, monkeypatch):
    """Whatever is no probe goes to the target."""
    monkeypatch.setenv("FUNCTION_TARGET", "send")
    headers, body = sample("send")
    async with client(asgi.app) as http:
        taken, other = await http.post("/", headers=headers, content=body), await http.get("/")

    assert (taken.status_code, other.status_code) == (200, 405)


async def test_what_is_missing_is_named(backends, settings, monkeypatch):
    """A target whose store does not answer is not ready, and says which; one that does without it
    is.
    """
    (settings.data / "data.db").unlink()
    (settings.data / "data.db").mkdir()
    answers = {}
    for target in ("persist", "send"):
        monkeypatch.setenv("FUNCTION_TARGET", target)
        async with client(asgi.app) as http:
            answers[target] = await http.get("/readyz")

    assert (answers["persist"].status_code, answers["persist"].json()["code"]) == (
        503,
        "unavailable",
    )
    assert answers["persist"].json()["message"] == "not ready: chats (sql)"
    assert answers["send"].status_code == 200


async def test_a_wrong_setting_is_not_ready(monkeypatch):
    """The probe says what is wrong with the environment."""
    monkeypatch.setenv("FUNCTION_TARGET", "send")
    monkeypatch.setenv("KNCHAT_TOKEN_S", "soon")
    use_backends(None)
    async with client(asgi.app) as http:
        answer = await http.get("/readyz")

    assert answer.status_code == 503
    assert "KNCHAT_TOKEN_S" in answer.json()["message"]


@pytest.mark.parametrize("target", ["send", "accounts"])
async def test_metrics(target, backends, monkeypatch):
    """Beside the probes, as on the gateway's port."""
    monkeypatch.setenv("FUNCTION_TARGET", target)
    async with client(asgi.app) as http:
        await http.get("/livez")
        answer = await http.get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "knchat_events_total" in answer.text


async def test_metrics_can_be_left_out(backends, monkeypatch):
    """The path is the function's then."""
    without = Backends(replace(backends.settings, metrics=False))
    use_backends(without)
    async with client(asgi.probed(asgi.http_app([]), [])) as http:
        answer = await http.get("/metrics")
    await without.close()

    assert answer.status_code == 404


async def lifespan(*kinds):
    """What the app answers to these lifespan messages."""
    given, said = asyncio.Queue(), []
    for kind in kinds:
        given.put_nowait({"type": f"lifespan.{kind}"})

    async def send(message):
        said.append(message)

    await asgi.app({"type": "lifespan"}, given.get, send)
    return said


async def test_it_starts_and_stops(monkeypatch, tmp_path):
    """The start checks settings and target, the end closes what was opened."""
    monkeypatch.setenv("FUNCTION_TARGET", "send")
    monkeypatch.setenv("KNCHAT_DATA", str(tmp_path))
    use_backends(None)

    assert [message["type"] for message in await lifespan("startup", "shutdown")] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [("FUNCTION_TARGET", "sendd", "sendd"), ("KNCHAT_TOKEN_S", "soon", "KNCHAT_TOKEN_S")],
    ids=["target", "setting"],
)
async def test_a_start_that_cannot_work_says_why(name, value, named, monkeypatch, tmp_path):
    """One line names what is wrong."""
    monkeypatch.setenv("FUNCTION_TARGET", "send")
    monkeypatch.setenv("KNCHAT_DATA", str(tmp_path))
    monkeypatch.setenv(name, value)
    use_backends(None)
    (message,) = await lifespan("startup")
    use_backends(None)

    assert message["type"] == "lifespan.startup.failed"
    assert named in message["message"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/chatsx", "/v1/userss/1"])
async def test_an_unknown_path_is_not_found(path, backends):
    """In the one shape that all errors have."""
    async with client(asgi.http_app([])) as http:
        answer = await http.get(path)

    assert answer.status_code == 404
    assert answer.json() == {"code": "not_found", "message": "there is nothing here", "details": {}}


@pytest.mark.parametrize("call", openapi.described_endpoints(), ids=lambda call: call.name)
async def test_every_call_has_a_target(call, backends):
    """No call of the protocol falls beside the triggers' paths: each is answered by its endpoint,
    if only with what is missing.
    """
    path = re.sub(r"\{\w+\}", "1", call.path)
    async with client(asgi.http_app([])) as http:
        answer = await http.request(call.method, path)

    assert answer.status_code != 405
    assert answer.status_code != 404 or answer.json()["message"] != "there is nothing here"


async def test_one_target_serves_its_own_paths_only(backends, monkeypatch):
    """On Knative each HTTP target is alone; the route sends it what is its own."""
    async with client(asgi.http_app([], "chats")) as http:
        mine, other = await http.get("/v1/chats"), await http.get("/v1/me")

    assert (mine.status_code, other.status_code) == (401, 404)


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        (["https://chat.example"], "https://chat.example", "https://chat.example"),
        (["https://chat.example"], "https://evil.example", None),
        (["*"], "https://any.example", "*"),
        ([], "https://chat.example", None),
    ],
)
async def test_origins(allowed, origin, expected, backends):
    """One setting says which browser origins may call, and the answers say so."""
    preflight = {
        "origin": origin,
        "access-control-request-method": "PATCH",
        "access-control-request-headers": "authorization",
    }
    async with client(asgi.http_app(allowed)) as http:
        asked = await http.options("/v1/me", headers=preflight)
        answer = await http.get("/v1/me", headers={"origin": origin})

    assert answer.headers.get("access-control-allow-origin") == expected
    assert (asked.status_code == 200) == (expected is not None)


@pytest.mark.parametrize("target", EVENT_TARGETS)
async def test_a_sample_event_is_taken(target, people, event_targets):
    """Every event function has a sample that it answers with 200."""
    assert (await event_targets.post_raw(target, *sample(target))).status == 200


def test_generated_files_are_fresh():
    """The samples and the Python of the proto are what `scripts/generate` makes."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("target", ["send", "report_failed"])
async def test_an_event_that_is_too_long_is_not_read(target, backends, reason):
    """It is refused for good after 1 MiB, whether its length was said or not: nothing of it is
    looked at before it is whole.
    """
    sent, answered = [], []

    async def receive():
        sent.append(64 * 1024)
        return {"type": "http.request", "body": b"x" * sent[-1], "more_body": True}

    async def send(message):
        answered.append(message)

    headers = [
        (b"ce-specversion", b"1.0"),
        (b"ce-id", b"1"),
        (b"ce-source", b"/x"),
        (b"ce-type", b"x"),
        (b"content-type", b"application/protobuf"),
    ]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": headers,
        "http_version": "1.1",
    }
    await asgi.event_app(target)(
        {
            **scope,
            "asgi": {"version": "3.0"},
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        },
        receive,
        send,
    )

    assert sum(sent) <= 2**20 + 64 * 1024
    assert answered[0]["status"] == (422 if target == "send" else 200)
    assert (b"kne-reason", b"too-large-data") in answered[0]["headers"]


async def ready_of(*targets):
    app = asgi.probed(asgi.http_app([]), asgi.needs(*targets))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://chat.test"
    ) as http:
        return await http.get("/readyz")


async def test_a_clock_that_no_store_has_set_is_not_ready(backends):
    """A target that signs, or refuses by time, says so; one that does neither is ready.

    A wrong machine's clock is told, and does no harm.
    """
    await backends.accounts.ping()
    backends.clock = Clock(alone=False, wall=lambda: 1_800_003_600.0, elapsed=lambda: 0.0)
    assert "clock" in (await ready_of("accounts")).json()["message"]
    backends.health = Health(backends, ready_timeout_s=30)
    assert (await ready_of("send")).status_code == 200

    backends.clock.synchronise(Reading(1_800_000_000_000, 0.0, 0.0))
    ready = await ready_of("accounts")
    assert (ready.status_code, ready.text) == (
        200,
        "ok\nclock: this machine's is 3600 s ahead of the database's",
    )


async def test_a_function_follows_the_store_that_it_asks(backends):
    """SQL where it needs it, else history's; a target without a store follows none."""
    followed = []

    class Noted:
        async def keep(self, store):
            followed.append(type(store).__name__)

    backends.clock = Noted()
    for target in ("accounts", "send", "history", "persist", "chats", "report_failed"):
        if (keeping := asgi.keep_time(backends, [target])) is None:
            followed.append(None)
        else:
            await keeping

    assert followed == ["SqlAccounts", "SqlAccounts", "SqlChats", "SqlChats", "SqlChats", None]
