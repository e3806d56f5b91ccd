"""A request to an ASGI app without a socket between: what a server would do."""

import asyncio

import pytest

from backends.dispatcher.in_process import in_process

HEADERS = [(b"ce-id", b"1"), (b"host", b"send")]


def answering(*messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(
                {"type": f"http.response.{'start' if 'status' in message else 'body'}", **message}
            )

    return app


async def test_the_app_sees_one_post_with_headers_and_body():
    """Everything that a function reads of a request is there."""
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope, message=await receive())
        await send(
            {"type": "http.response.start", "status": 204, "headers": [(b"Kne-Reason", b"Why")]}
        )
        await send({"type": "http.response.body"})

    answer = await in_process(app)(HEADERS, b"\x08\x01")

    assert (seen["type"], seen["method"], seen["path"], seen["headers"]) == (
        "http",
        "POST",
        "/",
        HEADERS,
    )
    assert seen["message"] == {"type": "http.request", "body": b"\x08\x01", "more_body": False}
    assert answer == (204, [(b"kne-reason", b"Why")], b"")


async def test_the_parts_of_a_body_are_put_together():
    """An app may send its answer in pieces."""
    answer = await in_process(
        answering({"status": 200}, {"body": b"O", "more_body": True}, {"body": b"K"})
    )(HEADERS, b"")

    assert answer == (200, [], b"OK")


async def test_an_app_that_raises_is_a_500(caplog):
    """So the event is tried again, as behind a server; the bug stands in the log."""

    async def app(scope, receive, send):
        raise RuntimeError("a bug")

    answer = await in_process(app)(HEADERS, b"")

    assert answer.status == 500
    assert "a bug" in caplog.text


async def test_an_app_that_answers_nothing_is_a_500():
    """A server says so for it."""
    answer = await in_process(answering())(HEADERS, b"")

    assert answer.status == 500


async def test_an_answer_that_breaks_off_is_no_answer():
    """A server would close the connection."""
    with pytest.raises(ConnectionError):
        await in_process(answering({"status": 200}, {"body": b"half", "more_body": True}))(
            HEADERS, b""
        )


async def test_an_app_that_raises_after_its_answer_has_answered(caplog):
    """The event is done; the bug stands in the log."""

    async def app(scope, receive, send):
        await answering({"status": 200}, {"body": b"OK"})(scope, receive, send)
        raise RuntimeError("too late")

    answer = await in_process(app)(HEADERS, b"")

    assert answer.status == 200
    assert "too late" in caplog.text


async def test_a_handler_goes_on_after_the_timeout_and_may_notice():
    """The dispatcher closes the connection at its timeout; the function is not stopped, but can see
    it (measured).
    """
    noticed = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        assert await receive() == {"type": "http.disconnect"}
        await answering({"status": 200}, {"body": b"not read"})(scope, receive, send)
        noticed.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await in_process(app)(HEADERS, b"")

    async with asyncio.timeout(5):
        await noticed.wait()
