"""`scripts/bench cold-start`: from exec to the 200 for the sample event of each function, beside a
bare ASGI hello on the same server.

Each round starts a fresh process with warm page cache and .pyc files, as a scaled-out pod would
have them. Medians of the rounds; the order of programs changes every round, so that a noisy second
hits all alike.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  scripts/bench cold-start                  10 rounds, a table
  scripts/bench cold-start --rounds 20"""

SAMPLES = Path(__file__).resolve().parents[2] / "functions" / "samples"
TARGETS = ("send", "persist", "index", "history", "report_failed")
FLOOR_RATIO = {"send": 3.0, "persist": 4.5, "index": 4.5, "history": 4.5}
FLOOR_MS = 700.0
TIMEOUT_S = 20.0


async def hello(scope: dict[str, object], _receive: object, send: Any) -> None:
    """The bare ASGI app that everything is compared with."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _sample(target: str) -> tuple[dict[str, str], bytes]:
    lines = (SAMPLES / f"{target}.headers").read_text().splitlines()
    headers = dict(line.split(": ", 1) for line in lines if line)
    return headers, (SAMPLES / f"{target}.bin").read_bytes()


def once(app: str, environ: dict[str, str], headers: dict[str, str], body: bytes) -> float:
    """Milliseconds from exec to the 200."""
    port = _free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        app,
        "--port",
        str(port),
        "--log-level",
        "critical",
        "--lifespan",
        "off",
    ]
    start = time.perf_counter()
    # Images ship .pyc files.
    inherited = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    process = subprocess.Popen(command, env={**inherited, **environ}, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
                connection.request("POST", "/", body=body, headers=headers)
                status = connection.getresponse().status
                break
            except ConnectionRefusedError:
                if time.perf_counter() - start > TIMEOUT_S or process.poll() is not None:
                    raise SystemExit(f"{app} {environ} does not answer") from None
                time.sleep(0.001)
        elapsed = (time.perf_counter() - start) * 1000
        if status != 200:
            raise SystemExit(f"{app} {environ} answered {status}")
        return elapsed
    finally:
        process.kill()
        process.wait()


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; 1 when a floor is missed."""
    parser = argparse.ArgumentParser(
        "scripts/bench cold-start",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds", type=int, default=10, help="fresh processes per program (default 10)"
    )
    parser.add_argument(
        "--no-floor",
        action="store_true",
        help="print only: a shared machine must not fail a build by its noise",
    )
    options = parser.parse_args(arguments)
    times: dict[str, list[float]] = {name: [] for name in ("bare ASGI hello", *TARGETS)}
    with tempfile.TemporaryDirectory(prefix="kn-chat-cold-") as folder:
        for number in range(options.rounds + 1):
            print(
                f"round {number} of {options.rounds}{' (not counted)' if number == 0 else ''}",
                file=sys.stderr,
            )
            names = list(times)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if name in TARGETS:
                    headers, body = _sample(name)
                    environ = {
                        "FUNCTION_TARGET": name,
                        "KNCHAT_DATA": folder,
                        "FUNCTION_SOURCE": str(SAMPLES.parent / "main.py"),
                    }
                    elapsed = once("functions.runtime.asgi:app", environ, headers, body)
                else:
                    elapsed = once("measure.cold_start:hello", {}, {}, b"")
                if number:
                    times[name].append(elapsed)
    bare = statistics.median(times["bare ASGI hello"])
    missed = False
    print(f"{'program':18}{'median ms':>10}{'worst ms':>10}{'x bare':>8}  floor")
    for name, values in times.items():
        median = statistics.median(values)
        floor = FLOOR_RATIO.get(name)
        good = floor is None or (median <= floor * bare and median <= FLOOR_MS)
        missed = missed or not good
        told = (
            ""
            if floor is None
            else f"<= {floor}x, <= {FLOOR_MS:.0f} ms: {'met' if good else 'MISSED'}"
        )
        print(f"{name:18}{median:10.0f}{max(values):10.0f}{median / bare:8.2f}  {told}")
    return int(missed and not options.no_floor)


if __name__ == "__main__":
    sys.exit(main())
