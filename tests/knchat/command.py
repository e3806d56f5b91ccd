"""Runs `kn-chat` with a configuration folder of the test's own."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from knchat.__main__ import main

TIMEOUT_S = 90
"""On a crowded machine a product of twelve processes needs more than 30 s to start or to end."""


@dataclass
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


class Command:
    """`kn-chat` with its log-ins in `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._running: list[Running] = []

    def __call__(self, *arguments: str, stdin: str = "") -> Ran:
        """Runs it to its end: in this process, which is ten times as fast, but for `chat`, which
        reads its stdin by number.
        """
        if arguments[0] == "chat":
            ended = subprocess.run(  # noqa: PLW1510 - how it ends is the subject
                [sys.executable, "-m", "knchat", *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                env=self._environ,
            )
            return Ran(ended.returncode, ended.stdout, ended.stderr)
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self._environ),
            mock.patch.object(sys, "stdin", io.StringIO(stdin)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main(arguments)
        return Ran(code, out.getvalue(), err.getvalue())

    def start(self, *arguments: str) -> Running:
        """Starts it; its streams are at hand."""
        running = Running(
            subprocess.Popen(
                [sys.executable, "-m", "knchat", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environ,
            )
        )
        self._running.append(running)
        return running

    def stop_all(self) -> None:
        for running in self._running:
            running.stop()

    @property
    def _environ(self) -> dict[str, str]:
        return {**os.environ, "XDG_CONFIG_HOME": str(self.home), "TZ": "UTC"}


class Running:
    """A command under way. Threads read what it prints, so that it never waits for us."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._changed = threading.Condition()
        self._heard = {"out": "", "err": ""}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream))
            for name, stream in (("out", process.stdout), ("err", process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def say(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def out(self, text: str, *, within_s: float = TIMEOUT_S) -> str:
        """Waits until stdout holds this; all of stdout so far."""
        return self._hear("out", text, within_s)

    def err(self, text: str) -> str:
        return self._hear("err", text, TIMEOUT_S)

    def end(self, *, close: bool = True) -> Ran:
        """Closes its stdin and waits for its end."""
        if close:
            self.process.stdin.close()
        code = self.process.wait(TIMEOUT_S)
        for reader in self._readers:
            reader.join()
        return Ran(code, self._heard["out"], self._heard["err"])

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def _hear(self, name: str, text: str, within_s: float) -> str:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self._heard[name], within_s), (
                text,
                self._heard,
            )
            return self._heard[name]

    def _read(self, name: str, stream) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        while data := stream.read1(65_536):
            with self._changed:
                self._heard[name] += decoder.decode(data)
                self._changed.notify_all()
