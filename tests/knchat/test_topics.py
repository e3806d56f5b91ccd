"""`kn-chat topics`: makes what is missing, says what is wrong, and ends as a Job can act on."""

from __future__ import annotations

import pytest


@pytest.fixture
def kafka(kafka_settings, monkeypatch):
    """Sets the environment to the real Kafka."""
    monkeypatch.setenv("KNCHAT_LOG", "kafka")
    monkeypatch.setenv("KNCHAT_KAFKA", ",".join(kafka_settings["kafka"]))
    monkeypatch.setenv("KNCHAT_KAFKA_REPLICATION", "1")


def test_what_create_makes_check_finds_right(knchat, kafka):
    """However often it runs."""
    knchat("topics", "create")
    again, checked = knchat("topics", "create"), knchat("topics", "check")

    assert (again.code, again.out) == (0, "nothing to do: all topics are there\n")
    assert (checked.code, checked.out) == (0, "all topics are as they ought to be\n")


def test_check_says_what_is_wrong_and_what_to_do(knchat, kafka, monkeypatch):
    """A line each; the exit code tells a script."""
    knchat("topics", "create")
    monkeypatch.setenv("KNCHAT_KAFKA_REPLICATION", "3")
    monkeypatch.setenv("KNCHAT_DELIVERY_PARTITIONS", "48")
    checked = knchat("topics", "check")

    assert checked.code == 1
    assert (
        "chat-deliveries has 12 partitions, not the 48 of KNCHAT_DELIVERY_PARTITIONS: set that to "
        "12" in checked.out
    )
    assert "chat-messages has 1 copies, at least 3 are needed" in checked.out
    assert "kafka-configs.sh --alter --add-config min.insync.replicas=2" in checked.out


def test_the_embedded_log_needs_no_topics_made(knchat, monkeypatch):
    """The command may be run whichever log there is."""
    for action in ("create", "check"):
        ran = knchat("topics", action)

        assert ran.code == 0
        assert ran.out.startswith("the embedded log makes its topics itself")


def test_an_unavailable_kafka_is_told_in_a_line(knchat, monkeypatch):
    """With the variables that may be wrong, and the exit code for what may be right later."""
    monkeypatch.setenv("KNCHAT_LOG", "kafka")
    monkeypatch.setenv("KNCHAT_KAFKA", "127.0.0.1:1")
    ran = knchat("topics", "check")

    assert ran.code == 5
    assert (
        ran.err
        == "kn-chat: Kafka cannot be reached: is KNCHAT_KAFKA right, and KNCHAT_KAFKA_SECURITY?\n"
    )
