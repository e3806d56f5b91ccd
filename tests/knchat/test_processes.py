"""Children of `kn-chat dev --real`, here tiny programs: when they count as ready, when they are
started again, how they end.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from backends.concurrency import Backoff
from knchat import exits
from knchat.develop.processes import Child, all_ready
from servers.process import Process
from tests.support.servers import free_port

TIMEOUT_S = 20
SERVES = "import time; print('ready here', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', "
    "flush=True); time.sleep(60)"
)
SHORT = "print('ready', flush=True)"


def child(program, name="child", **more):
    """One that is started again soon."""
    return Child(
        name,
        [sys.executable, "-c", program],
        os.environ,
        **{"restart": Backoff(0.01, 0.02), **more},
    )


@contextlib.asynccontextmanager
async def running(*children):
    """Runs them; (their tasks, a queue that gets their pids whenever one changes)."""
    pids, last = asyncio.Queue(), dict.fromkeys(children)

    def changed(one):
        if one.pid != last[one]:  # else it has become ready
            last[one] = one.pid
            pids.put_nowait(one.pid)

    tasks = [asyncio.create_task(one.run(lambda one=one: changed(one))) for one in children]
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield tasks, pids
    finally:
        for one in children:
            one.stop(within_s=0)
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_it_is_ready_when_it_says_so(capsys):
    """What stands behind `ready` is kept; all else is passed on, behind its name."""
    one = child(f"import sys; print('no news'); print('a word', file=sys.stderr); {SERVES}")
    async with running(one):
        await all_ready([one])

    assert one.words == ["here"]
    out, err = capsys.readouterr()
    assert out == ""
    assert sorted(err.splitlines()) == ["child: a word", "child: no news"]


async def test_one_with_a_url_is_ready_when_that_answers():
    """`/readyz` with 200; what it prints does not count."""
    with_server = """
import http.server, sys
class Probe(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Probe.asked += 1
        self.send_response(200 if self.path == '/readyz' and Probe.asked > 2 else 503)
        self.end_headers()
    def log_message(self, *args):
        pass
print('ready', flush=True)
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Probe).serve_forever()
"""
    port = free_port()
    one = Child(
        "child",
        [sys.executable, "-c", with_server, str(port)],
        os.environ,
        url=f"http://127.0.0.1:{port}",
    )
    async with running(one):
        await all_ready([one])

    assert one.words == []


async def test_one_that_ends_before_it_was_ready_ends_the_start(capsys):
    """A child that cannot start will not start the next time: its own words say why."""
    async with running(child("import sys; sys.exit('no such setting')")) as (tasks, _):
        with pytest.raises(exits.Ended, match=r"child cannot start \(exit code 1\)") as end:
            await tasks[0]

    assert end.value.code == exits.CANNOT_START
    assert capsys.readouterr().err == "child: no such setting\n"


async def test_one_that_is_never_ready_is_named():
    """After a while, with those that are late alone."""
    late, early = child("import time; time.sleep(60)", "late"), child(SERVES, "early")
    async with running(late, early):
        await early.ready.wait()
        with pytest.raises(exits.Ended, match=r"not ready after 0\.05 s: late;"):
            await all_ready([late, early], within_s=0.05)


async def test_one_that_served_is_started_again_and_said(caplog):
    """Kill -9: its pid is unknown until the next one runs, so no signal reaches another process."""
    one = child(SERVES)
    async with running(one) as (_, pids):
        first = await pids.get()
        await one.ready.wait()
        os.kill(first, signal.SIGKILL)
        assert await pids.get() == 0
        second = await pids.get()
        await one.ready.wait()

        assert second not in {0, first}
    (said,) = [record for record in caplog.records if "started again" in record.message]
    assert (said.child, said.code) == ("child", -signal.SIGKILL)


async def test_one_that_ends_again_and_again_is_started_ever_later(caplog):
    """The wait doubles up to a limit, with jitter; nothing ends the others."""
    one = child(SHORT, restart=Backoff(0.01, 0.04), settled_s=60)
    async with running(one) as (_, pids):
        while len([record for record in caplog.records if "started again" in record.message]) < 5:
            await pids.get()
    waits = [record.in_s for record in caplog.records if "started again" in record.message]

    assert all(
        least / 2 - 0.01 <= wait <= least + 0.01
        for wait, least in zip(waits, (0.02, 0.04, 0.04, 0.04), strict=False)
    ), waits


async def test_one_that_lived_long_enough_begins_with_the_shortest_wait(caplog):
    """What ends once a day is not what cannot live."""
    one = child(SHORT, restart=Backoff(0.01, 60), settled_s=0)
    async with running(one) as (_, pids):
        while len([record for record in caplog.records if "started again" in record.message]) < 5:
            await pids.get()

    assert all(
        record.in_s <= 0.01 for record in caplog.records if "started again" in record.message
    )


@contextlib.contextmanager
def activated(program, *, backlog=16):
    """A child that inherits a listening socket, whose number is its argument; and the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-c", program, str(listener.fileno())]
        yield (
            Child(
                "child",
                command,
                os.environ,
                url=f"http://127.0.0.1:{port}",
                listener=listener,
                restart=Backoff(0.01, 0.02),
            ),
            port,
        )


ANSWERS = """
import http.server, os, socket, sys
class Probe(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Probe, bind_and_activate=False)
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
"""


async def test_one_with_a_listener_is_started_by_its_first_request():
    """No request, no process.

    Requests wait meanwhile, many at once, and all are answered; so it is again after kill -9.
    """
    with activated(ANSWERS) as (one, port):
        async with (
            running(one) as (_, pids),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_S) as client,
        ):
            for _ in range(2):
                assert (one.pid, pids.empty(), one.ready.is_set()) == (0, True, False)
                answers = await asyncio.gather(
                    *(client.get("/", headers={"connection": "close"}) for _ in range(10))
                )
                pid = await pids.get()
                await one.ready.wait()

                assert {answer.text for answer in answers} == {str(pid)}
                assert one.ready_s > one.began_s > 0
                os.kill(pid, signal.SIGKILL)
                assert await pids.get() == 0


async def test_one_with_a_listener_that_cannot_start_is_tried_again(caplog):
    """Ever later, for as long as a request waits: it is not the start that it ends."""
    with activated("import sys; sys.exit('no such setting')") as (one, port):
        async with running(one) as (tasks, pids):
            with socket.create_connection(("127.0.0.1", port)):
                while (
                    len([record for record in caplog.records if "started again" in record.message])
                    < 3
                ):
                    await pids.get()
            assert not tasks[0].done()


async def test_one_that_was_never_requested_ends_at_once():
    """It is not started for that."""
    with activated(ANSWERS) as (one, _):
        async with running(one) as (tasks, pids):
            await asyncio.sleep(0)
            one.stop(within_s=TIMEOUT_S)
            await tasks[0]

            assert pids.empty()


async def test_stop_sends_sigterm_first_and_then_sigkill(caplog):
    """SIGTERM, a limit, SIGKILL."""
    polite, stubborn = child(SERVES, "polite"), child(STUBBORN, "stubborn")
    async with running(polite, stubborn) as (tasks, _):
        await all_ready([polite, stubborn])
        began = time.monotonic()
        for one in (polite, stubborn):
            one.stop(within_s=0.5)
        await asyncio.gather(*tasks)

    assert 0.5 <= time.monotonic() - began < 10
    assert [record.child for record in caplog.records if "is killed" in record.message] == [
        "stubborn"
    ]
    assert (polite.pid, stubborn.pid) == (0, 0)


async def test_stop_during_the_start_and_during_the_wait_for_the_next_one():
    """Nothing is left, and nothing waits for what will not come."""
    starting, waiting = (
        child("import time; time.sleep(60)", "starting"),
        child(SHORT, "waiting", restart=Backoff(60, 60)),
    )
    never = child(SERVES, "never")
    never.stop(within_s=0)
    async with running(starting, waiting, never) as (tasks, pids):
        seen = [await pids.get() for _ in range(3)]  # both have begun, one has ended
        for one in (starting, waiting):
            one.stop(within_s=5)
        await asyncio.gather(*tasks)

    assert [Process.find(pid) for pid in seen if pid] == [None, None]


def test_when_the_parent_is_killed_so_are_its_children(tmp_path):
    """No orphan holds a port, however the parent went; also one that ignores SIGTERM."""
    parent = f"""
import asyncio, os, sys
from knchat.develop.processes import Child
async def main():
    child = Child('child', [sys.executable, '-c', {STUBBORN!r}], os.environ)
    task = asyncio.create_task(child.run(lambda: None))
    await child.ready.wait()
    print(child.pid, flush=True)
    await task
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True
    ) as process:
        pid = int(process.stdout.readline())
        orphan = Process.find(pid)
        assert orphan is not None
        process.kill()

    assert orphan.wait(timeout_s=TIMEOUT_S)
