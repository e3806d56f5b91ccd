"""The Autobahn cases for WebSockets (kosoku), then our size limit, against an echo session on the
gateway's own socket and limits.

Left out: 9.* sends messages of up to 16 MiB, and 12.* and 13.* are about compression, which the
gateway never agrees to.
"""

# ruff: noqa: T201  # a command prints

import sys
import time
from collections import Counter

import kosoku

from gateway.transport.interface import Accept, Limits, Request, Response
from gateway.transport.listener import listen
from tests.gateway.raw_socket import BINARY, CLOSE, RawSocket, Recorder, fragments, frame

LEFT_OUT = ["9.*", "12.*", "13.*"]
# The cases spend their time waiting for our closes, not on the processor.
MAX_CONCURRENT = 8
LIMIT_BYTES = Limits().frame_bytes


async def check(cases: list[str] | None, *, name_all: bool) -> int:
    """Run and report; 1 when a case failed, or our limit is not where it is announced."""
    listener = await listen("127.0.0.1", 0, admit=_admit, http=_no_http)
    try:
        failed = await _run_cases(listener.port, cases, name_all=name_all)
        return 1 if await _check_limit(listener.port) or failed else 0
    finally:
        await listener.close()


async def _run_cases(port: int, cases: list[str] | None, *, name_all: bool) -> bool:
    started = time.monotonic()
    try:
        results = await kosoku.run_fuzzingclient(
            f"ws://127.0.0.1:{port}/", cases, LEFT_OUT, concurrency=MAX_CONCURRENT
        )
    # Which cases failed and why, or that none is called so.
    except (kosoku.FailureError, ValueError) as failure:
        print(failure, file=sys.stderr)
        return True
    verdicts = Counter(result.behavior.value for result in results)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    print(f"{len(results)} cases, 0 FAILED: {counts} ({time.monotonic() - started:.1f} s)")
    for result in results:
        if name_all and result.behavior.value != "OK":
            print(
                f"  {result.case_id} {result.behavior.value}: "
                f"{' '.join(result.expectation.split())}"
            )
    return False


async def _check_limit(port: int) -> bool:
    """Whether the limit of a message is anywhere but between `LIMIT_BYTES` and one byte more."""
    fits, over = b"x" * LIMIT_BYTES, b"x" * (LIMIT_BYTES + 1)
    wrong = False
    for what, data, wanted in (
        (f"{LIMIT_BYTES} bytes", frame(BINARY, fits), (BINARY, fits)),
        (
            f"{LIMIT_BYTES} bytes in fragments",
            fragments(BINARY, [fits[:40_000], fits[40_000:]]),
            (BINARY, fits),
        ),
        (f"{LIMIT_BYTES + 1} bytes", frame(BINARY, over), (CLOSE, 1009)),
        (
            f"{LIMIT_BYTES + 1} bytes in fragments",
            fragments(BINARY, [over[:40_000], over[40_000:]]),
            (CLOSE, 1009),
        ),
    ):
        peer = await RawSocket.connect(port)
        peer.send(data)
        opcode, payload = await peer.frame()
        await peer.hang_up()
        got = (opcode, int.from_bytes(payload[:2]) if opcode == CLOSE else payload)
        right = got == wanted
        wrong = wrong or not right
        outcome = "passes" if opcode == BINARY else f"close {got[1]}"
        print(f"{what}: {outcome}{'' if right else ', which is WRONG'}")
    return wrong


def _admit(_: Request) -> Accept:
    return Accept(Recorder(), None)


async def _no_http(_: Request) -> Response:
    return Response(404, b"this is a WebSocket server\n")
