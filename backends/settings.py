"""Static settings: every `KNCHAT_*` environment variable, read once at the start by `wiring` or a
command alone.

An empty environment runs the embedded default. A wrong value stops the start and is named. The
table in docs/operations/settings.md is made from here. A secret may be given in a file:
`KNCHAT_REDIS_PASSWORD_FILE` names one that holds `KNCHAT_REDIS_PASSWORD`. Long, as it is one table.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends import parsers
from backends.parsers import Form
from backends.settings_checks import check

# Servers that listen everywhere are reached over the loopback of their family.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def _setting(
    default: Any,
    unit: str,
    meaning: str,
    *,
    least: int | None = None,
    most: int | None = None,
    choices: tuple[str, ...] = (),
    form: Form | None = None,
    secret: bool = False,
    variable: str = "",
) -> Any:
    metadata = {
        "unit": unit,
        "meaning": meaning,
        "least": least,
        "most": most,
        "choices": choices,
        "form": form,
    }
    return field(
        default=default,
        metadata={**metadata, "secret": secret, "variable": variable},
        repr=not secret,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All static settings. A field `name` is read from `KNCHAT_NAME`."""

    data: Path = _setting(  # noqa: RUF009 - it returns a `field`, whose default is immutable
        Path(".run/data"), "folder", "embedded stores: log.db, data.db, and the signing key"
    )
    http_port: int = _setting(
        8080, "port", "where `dev` serves the HTTP functions; 0: any free one", least=0, most=65_535
    )
    gateway_port: int = _setting(
        8081, "port", "where the gateway listens; 0: any free one", least=0, most=65_535
    )
    host: str = _setting("127.0.0.1", "address", "what the servers bind to; 0.0.0.0 in containers")
    public_url: str = _setting(
        "",
        "ws URL",
        "the gateway's whole URL for clients, {ordinal} is its number; empty: made from host and "
        "port",
        form=parsers.SOCKET_URL,
    )
    allowed_origins: tuple[str, ...] = _setting(
        (),
        "origins, comma",
        "browser origins allowed on the socket and by CORS; *: all; empty: own host",
        form=parsers.ORIGIN,
    )
    event_keys: tuple[bytes, ...] = _setting(
        (),
        "base64, comma",
        "keys that sign events; the first signs, all (at most two) are accepted",
        secret=True,
    )
    signing_key: str = _setting(
        "",
        "file",
        "Ed25519 private key (PEM) that signs tokens; empty: made in the data folder at the first "
        "start",
    )
    jwks: str = _setting(
        "",
        "file or URL",
        "public keys that gateways and functions check tokens with; empty: those of the data "
        "folder",
        form=parsers.JWKS,
    )
    token_s: int = _setting(900, "s", "life of an access token", least=5, most=86_400)
    log_in_idle_days: int = _setting(
        60, "days", "without a refresh after which a log-in is over", least=1, most=3_650
    )
    log_in_days: int = _setting(
        365, "days", "after which a log-in is over in any case", least=1, most=36_500
    )
    text_bytes: int = _setting(
        4_096,
        "bytes",
        "longest text of a message; in JSON it may take 40,960 at most",
        least=1,
        most=32_768,
    )
    file_bytes: int = _setting(10 * 2**20, "bytes", "largest file", least=1, most=256 * 2**20)
    user_files: int = _setting(10_000, "files", "that one user may keep", least=1)
    user_file_bytes: int = _setting(2**30, "bytes", "of all files that one user keeps", least=1)
    files_held: bool = _setting(
        False,
        "0 or 1",
        "files wait after their upload until `kn-chat files` has released them: for a scanner",
    )
    file_idle_s: int = _setting(
        86_400, "s", "after which a file that no message or profile names is removed", least=60
    )
    files_sweep_every_s: int = _setting(
        3_600, "s", "how often `dev` removes such files; 0: never", least=0
    )
    user_units: int = _setting(
        2_000, "units", "what one user may spend at once before rate_limited; a send is 1", least=1
    )
    user_units_per_s: int = _setting(
        50, "1/s", "what a user gets back of it, and each device", least=1
    )
    device_units: int = _setting(
        300, "units", "what one device of a user may spend at once of it over HTTP", least=1
    )
    failed_logins_per_minute: int = _setting(
        20,
        "1/min",
        "failed log-ins of a user name from one network (and 5 times as many an hour from all) "
        "before they are slowed down",
        least=1,
    )
    logins_per_minute: int = _setting(
        600, "1/min", "log-ins and registrations of one address before rate_limited", least=1
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        "networks, comma",
        "proxies before the HTTP functions whose X-Forwarded-For is believed, "
        "127.0.0.0/8,10.244.0.0/16; empty: none",
        form=parsers.NETWORK,
    )
    ping_s: int = _setting(
        30,
        "s",
        "heartbeat of idle sessions; closed 4002 after two without an answer",
        least=1,
        most=300,
    )
    drain_s: int = _setting(
        5,
        "s",
        "what a stopping gateway gives its clients between `drain` and close 1012",
        least=0,
        most=300,
    )
    publishes_in_flight: int = _setting(
        2, "events", "micro-batches a gateway has under way at once", least=1, most=16
    )
    publish_apart_ms: int = _setting(
        10,
        "ms",
        "from a micro-batch of a gateway to the next, up to twice as much under load; 0: as they "
        "come",
        least=0,
        most=1_000,
    )
    ring_bytes: int = _setting(
        64 * 2**20, "bytes", "deliveries a gateway keeps to resume from, in all", least=2**20
    )
    ring_s: int = _setting(900, "s", "how long a gateway keeps deliveries to resume from", least=10)
    resume_records: int = _setting(
        20_000,
        "records",
        "how far behind those a gateway reads back for who resumes",
        least=0,
        most=1_000_000,
    )
    outbox_bytes: int = _setting(
        256 * 1024,
        "bytes",
        "what one slow session may have waiting before it is paused",
        least=131_072,
    )
    sessions_per_user: int = _setting(20, "sessions", "more are closed with 4429", least=1)
    connections: int = _setting(
        20_000,
        "WebSockets",
        "of one gateway; more are told 503 at the handshake (about 12 KiB each)",
        least=1,
    )
    connections_waiting: int = _setting(
        4_000,
        "WebSockets",
        "of these, those without `welcome`; more are told 503 at the handshake",
        least=1,
    )
    frames_per_second: int = _setting(
        250,
        "1/s",
        "messages of one session, long ones once for each 4 KiB; those beyond are read later",
        least=1,
    )
    audit_every_s: int = _setting(
        600,
        "s",
        "how often `dev` looks for what was lost on the way, and repairs it; 0: never",
        least=0,
    )
    audit_age_s: int = _setting(
        1_200, "s", "records that are younger are not audited: they may be under way", least=0
    )
    account_events_days: int = _setting(
        90,
        "days",
        "how long the audit log of accounts is kept",
        least=1,
        most=3_650,
    )
    account_events_rows: int = _setting(
        1_000_000,
        "rows",
        "what the audit log of accounts keeps at most, the newest (about 200 bytes each)",
        least=1_000,
    )
    insecure: bool = _setting(
        False,
        "0 or 1",
        "with log kafka or knative: go on without event keys, and without TLS to other machines; "
        "for tests and trials",
    )
    metrics: bool = _setting(
        True, "0 or 1", "serve /metrics, on the ports of gateways and functions"
    )
    log_level: str = _setting(
        "INFO",
        "level",
        "DEBUG, INFO, WARNING or ERROR",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
    )
    otlp_endpoint: str = _setting(
        "",
        "URL",
        "where spans go, by OTLP over http, like http://collector:4318; empty: nowhere",
        form=parsers.COLLECTOR,
    )
    trace_ratio: float = _setting(
        0.01, "0 to 1", "share of the traces beginning in this process whose spans are sent"
    )

    log: str = _setting(
        "embedded",
        "choice",
        "the log: embedded; kafka; knative (appends by POST to K_SINK, reads from Kafka)",
        choices=("embedded", "kafka", "knative"),
    )
    kafka: tuple[str, ...] = _setting(
        (), "host:port, comma", "brokers to begin with", form=parsers.PLACE
    )
    kafka_security: str = _setting(
        "plaintext",
        "choice",
        "plaintext, ssl, sasl_plaintext or sasl_ssl",
        choices=("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
    )
    kafka_ca: str = _setting(
        "",
        "file",
        "authorities (PEM) that the brokers' certificates are checked with; empty: the system's",
    )
    kafka_user: str = _setting("", "name", "user of SASL (SCRAM-SHA-512)")
    kafka_password: str = _setting("", "secret", "its password", secret=True)
    kafka_replication: int = _setting(
        3,
        "copies",
        "replication of topics; acknowledged by one copy less; 1: development",
        least=1,
        most=9,
    )
    delivery_partitions: int = _setting(
        12,
        "partitions",
        "of chat-deliveries and session-deliveries; at least 4 for each gateway ever planned",
        least=1,
        most=4_096,
    )
    gateway_name: str = _setting(
        "",
        "name",
        "this gateway, like gateway-0: its place in the group, and {ordinal}; empty: host name",
        form=parsers.MEMBER,
    )
    sink: str = _setting(
        "",
        "URL",
        "with log knative: where commands are posted; set by a SinkBinding",
        form=parsers.SINK,
        variable="K_SINK",
    )
    sink_overrides: str = _setting(
        "", "JSON", "extensions for what is posted; set by a SinkBinding", variable="K_CE_OVERRIDES"
    )
    sink_ca: str = _setting(
        "",
        "PEM",
        "authorities of an https sink; set by a SinkBinding; empty: the system's",
        variable="K_CA_CERTS",
    )
    sink_queries: str = _setting(
        "", "URL", "with log knative: where questions are posted", form=parsers.SINK
    )

    database: str = _setting(
        "",
        "URL",
        "accounts: postgresql://user@host:port/name (PostgreSQL, YugabyteDB); empty: data.db in "
        "the data folder",
        form=parsers.DATABASE,
    )
    database_password: str = _setting("", "secret", "password of the database's user", secret=True)
    database_ca: str = _setting(
        "",
        "file",
        "authorities (PEM) that the database's certificate is checked with; empty: no TLS",
    )
    chats: str = _setting(
        "sql",
        "choice",
        "history: sql (the database above) or cassandra",
        choices=("sql", "cassandra"),
    )
    cassandra: tuple[str, ...] = _setting(
        (), "host:port, comma", "nodes to begin with", form=parsers.PLACE
    )
    cassandra_keyspace: str = _setting(
        "knchat", "name", "keyspace of messages and chat states", form=parsers.KEYSPACE
    )
    cassandra_datacenter: str = _setting(
        "", "name", "the data centre to talk to; empty: that of the first node"
    )
    cassandra_replication: int = _setting(
        3, "copies", "replication of a keyspace made by `kn-chat migrate`", least=1, most=9
    )
    cassandra_consistency: str = _setting(
        "LOCAL_QUORUM",
        "level",
        "of reads and writes; below a quorum a page may miss what was just written",
        choices=("ONE", "LOCAL_ONE", "LOCAL_QUORUM", "QUORUM", "EACH_QUORUM", "ALL"),
    )
    cassandra_user: str = _setting("", "name", "user; empty: none")
    cassandra_password: str = _setting("", "secret", "its password", secret=True)
    cassandra_ca: str = _setting(
        "", "file", "authorities (PEM) that the nodes' certificates are checked with; empty: no TLS"
    )
    search: str = _setting(
        "sql",
        "choice",
        "the index of messages: sql (the database above) or opensearch",
        choices=("sql", "opensearch"),
    )
    opensearch: str = _setting(
        "",
        "URL",
        "https://host:9200: an OpenSearch node, or what stands before several",
        form=parsers.OPENSEARCH,
    )
    opensearch_index: str = _setting(
        "knchat-messages", "name", "the index there", form=parsers.INDEX
    )
    opensearch_shards: int = _setting(
        3, "shards", "of an index made by `kn-chat migrate`", least=1, most=1_024
    )
    opensearch_replicas: int = _setting(
        1, "copies", "besides the first, of an index made by `kn-chat migrate`", least=0, most=9
    )
    opensearch_user: str = _setting("", "name", "user; empty: none")
    opensearch_password: str = _setting("", "secret", "its password", secret=True)
    opensearch_ca: str = _setting(
        "", "file", "authorities (PEM) that its certificate is checked with; empty: the system's"
    )
    redis: str = _setting(
        "",
        "URL",
        "the cache: redis://user@host:port/0, or rediss:// for TLS (Redis, Valkey); empty: in "
        "log.db and memory",
        form=parsers.REDIS,
    )
    redis_password: str = _setting("", "secret", "its password", secret=True)
    redis_ca: str = _setting(
        "", "file", "authorities (PEM) that its certificate is checked with; empty: the system's"
    )
    s3: str = _setting(
        "",
        "URL",
        "the object store of files: https://s3.eu-central-1.amazonaws.com; empty: in the data "
        "folder",
        form=parsers.ENDPOINT,
    )
    s3_public: str = _setting(
        "",
        "URL",
        "its URL for clients, where they know it by another one; empty: the same",
        form=parsers.ENDPOINT,
    )
    s3_bucket: str = _setting("kn-chat", "name", "its bucket, which is there", form=parsers.BUCKET)
    s3_region: str = _setting("us-east-1", "name", "its region, with which requests are signed")
    s3_key_id: str = _setting(
        "", "name", "access key id; empty: that of the machine's or service account's role"
    )
    s3_secret: str = _setting("", "secret", "its secret access key", secret=True)
    s3_ca: str = _setting(
        "", "file", "authorities (PEM) that its certificate is checked with; empty: the system's"
    )
    store_timeout_s: int = _setting(
        5,
        "s",
        "timeout of Cassandra, OpenSearch, the database and the object store",
        least=1,
        most=60,
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Settings of this environment.

        Raises Malformed naming the variable that is wrong, missing or unknown.
        """
        fields = {
            item.metadata["variable"] or f"KNCHAT_{item.name.upper()}": item
            for item in dataclasses.fields(cls)
        }
        values: dict[str, Any] = {}
        for name, text in parsers.texts(environ, fields):
            values[fields[name].name] = parsers.value(name, text, fields[name])
        settings = cls(**values)
        check(settings)
        return settings

    def url(self, scheme: str, port: int) -> str:
        """What this machine reaches a server of ours on this port by: scheme, host and port."""
        host = _LOOPBACK.get(self.host, self.host)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
