"""Clocks of a started program that a test sets, with what stands in `clock_shim.c`: compiled by the
system's C compiler, and preloaded.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from servers import packages

_SOURCE = Path(__file__).with_name("clock_shim.c")


class Shim:
    """How far the clocks of those programs are ahead that were started with `environ`."""

    def __init__(self, folder: Path) -> None:
        packages.install([packages.COMPILER, packages.C_HEADERS])
        library, self._file = folder / "clock_shim.so", folder / "clock_shim"
        command = [
            packages.COMPILER.path(),
            "-shared",
            "-fPIC",
            "-O2",
            "-Wall",
            "-Werror",
            "-o",
            library,
            _SOURCE,
            "-ldl",
        ]
        subprocess.run(command, check=True)
        self._wall_s = self._boot_s = 0.0
        self._write()
        self.environ = {"LD_PRELOAD": str(library), "CLOCK_SHIM": str(self._file)}

    def set_wall(self, ahead_s: float) -> None:
        """Steps the wall clock, as an operator or a time server does."""
        self._wall_s = ahead_s
        self._write()

    def suspend(self, seconds: float) -> None:
        """So much has passed while nothing ran: by the wall clock and CLOCK_BOOTTIME, not by
        CLOCK_MONOTONIC.
        """
        self._wall_s += seconds
        self._boot_s += seconds
        self._write()

    def _write(self) -> None:
        given = struct.pack("qq", round(self._wall_s * 1e9), round(self._boot_s * 1e9))
        if self._file.exists():
            with self._file.open("r+b") as file:  # the same file: it is mapped
                file.write(given)
        else:
            self._file.write_bytes(given)
