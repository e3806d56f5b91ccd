"""The README's terminal session works when pasted."""

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _free_ports():
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


@pytest.mark.slow
def test_the_first_conversation_works_when_pasted(tmp_path):
    """Word for word, but for the ports: another server may run on this machine."""
    block = re.search(
        r"## A first conversation.*?```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )[1]
    http, gateway = _free_ports()
    block = block.replace(
        "scripts/dev", f"scripts/dev --http-port {http} --gateway-port {gateway}"
    ).replace("127.0.0.1:8080", f"127.0.0.1:{http}")
    environ = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}

    ended = subprocess.run(
        ["bash", "-m", "-c", block],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    history = ended.stdout.strip().splitlines()[-2:]
    assert [re.sub(r"^\S+  \d+  ", "", line) for line in history] == [
        "alice: Hello, Bob",
        "bob: Hello, Alice",
    ], ended.stderr
    assert ended.returncode == 0, ended.stderr
