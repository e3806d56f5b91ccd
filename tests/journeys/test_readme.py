"""The README's terminal session works when pasted."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.servers import free_ports

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_first_conversation_works_when_pasted(tmp_path):
    """Word for word, but for the ports: another server may run on this machine."""
    block = re.search(
        r"## A first conversation.*?```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )[1]
    http, gateway = free_ports(2)
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
