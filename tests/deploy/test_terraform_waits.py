"""What `terraform/` waits for with kubectl: it asks for what it is told, and says what is not ready
and why.
"""

import os
import re
import subprocess

import pytest

from tests.deploy.stacks import STACKS


@pytest.fixture
def kubectl(tmp_path):
    """A kubectl of the test's: only objects named in KNOWN are ready; it writes down how it was
    called.
    """
    path = tmp_path / "bin/kubectl"
    path.parent.mkdir()
    path.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$*" >>"$CALLS"\n'
        'case "$*" in *"get "*) echo "  Ready=False NoTopic not there"; exit ;; esac\n'
        'for word in $KNOWN; do case "$*" in *$word*) exit 0 ;; esac; done\nexit 1\n'
    )
    path.chmod(0o755)
    return path


def waited(kubectl, waits, known, **environ):
    calls = kubectl.parent / "calls"
    calls.write_text("")
    done = subprocess.run(
        ["sh", STACKS / "ready/ready.sh"],
        env={
            "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "KNOWN": known,
            "WAITS": waits,
            "TIMEOUT_S": "30",
            **environ,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done, calls.read_text().splitlines()


def test_a_wait_asks_for_what_it_is_told(kubectl):
    """In its namespace and its context; a StatefulSet by its rollout."""
    waits = (
        "condition=Ready chat kafkasink/commands\nrollout chat "
        "statefulset/gateway\ncondition=Ready - clusterissuer/kn-chat"
    )
    done, calls = waited(kubectl, waits, "commands gateway clusterissuer", KUBE_CONTEXT="kind")

    assert (done.returncode, done.stderr) == (0, "")
    assert [re.sub(r"timeout=\d+s", "timeout=", call) for call in calls] == [
        "--context=kind --namespace=chat wait --for=condition=Ready kafkasink/commands --timeout=",
        "--context=kind --namespace=chat rollout status statefulset/gateway --timeout=",
        "--context=kind wait --for=condition=Ready clusterissuer/kn-chat --timeout=",
    ]


def test_a_wait_names_what_is_not_ready_and_why(kubectl):
    """And does not go on to the next."""
    waits = "condition=Ready chat kafkasink/commands\ncondition=Ready chat kafkasink/queries"
    done, calls = waited(kubectl, waits, "queries", HINT="Look at the receiver.")

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "chat kafkasink/commands is not ready (condition=Ready). Its conditions:",
        "  Ready=False NoTopic not there",
        "Look at the receiver.",
    ]
    assert not any("queries" in call for call in calls)


def test_nothing_to_wait_for_is_no_mistake(kubectl):
    done, calls = waited(kubectl, "", "")

    assert (done.returncode, calls) == (0, [])


def test_without_kubectl_a_wait_says_so(tmp_path):
    """Rather than that the first object is not ready."""
    done = subprocess.run(
        ["/bin/sh", STACKS / "ready/ready.sh"],
        env={"PATH": str(tmp_path), "WAITS": "", "TIMEOUT_S": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 3
    assert "kubectl is missing" in done.stderr
