"""How one speaks to Kafka's brokers: the clients with the limits that we want, and their errors
turned into ours.

The other files of this package make all clients here. A broker that does not answer is Unavailable;
a wrong setting is Malformed, but only until the brokers were reached once: a broker that turns us
away later may be in the middle of a change.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import errors as aio_errors
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient

from backends.log.kafka.refusals import refusal_of
from schemas.errors import Malformed, Unavailable
from schemas.topics import TOPICS

Result = TypeVar("Result")
Started = TypeVar("Started", AIOKafkaProducer, AIOKafkaConsumer)

# It tells each try of each connection as an error, and its DEBUG lines hold the password. What
# matters is raised as an error of ours.
logging.getLogger("kafka").setLevel(logging.CRITICAL)
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

REQUEST_TIMEOUT_MS: Final = 5_000
"""Of one request."""
# A first contact takes 10 to 40 ms (measured); a node that is unavailable must leave time to try
# another one within an append's 10 s.
_BOOTSTRAP_TIMEOUT_MS: Final = 4_000
# kafka-python's 30 s would keep us disconnected for so long after a broker's return.
_MAX_RECONNECT_DELAY_MS: Final = 1_000
_RETRY_DELAY_S: Final = 0.1
# What is fetched ahead is held in memory, by each consumer.
_MAX_FETCH_BYTES: Final = 4 * 2**20
_NOT_IN_AIOKAFKA: Final = frozenset({"reconnect_backoff_max_ms", "ssl_cafile"})
_NOT_ALLOWED: Final = (
    aio_errors.TopicAuthorizationFailedError,
    aio_errors.GroupAuthorizationFailedError,
    aio_errors.ClusterAuthorizationFailedError,
)


class Brokers:
    """Where the brokers are, and who we are. Opens nothing.

    `prefix` stands before all names of topics and groups: for tests, and for several installations
    on one cluster without Knative.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        security: str = "plaintext",
        ca: str = "",
        user: str = "",
        password: str = "",
        name: str = "kn-chat",
        prefix: str = "",
    ) -> None:
        self.prefix = prefix
        self._reached = False
        self._options: dict[str, Any] = {
            "bootstrap_servers": list(servers),
            "client_id": name,
            "security_protocol": security.upper(),
            "reconnect_backoff_max_ms": _MAX_RECONNECT_DELAY_MS,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
        }
        if ca:
            self._options["ssl_cafile"] = ca
        if security.startswith("sasl"):
            self._options |= {
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": user,
                "sasl_plain_password": password,
            }

    def topic(self, name: str) -> str:
        """What Kafka calls the topic. Raises Unavailable when it is none of ours."""
        if name not in TOPICS:
            raise Unavailable(f"there is no topic {name}")
        return self.prefix + name

    def place(self, topic: str, partition: int) -> TopicPartition:
        """A partition of a topic of ours, as Kafka names it."""
        return TopicPartition(self.topic(topic), partition)

    async def producer(self, **options: Any) -> AIOKafkaProducer:
        """An idempotent producer that has reached the brokers: what it confirms is on all replicas
        in sync, once.

        aiokafka refuses a record without key and value, which is what an event without key and data
        is: an empty value becomes null.
        """
        await asyncio.to_thread(self._check_settings)
        producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            value_serializer=lambda value: value or None,
            **self._aio_options(),
            **options,
        )
        return await self._started(producer, _BOOTSTRAP_TIMEOUT_MS / 1000)

    async def consumer(
        self, *topics: str, join_s: float = _BOOTSTRAP_TIMEOUT_MS / 1000, **options: Any
    ) -> AIOKafkaConsumer:
        """A consumer on the event loop that commits nothing by itself, and has reached the brokers
        and joined its group, if it has one.
        """
        await asyncio.to_thread(self._check_settings)
        consumer = AIOKafkaConsumer(
            *topics,
            enable_auto_commit=False,
            fetch_max_bytes=_MAX_FETCH_BYTES,
            **self._aio_options(),
            **options,
        )
        return await self._started(consumer, join_s)

    def blocking_consumer(self, **options: Any) -> KafkaConsumer:
        """kafka-python's consumer, which commits nothing by itself.

        Blocks until the brokers were reached.
        """
        defaults = {"metrics_enabled": False, "fetch_max_bytes": _MAX_FETCH_BYTES}
        return self._made(
            KafkaConsumer,
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            **defaults | options,
        )

    def admin(self) -> KafkaAdminClient:
        """What describes and changes topics and groups. Blocks until the brokers were reached."""
        return self._made(KafkaAdminClient)

    def _aio_options(self) -> dict[str, Any]:
        options = {
            name: value for name, value in self._options.items() if name not in _NOT_IN_AIOKAFKA
        }
        if "SSL" in options["security_protocol"]:
            options["ssl_context"] = ssl.create_default_context(
                cafile=self._options.get("ssl_cafile")
            )
        return options

    async def _started(self, client: Started, within_s: float) -> Started:
        """The client, when it has reached the brokers. Raises Unavailable."""
        with self.errors():
            try:
                async with asyncio.timeout(within_s):
                    await client.start()
            except BaseException as error:
                await client.stop()
                if isinstance(error, (aio_errors.KafkaConnectionError, TimeoutError)):
                    raise _not_reached() from error
                raise
        self._reached = True
        return client

    def _made(self, kind: Callable[..., Any], **options: Any) -> Any:
        self._check_settings()
        inner: list[KafkaNetClient] = []

        def remembered(**given: Any) -> KafkaNetClient:
            inner.append(KafkaNetClient(**given))
            return inner[-1]

        with self.errors():
            try:
                client = kind(
                    bootstrap_timeout_ms=_BOOTSTRAP_TIMEOUT_MS,
                    kafka_client=remembered,
                    **self._options,
                    **options,
                )
            except BaseException as error:
                # kafka-python would leave its thread running, and there is one such try a second
                # while brokers are unavailable.
                for each in inner:
                    each.close()
                if isinstance(error, kafka_errors.KafkaTimeoutError):
                    raise _not_reached() from error
                raise
        self._reached = True
        return client

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns the libraries' errors into ours."""
        try:
            yield
        except kafka_errors.SaslAuthenticationFailedError as error:
            raise self._wrong(
                "Kafka refuses KNCHAT_KAFKA_USER with this password", "KNCHAT_KAFKA_PASSWORD"
            ) from error
        except (kafka_errors.AuthorizationError, *_NOT_ALLOWED) as error:
            raise Unavailable(
                f"Kafka does not allow it to this user: {error.description}"
            ) from error
        except (
            kafka_errors.UnknownTopicOrPartitionError,
            aio_errors.UnknownTopicOrPartitionError,
        ) as error:
            raise Unavailable(
                "a topic is missing in Kafka: `kn-chat topics create` makes it"
            ) from error
        except (kafka_errors.KafkaError, aio_errors.KafkaError, OSError, RuntimeError) as error:
            # RuntimeError: the client was closed meanwhile.
            raise Unavailable(f"Kafka does not answer ({type(error).__name__})") from error

    def _check_settings(self) -> None:
        """Raises Malformed when a broker refuses us: a client would try for seconds and then tell
        nothing but its timeout.

        One connection, up to the log-in, to the first broker that is there: 40 ms (measured).
        Nothing is done where there is no setting to refuse, or once the brokers were reached.
        """
        if self._reached or self._options["security_protocol"] == "PLAINTEXT":
            return
        for number in range(len(self._options["bootstrap_servers"])):
            match refusal_of(self._options, number):
                case None:
                    return
                case kafka_errors.SaslAuthenticationFailedError():
                    raise self._wrong(
                        "Kafka refuses KNCHAT_KAFKA_USER with this password",
                        "KNCHAT_KAFKA_PASSWORD",
                    )
                case (
                    kafka_errors.UnsupportedSaslMechanismError()
                    | kafka_errors.IllegalSaslStateError()
                ):
                    raise self._wrong(
                        "Kafka does not offer SCRAM-SHA-512 there", "KNCHAT_KAFKA_SECURITY"
                    )
                case ssl.SSLCertVerificationError() as refusal:
                    raise self._wrong(
                        f"the brokers' certificate is not accepted: {refusal.verify_message}",
                        "KNCHAT_KAFKA_CA",
                    )
                case ssl.SSLError(library="X509"):
                    raise self._wrong(
                        f"{self._options['ssl_cafile']} holds no authorities", "KNCHAT_KAFKA_CA"
                    )
                case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
                    raise self._wrong("the brokers do not speak TLS there", "KNCHAT_KAFKA_SECURITY")

    def _wrong(self, text: str, variable: str) -> Malformed | Unavailable:
        return Unavailable(text) if self._reached else Malformed(text, field=variable)


def _not_reached() -> Unavailable:
    return Unavailable("Kafka cannot be reached: is KNCHAT_KAFKA right, and KNCHAT_KAFKA_SECURITY?")


def retry_while_moving(call: Callable[[], Result], *, within_s: float) -> Result:
    """What a call returns.

    Repeats it while Kafka says that it will be right in a moment: a leader or a coordinator moves.
    Blocks. Raises kafka-python's errors.
    """
    until = time.monotonic() + within_s
    while True:
        try:
            return call()
        except kafka_errors.RetriableError:
            if time.monotonic() + _RETRY_DELAY_S > until:
                raise
            time.sleep(_RETRY_DELAY_S)
