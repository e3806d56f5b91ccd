"""On the servers with TLS and passwords: people talk, what is set wrong stops a start and is named,
and no secret is said anywhere.
"""

import asyncio
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import pytest
import websockets

from backends.signing import KEY_FILE
from servers.certificates import Certificates
from servers.services import SERVERS, Services
from tests.journeys.conftest import PASSWORD, TIMEOUT_S, Dev, Device, new_user

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def variables(request, secure_settings):
    """The KNCHAT_ variables that lead to the servers, as `scripts/services up --secure` writes
    them.
    """
    if request.config.getoption("--http"):
        pytest.skip("this journey needs servers of this checkout")
    secure_settings(*SERVERS)
    return Services(secure=True).settings()


# ---- people talk ---------------------------------------------------------------------------------


@dataclass
class Talk:
    """What was sent, heard and read; what must stay secret, and all that could be seen or read of
    the processes.
    """

    sent: dict
    heard: dict
    over_socket: dict
    over_http: dict
    secret: dict[str, str]
    seen: dict[str, str]


@pytest.fixture(scope="module")
def talk(variables, tmp_path_factory):
    """A whole life of `kn-chat dev --real`, in which everything is logged that can be."""
    folder = tmp_path_factory.mktemp("secure") / "data"
    server = Dev(
        folder, "--real", "--no-demo", environ={**variables, "KNCHAT_LOG_LEVEL": "DEBUG"}
    ).start()
    try:
        talked = asyncio.run(_talk(server))
        processes = msgspec.json.decode((folder / "processes.json").read_bytes())
        talked.seen["processes.json"] = str(processes)
        for name, process in {**processes, "dev": {"pid": server.process.pid, "port": 0}}.items():
            talked.seen[f"arguments of {name}"] = (
                Path(f"/proc/{process['pid']}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            )
            if process["port"]:
                _offend(f"http://127.0.0.1:{process['port']}", talked.secret["text"])
                talked.seen[f"metrics of {name}"] = httpx.get(
                    f"http://127.0.0.1:{process['port']}/metrics"
                ).text
    finally:
        code = server.stop()
    talked.seen["log lines"] = Path(server.log.name).read_text()
    assert code == 0, talked.seen["log lines"]
    talked.secret |= {
        name: Path(path).read_text().strip()
        for name, path in variables.items()
        if name.endswith("_PASSWORD_FILE")
    }
    talked.secret["event key"] = (folder / "event.keys").read_text()
    talked.secret["signing key"] = (folder / KEY_FILE).read_text().splitlines()[1]
    return talked


async def _talk(server):
    """Two people, one message, its history over socket and HTTP; and what people do wrong."""
    ann, ben = new_user(server.http, "ann"), new_user(server.http, "ben")
    text, wrong = f"text-{secrets.token_hex(8)}", f"wrong-{secrets.token_hex(8)}"
    phone, desk = Device(ann, "phone"), Device(ben, "desk", packed=True)
    await phone.connect()
    await desk.connect()
    sent = await phone.send(ben, text)
    heard = await desk.hear("message")
    async with asyncio.timeout(TIMEOUT_S):
        while not (page := await desk.ask({"type": "history", "chat": heard["chat"]}))["messages"]:
            await asyncio.sleep(0.05)
    over_http = ben.get(f"/v1/chats/{heard['chat']}/messages").json()
    await phone.ask({"type": "send", "to": ben.user, "text": text, "extra": [text]})
    for device in (phone, desk):
        await device.close()
    httpx.post(
        f"{server.http}/v1/sessions",
        json={"user_name": ann.name, "password": wrong, "device": "phone"},
    )
    httpx.post(f"{server.http}/v1/sessions", content=f'{{"password": "{wrong}')
    ann.call("GET", f"/v1/chats?token={wrong}", device="phone", cookies={"token": wrong})
    async with websockets.connect(
        server.ws, subprotocols=["knchat.v1.json"], compression=None
    ) as socket:
        await socket.send(
            msgspec.json.encode({"type": "hello", "token": wrong, "device": "phone"}).decode()
        )
        await socket.wait_closed()
    secret = {"text": text, "wrong secrets": wrong, "people's password": PASSWORD}
    for user in (ann, ben):
        for login in user.tokens.values():
            secret |= {
                f"{name} of {user.name}": login[name] for name in ("access_token", "refresh_token")
            }
    return Talk(sent, heard, page, over_http, secret, {})


def _offend(url, text):
    """An event that is none, as an intruder or a bug might post it."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/test",
        "ce-type": "knchat.messages.accepted.v1",
        "content-type": "application/protobuf",
        "authorization": f"Bearer {text}",
    }
    httpx.post(url, content=text, headers=headers)


def test_people_talk_over_tls(talk):
    """Kafka by SASL_SSL with SCRAM, PostgreSQL, Redis and Cassandra by TLS and password: a message
    goes from client to client.
    """
    assert talk.heard["message"] == talk.sent["message"]
    assert talk.heard["text"] == talk.secret["text"]


def test_history_is_there_over_socket_and_http(talk):
    """What was said is in Cassandra, and read over the socket and over HTTP."""
    for page in (talk.over_socket, talk.over_http):
        assert [(message["message"], message["text"]) for message in page["messages"]] == [
            (talk.sent["message"], talk.secret["text"])
        ]


def test_no_secret_is_seen(talk):
    """Not in log lines at DEBUG, not in metrics, not in the arguments of processes, not in the file
    that lists them.
    """
    assert len(talk.secret) >= 13
    assert "knchat_" in talk.seen["metrics of gateway-0"]
    assert "knchat_" in talk.seen["metrics of function-http"]
    assert [
        (name, where)
        for name, secret in talk.secret.items()
        for where, text in talk.seen.items()
        if secret in text
    ] == []


CHATTER = """
import asyncio, logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
from backends.settings import Settings
from backends.wiring import Backends
async def main():
    settings = Settings.from_env()
    backends = Backends(settings)
    ports = ("appends", "reads", "cache", "chats", "accounts")
    for port in ports:
        print("answered" if await getattr(backends, port).ping() is None else "")
    print(settings, vars(backends), [vars(getattr(backends, port)) for port in ports])
    await backends.close()
asyncio.run(main())
"""


def test_drivers_that_may_say_everything_say_no_secret(talk, variables, tmp_path):
    """An operator, or functions-framework, may set all loggers to DEBUG: kafka-python would then
    show its password.
    """
    environ = {
        **os.environ,
        **variables,
        "KNCHAT_LOG": "kafka",
        "KNCHAT_CHATS": "cassandra",
        "KNCHAT_DATA": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", CHATTER], capture_output=True, text=True, check=True, env=environ
    )

    assert done.stdout.count("answered") == 5
    assert [
        name for name, secret in talk.secret.items() if secret in done.stdout + done.stderr
    ] == []


# ---- what is set wrong ---------------------------------------------------------------------------

KN_CHAT = [sys.executable, "-m", "knchat"]
STARTS = {
    "migrate": [*KN_CHAT, "migrate"],
    "topics": [*KN_CHAT, "topics", "check"],
    "pump": [*KN_CHAT, "pump", "--group", "persist"],
    "gateway": [sys.executable, "-m", "gateway"],
    **{
        target: [sys.executable, "-m", "uvicorn", "functions.runtime.asgi:app", "--port", "0"]
        for target in ("send", "persist", "accounts")
    },
}
"""How each process is started; functions by their target."""

USERS = [
    ("KAFKA", "topics"),
    ("KAFKA", "pump"),
    ("KAFKA", "send"),
    ("DATABASE", "migrate"),
    ("DATABASE", "accounts"),
    ("CASSANDRA", "migrate"),
    ("CASSANDRA", "persist"),
    ("REDIS", "accounts"),
    ("REDIS", "gateway"),
]
"""The store, and the process that speaks with it."""


@pytest.fixture
def start(variables, tmp_path):
    """Starts a process with these variables changed; how it ended, and what it said."""

    def start(name, **changed):
        own = {
            "KNCHAT_LOG": "kafka",
            "KNCHAT_CHATS": "cassandra",
            "KNCHAT_DATA": str(tmp_path),
            "KNCHAT_GATEWAY_PORT": "0",
        }
        environ = {**os.environ, **variables, **own, **changed, "FUNCTION_TARGET": name}
        done = subprocess.run(
            STARTS[name], capture_output=True, text=True, check=False, timeout=30, env=environ
        )
        return done.returncode, done.stdout + done.stderr

    return start


def _named(setting, ended):
    code, said = ended
    assert code not in {0, None}, said
    assert [line for line in said.splitlines() if setting in line], said
    assert "Traceback" not in said


@pytest.mark.parametrize(("store", "who"), USERS)
def test_a_wrong_password_stops_the_start(start, tmp_path, store, who):
    """Its setting is named, it is not shown."""
    wrong = secrets.token_hex(8)
    (tmp_path / "password").write_text(wrong)
    ended = start(who, **{f"KNCHAT_{store}_PASSWORD_FILE": str(tmp_path / "password")})

    _named(f"KNCHAT_{store}_PASSWORD", ended)
    assert wrong not in ended[1]


@pytest.mark.parametrize(("store", "who"), USERS)
def test_an_unknown_authority_stops_the_start(start, tmp_path, store, who):
    """The server may be any program: nothing is said to it."""
    others = Certificates(tmp_path / "others")
    others.make()

    _named(f"KNCHAT_{store}_CA", start(who, **{f"KNCHAT_{store}_CA": str(others.authority)}))


@pytest.mark.parametrize("kind", ["PASSWORD_FILE", "CA"])
@pytest.mark.parametrize(("store", "who"), USERS[::2])
def test_a_missing_file_stops_the_start(start, tmp_path, store, who, kind):
    """A mount that was forgotten."""
    _named(
        f"KNCHAT_{store}_{kind}",
        start(who, **{f"KNCHAT_{store}_{kind}": str(tmp_path / "missing")}),
    )


@pytest.mark.parametrize("store", ["KAFKA", "DATABASE", "CASSANDRA", "REDIS"])
def test_a_file_without_authorities_stops_the_start(start, tmp_path, store):
    """The wrong key of a Secret was mounted."""
    (tmp_path / "ca.pem").write_text("no certificate\n")

    _named(
        f"KNCHAT_{store}_CA",
        start(dict(USERS)[store], **{f"KNCHAT_{store}_CA": str(tmp_path / "ca.pem")}),
    )
