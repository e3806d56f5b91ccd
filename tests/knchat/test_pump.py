"""`kn-chat pump` as a process: what it brings, what it prints, how it ends."""

import asyncio
import signal

import pytest

from backends.log.embedded.log import EmbeddedLog
from knchat import exits
from tests.support.dispatched import Function, append, committed, dead_letters
from tests.support.events import event
from tests.support.servers import free_port, serving


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the log of this test's pumps lies."""
    monkeypatch.setenv("KNCHAT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
async def log(folder):
    """The log, to append to and look into beside a dispatcher."""
    log = EmbeddedLog(folder / "log.db")
    yield log
    await log.close()


async def ready(running, line="ready send\n"):
    await asyncio.to_thread(running.out, line)


async def end(running, signum=signal.SIGTERM):
    running.process.send_signal(signum)
    return await asyncio.to_thread(running.end)


async def test_it_brings_events_to_a_url_and_commits_at_its_end(knchat, log):
    """One line when it pumps, then a POST an event; a planned end repeats nothing."""
    function = Function(200, 503, 200)
    async with serving(function) as url:
        running = knchat.start("pump", "--group", "send", "--url", url)
        await ready(running)
        await append(log, event(1), event(2))
        assert sorted(await function.next(3)) in (["1", "2", "2"], ["1", "1", "2"])
        ended = await end(running)

    assert (ended.code, ended.out) == (exits.OK, "ready send\n")
    assert await committed(log) == {0: 2}


async def test_without_a_url_the_function_runs_inside(knchat, log):
    """The real one: it refuses what is no event of its own, and that is dead-lettered."""
    running = knchat.start("pump", "--group", "send")
    await ready(running)
    await append(log, event(1))
    (letter,) = await dead_letters(log)
    ended = await end(running)

    assert ended.code == exits.OK
    assert letter.extensions["knativeerrordest"] == "http://send"
    assert letter.extensions["reason"].startswith("malformed-")


async def test_a_second_signal_does_not_wait(knchat, log):
    """What the function has not finished comes again."""
    hanging = asyncio.Event()

    async def hang(scope, receive, send):
        await hanging.wait()
        return 200

    function = Function(hang)
    async with serving(function) as url:
        running = knchat.start("pump", "--group", "send", "--url", url)
        await ready(running)
        await append(log, event(1))
        await function.next()
        running.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(running.err, "stopping")
        ended = await end(running)
        hanging.set()

    assert ended.code == -signal.SIGTERM
    assert await committed(log) == {}


async def test_an_unavailable_log_is_waited_for(knchat, folder, monkeypatch):
    """It says so, prints no `ready`, and ends when it is told to."""
    monkeypatch.setenv("KNCHAT_LOG", "kafka")
    monkeypatch.setenv("KNCHAT_KAFKA", f"127.0.0.1:{free_port()}")
    running = knchat.start("pump", "--group", "send", "--url", "http://127.0.0.1:1")
    await asyncio.to_thread(running.err, "the group cannot be joined")
    ended = await end(running)

    assert (ended.code, ended.out) == (exits.OK, "")


def test_an_unknown_group(knchat):
    """The help says which there are."""
    ended = knchat("pump", "--group", "other")

    assert ended.code == exits.USAGE
    assert "report-lost" in ended.err


@pytest.mark.parametrize("url", ["send", "ftp://send", "http://"])
def test_a_wrong_url(knchat, folder, url):
    """Said at once, in one line."""
    ended = knchat("pump", "--group", "send", "--url", url)

    assert (ended.code, ended.out) == (exits.USAGE, "")
    assert ended.err.splitlines()[-1].startswith("kn-chat: url: ")
