"""What one setting demands of another: never less safety than was asked for.

`Settings.from_env` calls `check` at the start of every process; those that append to the log or
read it call `check_event_keys` too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backends import parsers
from schemas.errors import Malformed

if TYPE_CHECKING:
    from backends.settings import Settings

_INSECURE: Final = "KNCHAT_INSECURE=1 allows it, for tests and trials"


def check(settings: Settings) -> None:
    """What one variable demands of another: never less safety than was asked for."""
    security = f"KNCHAT_KAFKA_SECURITY={settings.kafka_security}"
    sasl, tls = settings.kafka_security.startswith("sasl"), settings.kafka_security.endswith("ssl")
    for needed, by, there in (
        (
            "KNCHAT_KAFKA",
            f"KNCHAT_LOG={settings.log}",
            settings.log == "embedded" or settings.kafka,
        ),
        ("KNCHAT_KAFKA_USER", security, not sasl or settings.kafka_user),
        ("KNCHAT_KAFKA_PASSWORD", security, not sasl or settings.kafka_password),
        (
            "KNCHAT_CASSANDRA",
            f"KNCHAT_CHATS={settings.chats}",
            settings.chats == "sql" or settings.cassandra,
        ),
        (
            "KNCHAT_CASSANDRA_PASSWORD",
            "KNCHAT_CASSANDRA_USER",
            not settings.cassandra_user or settings.cassandra_password,
        ),
        (
            "KNCHAT_CASSANDRA_USER",
            "KNCHAT_CASSANDRA_PASSWORD",
            not settings.cassandra_password or settings.cassandra_user,
        ),
        ("KNCHAT_S3_SECRET", "KNCHAT_S3_KEY_ID", not settings.s3_key_id or settings.s3_secret),
        ("KNCHAT_S3_KEY_ID", "KNCHAT_S3_SECRET", not settings.s3_secret or settings.s3_key_id),
        (
            "KNCHAT_OPENSEARCH",
            f"KNCHAT_SEARCH={settings.search}",
            settings.search == "sql" or settings.opensearch,
        ),
        (
            "KNCHAT_OPENSEARCH_PASSWORD",
            "KNCHAT_OPENSEARCH_USER",
            not settings.opensearch_user or settings.opensearch_password,
        ),
        (
            "KNCHAT_OPENSEARCH_USER",
            "KNCHAT_OPENSEARCH_PASSWORD",
            not settings.opensearch_password or settings.opensearch_user,
        ),
    ):
        if not there:
            raise Malformed(f"{needed} is missing, which {by} asks for", field=needed)
    for wrong, must, by, right in (
        (
            "KNCHAT_KAFKA_SECURITY",
            "be ssl or sasl_ssl",
            "KNCHAT_KAFKA_CA",
            tls or not settings.kafka_ca,
        ),
        (
            "KNCHAT_KAFKA_SECURITY",
            "be sasl_ssl (or sasl_plaintext)",
            "KNCHAT_KAFKA_PASSWORD",
            sasl or not settings.kafka_password,
        ),
        (
            "KNCHAT_REDIS",
            "begin with rediss://",
            "KNCHAT_REDIS_CA",
            not settings.redis_ca or settings.redis.startswith("rediss:"),
        ),
        (
            "KNCHAT_S3",
            "begin with https://",
            "KNCHAT_S3_CA",
            not settings.s3_ca or settings.s3.startswith("https:"),
        ),
        (
            "KNCHAT_OPENSEARCH",
            "begin with https://",
            "KNCHAT_OPENSEARCH_CA",
            not settings.opensearch_ca or settings.opensearch.startswith("https:"),
        ),
    ):
        if not right:
            raise Malformed(f"{wrong} must {must}, as {by} is set", field=wrong)
    for open_one, must, safe in (
        (
            "KNCHAT_KAFKA_SECURITY",
            "be ssl or sasl_ssl",
            tls or not parsers.leave_this_machine(*settings.kafka),
        ),
        (
            "KNCHAT_DATABASE_CA",
            "name the authorities of its certificate",
            settings.database_ca or not parsers.leave_this_machine(settings.database),
        ),
        (
            "KNCHAT_CASSANDRA_CA",
            "name the authorities of the nodes' certificates",
            settings.cassandra_ca or not parsers.leave_this_machine(*settings.cassandra),
        ),
        (
            "KNCHAT_REDIS",
            "begin with rediss://",
            settings.redis.startswith("rediss:") or not parsers.leave_this_machine(settings.redis),
        ),
        (
            "KNCHAT_S3",
            "begin with https://",
            settings.s3.startswith("https:") or not parsers.leave_this_machine(settings.s3),
        ),
        (
            "KNCHAT_JWKS",
            "begin with https://",
            not settings.jwks.startswith("http:") or not parsers.leave_this_machine(settings.jwks),
        ),
        (
            "KNCHAT_OPENSEARCH",
            "begin with https://",
            settings.opensearch.startswith("https:")
            or not parsers.leave_this_machine(settings.opensearch),
        ),
    ):
        if not safe and settings.log != "embedded" and not settings.insecure:
            raise Malformed(
                f"{open_one} must {must}: clear text would leave this machine ({_INSECURE})",
                field=open_one,
            )


def check_event_keys(settings: Settings) -> None:
    """For processes that append to the log or read it: raises Malformed when a caller
    could act as any user (design.md D23).
    """
    if (
        settings.log != "embedded"
        and not settings.event_keys
        and not settings.insecure
        and parsers.leave_this_machine(*settings.kafka)
    ):
        name = "KNCHAT_EVENT_KEYS"
        raise Malformed(
            f"{name} is missing: a caller that reaches a function could act as any user; "
            f"kn-chat keys ({_INSECURE})",
            field=name,
        )
