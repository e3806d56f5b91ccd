"""One account that asks for as much as it can, a process of its own: `python -m measure.flooder`,
with its task as JSON on standard input.

It repeats one HTTP call over many connections, or one frame on one WebSocket, and says what it was
told. Times that it was told to wait it ignores; at the end it looks whether the last one was true.
`flood` starts it, and uses `Http` and `Connection` for the others too.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any, Final

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

UNANSWERED: Final = 1_000
TICK_S: Final = 0.02
ANSWER_TIMEOUT_S: Final = 5.0


class Http:
    """HTTP/1.1 on one connection, which is made again when it has ended; cheaper than a client that
    can do more.
    """

    def __init__(self, address: str, *, own: str = "127.0.0.1") -> None:
        """`address`: host:port; `own`: the address that it comes from."""
        self._host, _, self._port = address.rpartition(":")
        self._own = own
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, *, token: str = "", body: Any = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer. Raises OSError when there is none."""
        text = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", f"host: {self._host}", f"content-length: {len(text)}"]
        head += [f"authorization: Bearer {token}"] if token else []
        head += ["content-type: application/json"] if body is not None else []
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                self._host, int(self._port), local_addr=(self._own, 0)
            )
        reader, writer = self._streams
        try:
            writer.write("\r\n".join([*head, "", ""]).encode() + text)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines[1:] if line)
            }
            content = await reader.readexactly(int(headers.get("content-length", 0)))
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise ConnectionError("no answer") from error
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), headers, content

    def close(self) -> None:
        """Closes the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Connection(WSListener):
    """One session. Replies are found by their `re`, pushes are dropped."""

    def __init__(self) -> None:
        self._transport: WSTransport | None = None
        self.replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.live = asyncio.Event()
        self._number = 0

    async def open(self, url: str, token: str, device: str) -> Connection:
        """Connects and waits until messages flow."""
        self._transport, _ = await ws_connect(
            lambda: self, url, extra_headers={"Sec-WebSocket-Protocol": "knchat.v1.json"}
        )
        self.say({"type": "hello", "token": token, "device": device})
        async with asyncio.timeout(10):
            await self.live.wait()
        return self

    def say(self, frame: dict[str, Any]) -> None:
        """Sends a frame."""
        assert self._transport is not None  # noqa: S101 - opened
        self._transport.send(WSMsgType.TEXT, json.dumps(frame).encode())

    def ask(self, frame: dict[str, Any]) -> asyncio.Future[dict[str, Any]]:
        """Sends a frame with a number of its own; its reply is to come.

        `{n}` in a key is that number.
        """
        self._number += 1
        if "key" in frame:
            frame = {**frame, "key": f"{frame['key']}-{self._number}"}
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.replies[self._number] = reply
        self.say({**frame, "id": self._number})
        return reply

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Finds out whose reply it is."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            told = json.loads(frame.get_payload_as_bytes())
            for one in told if isinstance(told, list) else [told]:
                if one["type"] == "live":
                    self.live.set()
                elif (
                    reply := self.replies.pop(one.get("re"), None)
                ) is not None and not reply.done():
                    reply.set_result(one)

    def close(self) -> None:
        """Ends it."""
        if self._transport is not None:
            self._transport.disconnect()


async def flood_calls(task: dict[str, Any]) -> dict[str, Any]:
    """Repeats an HTTP call over `at_once` connections."""
    told: Counter[str] = Counter()
    until_s = time.monotonic() + task["seconds"]
    request = {"token": task["token"], "body": task["body"]}

    async def one() -> None:
        connection = Http(task["http"])
        while time.monotonic() < until_s:
            try:
                status, _, _ = await connection.ask(task["method"], task["path"], **request)
                told[str(status)] += 1
            except OSError:
                told["none"] += 1
                await asyncio.sleep(TICK_S)
        connection.close()

    await asyncio.gather(*(one() for _ in range(task["at_once"])))
    connection, true = Http(task["http"]), None
    if told["429"]:
        status, headers, _ = await connection.ask(task["method"], task["path"], **request)
        if status == 429:
            await asyncio.sleep(float(headers["retry-after"]))
            true = (await connection.ask(task["method"], task["path"], **request))[0] != 429
    return {"told": told, "limited": told["429"], "true": true}


async def flood_frames(task: dict[str, Any]) -> dict[str, Any]:
    """Repeats a frame on one WebSocket, `rate` a second as long as not too many are without an
    answer.
    """
    told: Counter[str] = Counter()
    connection = await Connection().open(task["url"], task["token"], task["device"])
    for _ in range(task["fill"]):
        await connection.ask(
            {"type": "send", "chat": task["chat"], "key": "fill", "text": "x" * 200}
        )
    until_s = time.monotonic() + task["seconds"]

    def heard(reply: asyncio.Future[dict[str, Any]]) -> None:
        if not reply.cancelled():
            told[reply.result().get("code", reply.result()["type"])] += 1

    while time.monotonic() < until_s:
        for _ in range(max(1, round(task["rate"] * TICK_S))):
            if len(connection.replies) < UNANSWERED:
                connection.ask(task["frame"]).add_done_callback(heard)
        await asyncio.sleep(TICK_S)
    connection.close()
    true = None
    if told["rate_limited"]:
        # A new session: the old one is read slowly, and much waits in it.
        connection = await Connection().open(task["url"], task["token"], task["device"])
        reply = await asyncio.wait_for(connection.ask(task["frame"]), ANSWER_TIMEOUT_S)
        if reply.get("code") == "rate_limited":
            await asyncio.sleep(reply["retry_after_ms"] / 1_000)
            reply = await asyncio.wait_for(connection.ask(task["frame"]), ANSWER_TIMEOUT_S)
            true = reply.get("code") != "rate_limited"
        connection.close()
    return {"told": told, "limited": told["rate_limited"], "true": true}


def main() -> None:
    """Does the task, and prints what came of it as JSON."""
    task = json.load(sys.stdin)
    print(
        json.dumps(uvloop.run(flood_calls(task) if "method" in task else flood_frames(task))),
        flush=True,
    )


if __name__ == "__main__":
    main()
