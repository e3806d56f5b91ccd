"""Settings that ask for one another: a mistake names both."""

from __future__ import annotations

import pytest

from backends.settings import Settings
from schemas.errors import Malformed


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"KNCHAT_LOG": "kafka"}, "KNCHAT_KAFKA is missing"),
        ({"KNCHAT_LOG": "knative"}, "KNCHAT_KAFKA is missing"),
        (
            {"KNCHAT_KAFKA_SECURITY": "sasl_ssl", "KNCHAT_KAFKA_PASSWORD": "x"},
            "KNCHAT_KAFKA_USER is missing",
        ),
        (
            {"KNCHAT_KAFKA_SECURITY": "sasl_plaintext", "KNCHAT_KAFKA_USER": "x"},
            "KNCHAT_KAFKA_PASSWORD is missing",
        ),
        ({"KNCHAT_KAFKA_PASSWORD": "x"}, "KNCHAT_KAFKA_SECURITY must be sasl_ssl"),
        ({"KNCHAT_KAFKA_CA": __file__}, "KNCHAT_KAFKA_SECURITY must be ssl"),
        (
            {
                "KNCHAT_KAFKA_CA": __file__,
                "KNCHAT_KAFKA_SECURITY": "sasl_plaintext",
                "KNCHAT_KAFKA_USER": "x",
                "KNCHAT_KAFKA_PASSWORD": "x",
            },
            "KNCHAT_KAFKA_SECURITY must be ssl",
        ),
        ({"KNCHAT_CHATS": "cassandra"}, "KNCHAT_CASSANDRA is missing"),
        ({"KNCHAT_CASSANDRA_USER": "x"}, "KNCHAT_CASSANDRA_PASSWORD is missing"),
        ({"KNCHAT_CASSANDRA_PASSWORD": "x"}, "KNCHAT_CASSANDRA_USER is missing"),
        ({"KNCHAT_SEARCH": "opensearch"}, "KNCHAT_OPENSEARCH is missing"),
        ({"KNCHAT_OPENSEARCH_USER": "x"}, "KNCHAT_OPENSEARCH_PASSWORD is missing"),
        ({"KNCHAT_OPENSEARCH_PASSWORD": "x"}, "KNCHAT_OPENSEARCH_USER is missing"),
        (
            {"KNCHAT_OPENSEARCH": "http://x", "KNCHAT_OPENSEARCH_CA": __file__},
            "KNCHAT_OPENSEARCH must begin with https://",
        ),
        (
            {"KNCHAT_REDIS": "redis://x", "KNCHAT_REDIS_CA": __file__},
            "KNCHAT_REDIS must begin with rediss://",
        ),
    ],
)
def test_what_one_setting_asks_of_another(given, named):
    """Half a configuration stops the start, above all one that would be less safe than it looks."""
    with pytest.raises(Malformed, match=named) as refusal:
        Settings.from_env(given)
    assert refusal.value.field == named.split(" ")[0]


CLUSTER = {
    "KNCHAT_LOG": "kafka",
    "KNCHAT_KAFKA": "127.0.0.1:9092,localhost:9092,[::1]:9092",
    "KNCHAT_DATABASE": "postgresql://chat@127.0.0.1/chat",
    "KNCHAT_CASSANDRA": "127.0.0.2:9042",
    "KNCHAT_REDIS": "redis://[::1]:6379/0",
    "KNCHAT_OPENSEARCH": "http://localhost:9200",
    "KNCHAT_JWKS": "http://127.0.0.1:8080/.well-known/jwks.json",
}
OPEN = (
    (
        {"KNCHAT_KAFKA": "127.0.0.1:9092,kafka-1:9092"},
        "KNCHAT_KAFKA_SECURITY must be ssl or sasl_ssl",
    ),
    (
        {
            "KNCHAT_KAFKA": "kafka:9092",
            "KNCHAT_KAFKA_SECURITY": "sasl_plaintext",
            "KNCHAT_KAFKA_USER": "x",
            "KNCHAT_KAFKA_PASSWORD": "x",
        },
        "KNCHAT_KAFKA_SECURITY must be ssl or sasl_ssl",
    ),
    ({"KNCHAT_DATABASE": "postgresql://chat@10.0.0.7/chat"}, "KNCHAT_DATABASE_CA must name"),
    ({"KNCHAT_CASSANDRA": "cassandra:9042"}, "KNCHAT_CASSANDRA_CA must name"),
    ({"KNCHAT_REDIS": "redis://cache/0"}, "KNCHAT_REDIS must begin with rediss://"),
    ({"KNCHAT_OPENSEARCH": "http://search:9200"}, "KNCHAT_OPENSEARCH must begin with https://"),
    (
        {"KNCHAT_JWKS": "http://accounts/.well-known/jwks.json"},
        "KNCHAT_JWKS must begin with https://",
    ),
)


@pytest.mark.parametrize(("given", "named"), OPEN)
def test_clear_text_leaves_this_machine_only_when_asked_for(given, named):
    """With Kafka behind it; on one machine, and with the embedded log, nothing
    has to be encrypted.
    """
    with pytest.raises(Malformed, match=f"{named}.*KNCHAT_INSECURE=1") as refusal:
        Settings.from_env(CLUSTER | given)

    assert refusal.value.field == named.split(" ")[0]
    assert Settings.from_env(CLUSTER).log == "kafka"
    assert Settings.from_env(CLUSTER | given | {"KNCHAT_INSECURE": "1"}).insecure
    assert Settings.from_env(CLUSTER | given | {"KNCHAT_LOG": "embedded"}).log == "embedded"
