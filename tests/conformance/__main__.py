"""`scripts/conformance`: independent suites, against the gateway's own parts and against any server
that speaks docs/protocol.md.
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping

import uvloop

from tests.conformance import websocket
from tests.conformance.protocol import run
from tests.conformance.unlimited import UNLIMITED

EXAMPLES = """
examples:
  scripts/conformance socket               all cases, about five seconds; exit code 1 if one fails
  scripts/conformance socket --case '7.*'  only the closing handshake
  scripts/conformance socket --all         also the cases that are not OK in the strict sense, with
                                           their reason
  scripts/conformance protocol             all of docs/protocol.md that is served, against a
                                           `kn-chat dev --memory` of its own; seconds
  scripts/conformance protocol --http http://chat.example --ws wss://chat.example/v1/socket
                                           against any server; its own users, random names
  scripts/conformance protocol --case 'messages/*' --verbose
                                           some cases, those that pass too
  scripts/conformance openapi              2,000 calls made from the OpenAPI document
  scripts/conformance openapi --calls 20000 --http http://chat.example
                                           more of them, against any server; it waits as long as
                                           `rate_limited` says
"""


DEMO = ("alice", "alice-demo-password")
"""The administrator of a server of our own."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/conformance",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    suites = parser.add_subparsers(dest="suite", required=True, metavar="suite")
    socket = suites.add_parser(
        "socket",
        help="the Autobahn cases (kosoku) and our size limit, against an echo on the gateway's "
        "socket",
    )
    socket.add_argument(
        "--case",
        action="append",
        help="a case or glob, such as 6.4.* (repeatable; default: all that apply)",
    )
    socket.add_argument(
        "--all",
        action="store_true",
        help="name the cases that passed without being OK in the strict sense",
    )
    page = suites.add_parser(
        "protocol",
        help="every frame, field, error and close code of docs/protocol.md, and the HTTP calls, in "
        "JSON and MessagePack",
    )
    page.add_argument("--http", help="URL of the HTTP calls; with --ws, else a server of its own")
    page.add_argument("--ws", help="URL of the WebSocket, ws(s)://host[:port]/v1/socket")
    page.add_argument("--case", action="append", help="a case or glob (repeatable; default: all)")
    page.add_argument(
        "--administrator",
        help="NAME:PASSWORD of an administrator, for the calls that others may not make",
    )
    page.add_argument("--slow", action="store_true", help="also what takes up to two minutes")
    page.add_argument("--verbose", action="store_true", help="name the cases that pass, too")
    calls = suites.add_parser(
        "openapi",
        help="calls generated from the OpenAPI document (schemathesis): each answer must be one "
        "that it announces, and none is 5xx",
    )
    calls.add_argument("--http", help="URL of the HTTP calls, else a server of its own")
    calls.add_argument("--calls", type=int, default=2_000, metavar="N", help="default 2000")
    calls.add_argument("--seed", type=int, default=1, metavar="N", help="default 1")
    arguments = parser.parse_args()
    if arguments.suite == "openapi":
        # It loads schemathesis, which takes a second.
        from tests.conformance import openapi  # noqa: PLC0415

        with contextlib.ExitStack() as stack:
            http = arguments.http or stack.enter_context(dev(UNLIMITED))[0]
            return openapi.check(http, calls=arguments.calls, number=arguments.seed)
    if arguments.suite == "socket":
        return uvloop.run(websocket.check(arguments.case, name_all=arguments.all))
    if (arguments.http is None) != (arguments.ws is None):
        parser.error("--http and --ws belong together")
    with contextlib.ExitStack() as stack:
        http, ws = (arguments.http, arguments.ws) if arguments.http else stack.enter_context(dev())
        given = DEMO if arguments.http is None else (arguments.administrator or "").split(":", 1)
        return asyncio.run(
            run.check(
                http,
                ws,
                arguments.case,
                slow=arguments.slow,
                verbose=arguments.verbose,
                administrator=(given[0], given[1]) if len(given) == 2 else None,
            )
        )


@contextlib.contextmanager
def dev(environ: Mapping[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """The URLs of a throw-away `kn-chat dev` in a process of its own."""
    command = ["knchat", "dev", "--memory", "--http-port", "0", "--gateway-port", "0"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **(environ or {})},
        )
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            if words[:1] != ["ready"]:
                log.seek(0)
                raise SystemExit(f"kn-chat dev did not start:\n{log.read()}")
            yield words[1], words[2]
        finally:
            process.terminate()
            process.wait()


sys.exit(main())
