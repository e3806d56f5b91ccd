"""Each function runs alone with functions-framework, on the data of a `dev` that runs meanwhile;
and a full disk loses nothing.
"""

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from schemas import chat_pb2 as pb
from schemas.demo import DEMO_USERS
from tests.journeys.conftest import TIMEOUT_S, Dev, Device, User, new_user
from tests.support.servers import free_port

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "functions" / "samples"


@contextlib.contextmanager
def function(target, folder):
    """`functions-framework --source functions/main.py --target ...`, as a developer starts it; its
    URL.
    """
    port = free_port()
    command = [
        Path(sys.executable).parent / "functions-framework",
        "--source",
        "functions/main.py",
        "--target",
        target,
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "KNCHAT_DATA": str(folder)}, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/", timeout=2)
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, f"{target} does not start"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)


def curl(url, target):
    """One curl, as the README of the room shows it; the status."""
    body, headers = SAMPLES / f"{target}.bin", SAMPLES / f"{target}.headers"
    command = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--data-binary",
        f"@{body}",
        "-H",
        f"@{headers}",
        url,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    ).stdout


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A `dev` with demo users, which the sample events speak for."""
    server = Dev(tmp_path_factory.mktemp("alone") / "data").start()
    yield server
    assert server.stop() == 0


async def test_send_and_persist_alone_reach_a_dev_on_the_same_data(alone):
    """One curl each: 200, bob's device gets the push, and history shows the message."""
    command = pb.Commands.FromString((SAMPLES / "send.bin").read_bytes()).commands[0]
    bob = User(alone.http, "bob", user=str(DEMO_USERS["bob"]))
    login = httpx.post(
        f"{alone.http}/v1/sessions",
        json={"user_name": "bob", "password": "bob-demo-password", "device": "tablet"},
    )
    bob.tokens["tablet"] = login.json()
    tablet = Device(bob, "tablet")
    await tablet.connect()

    with function("send", alone.folder) as url:
        assert curl(url, "send") == "200"
    pushed = await tablet.hear("message", message=str(command.id))
    with function("persist", alone.folder) as url:
        assert curl(url, "persist") == "200"

    assert (pushed["sender"], pushed["text"]) == (str(DEMO_USERS["alice"]), command.send.text)
    page = bob.get(f"/v1/chats/{command.chat}/messages").json()
    assert str(command.id) in [message["message"] for message in page["messages"]]
    await tablet.close()


@pytest.mark.parametrize("target", ["history", "resize", "report_failed"])
def test_the_other_functions_take_their_sample_alone(alone, target):
    """200 and nothing else."""
    with function(target, alone.folder) as url:
        assert curl(url, target) == "200"


@pytest.mark.parametrize(
    ("target", "expected"),
    [("send", 422), ("persist", 422), ("history", 422), ("resize", 422), ("report_failed", 200)],
)
def test_garbage_is_refused_for_good(alone, target, expected):
    """Garbage and unknown types are 422, but for the last resort, which never makes a dead letter
    of a dead letter.
    """
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/x",
        "content-type": "application/protobuf",
    }

    with function(target, alone.folder) as url:
        garbage = httpx.post(
            url,
            content=b"\x08\x01\xff\xff",
            headers={**headers, "ce-type": "knchat.commands.issued.v1"},
        )
        unknown = httpx.post(
            url, content=b"\x08\x01", headers={**headers, "ce-type": "knchat.unheard.of.v1"}
        )

    assert (garbage.status_code, unknown.status_code) == (expected, expected)


@pytest.mark.slow
async def test_a_full_disk_acknowledges_nothing_falsely_and_recovers(tmp_path):
    """On a small tmpfs: `unavailable` while it is full; when space returns sending goes on by
    itself, and nothing is missing.
    """
    assert os.geteuid() == 0, "mounting a tmpfs needs root"
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True)
    dev = Dev(disk / "data")
    dev.log_folder = tmp_path
    try:
        dev.start()
        ann, ben = new_user(dev.http, "ann"), new_user(dev.http, "ben")
        phone = Device(ann, "phone")
        await phone.connect()
        acknowledged = {(await phone.send(ben, "before", key="before"))["message"]}

        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        refused = []
        for n in range(400):
            answer = await phone.send(ben, "x" * 4000, key=f"full-{n}")
            if answer["type"] == "ok":
                acknowledged.add(answer["message"])
            else:
                refused.append(answer)
                break
        ballast.unlink()
        async with asyncio.timeout(30):
            while (answer := await phone.send(ben, "after", key=secrets.token_hex(4)))[
                "type"
            ] != "ok":
                await asyncio.sleep(0.2)
        acknowledged.add(answer["message"])

        assert [(error["code"], error["temporary"]) for error in refused] == [
            ("unavailable", True)
        ], "the disk was never full"
        chat = f"d-{min(int(ann.user), int(ben.user))}-{max(int(ann.user), int(ben.user))}"
        async with asyncio.timeout(60):
            while acknowledged - (
                stored := {message["message"] for message in _whole_chat(ann, chat)}
            ):
                await asyncio.sleep(0.2)
        assert acknowledged <= stored
        await phone.close()
    finally:
        dev.stop()
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _whole_chat(user, chat):
    messages, before = [], {}
    while True:
        page = user.get(f"/v1/chats/{chat}/messages", limit=256, **before)
        if page.status_code != 200:
            assert page.status_code == 503, json.dumps(page.json())
            return messages
        messages += page.json()["messages"]
        if not page.json()["more_before"]:
            return messages
        before = {"before": page.json()["first"]}
