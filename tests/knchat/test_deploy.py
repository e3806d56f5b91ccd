"""`kn-chat deploy` and its kin where there is no cluster to speak to: what is told, and how they
end.

What they do on an API server stands in tests/deploy.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from knchat.operate.kubectl import WAVE, Kubectl
from knchat.operate.needed_secrets import needed
from knchat.operate.waves import KINDS

ROOT = Path(__file__).parents[2]

CLUSTER = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "away",
    "contexts": [{"name": "away", "context": {"cluster": "away", "user": "away"}}],
    "clusters": [{"name": "away", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "away", "user": {"token": "canary"}}],
}
COMMANDS = (
    ("deploy", "OVERLAY"),
    ("upgrade", "OVERLAY"),
    ("status",),
    ("remove", "--yes"),
    ("doctor",),
)


@pytest.fixture
def run(knchat, tmp_path, monkeypatch):
    """Runs a command with an overlay of one object."""
    (tmp_path / "kustomization.yaml").write_text("resources: [settings.yaml]\n")
    (tmp_path / "settings.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kn-chat, namespace: chat}\n"
    )
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return lambda *words: knchat(*(str(tmp_path) if word == "OVERLAY" else word for word in words))


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_without_a_cluster_chosen_it_says_how_to_choose_one(run, words):
    """Before anything else."""
    ran = run(*words)

    assert ran.code == 2
    assert ran.err.startswith("kn-chat: no cluster is chosen: --context or KUBECONFIG says which")


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_an_unavailable_cluster_is_told_in_a_line(run, words, tmp_path):
    """With the code for what may be right later, and without the token."""
    (tmp_path / "kubeconfig").write_text(json.dumps(CLUSTER))
    ran = run(*words, "--kubeconfig", str(tmp_path / "kubeconfig"))

    assert ran.code == 5
    assert "kn-chat: the cluster does not answer: " in ran.err
    assert "canary" not in ran.out + ran.err


def test_a_context_that_is_not_there_is_wrong_usage(run, tmp_path):
    """It is named."""
    (tmp_path / "kubeconfig").write_text(json.dumps(CLUSTER))
    ran = run("status", "--kubeconfig", str(tmp_path / "kubeconfig"), "--context", "tset")

    assert ran.code == 2
    assert '"tset" does not exist' in ran.err


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_without_kubectl_it_says_what_is_missing(run, words, monkeypatch, tmp_path):
    """A package of the system, so code 3."""
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = run(*words)

    assert ran.code == 3
    assert "kubectl is missing" in ran.err


def test_a_folder_that_is_no_overlay_is_told(run, tmp_path):
    """In kubectl's words."""
    (tmp_path / "kubeconfig").write_text(json.dumps(CLUSTER))
    ran = run("deploy", str(tmp_path / "nowhere"), "--kubeconfig", str(tmp_path / "kubeconfig"))

    assert ran.code == 1
    assert "nowhere" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("upgrade", "OVERLAY", "--canary", "100"), "'--canary': 100 is not in the range 0<=x<=99"),
        (("upgrade", "OVERLAY", "--hold", "-1"), "'--hold': -1 is not in the range x>=0"),
        (("deploy", "OVERLAY", "--timeout", "0"), "'--timeout': 0 is not in the range x>=1"),
        (("remove", "--timeout", "0"), "'--timeout': 0 is not in the range x>=1"),
        (("doctor", "--gateway", "gw-0.chat.example"), "gw-0.chat.example is no URL"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_asked(run, words, said):
    """No cluster is needed to see it."""
    ran = run(*words)

    assert ran.code == 2
    assert said in ran.err


@pytest.mark.parametrize("command", [words[0] for words in COMMANDS])
def test_help_teaches(run, command):
    """Examples, and what it does to whose data."""
    ran = run(command, "--help")

    assert ran.code == 0
    assert f"  kn-chat {command}" in ran.out
    assert "--context NAME" in ran.out


@pytest.mark.parametrize("overlay", ["dev", "production"])
def test_all_kinds_of_the_overlays_are_looked_for(overlay):
    """What `deploy` brings `status` shows and `remove` takes away; and each
    object says its wave.
    """
    things = Kubectl().render(str(ROOT / "knative/overlays" / overlay))

    for thing in things:
        group = thing["apiVersion"].rpartition("/")[0]
        plural = re.sub("cy$", "cie", thing["kind"].lower()) + "s"
        assert (f"{plural}.{group}" if group else plural) in KINDS
        assert thing["metadata"]["annotations"][WAVE] in {"1", "2", "3", "4", "5"}
        assert thing["metadata"]["labels"]["app.kubernetes.io/part-of"] == "kn-chat"


def test_needed_secrets_follow_from_the_settings(tmp_path):
    """Keys are the files that settings name, those that are mounted by name, and what Knative's own
    parts want.
    """
    found = {
        entry.name: entry
        for entry in needed(Kubectl().render(str(ROOT / "knative/overlays/production")))
    }

    assert found["kn-chat-keys"].keys == {"event-keys", "jwks.json", "signing-key.pem"}
    assert {"database-password", "cassandra-password", "redis-ca.crt"} <= found[
        "kn-chat-stores"
    ].keys
    assert found["kn-chat-kafka"].keys == {
        "ca.crt",
        "password",
        "protocol",
        "sasl.mechanism",
        "user",
    }
    assert found["kn-chat-stores"].command({"database-password"}) == (
        "kubectl -n chat create secret generic kn-chat-stores --from-file=database-password=FILE"
    )
