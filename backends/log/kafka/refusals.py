"""Why a broker refuses us: kafka-python alone would try for seconds and then tell its timeout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kafka import errors as kafka_errors
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaTCPTransport

# A refusal is there after 10 ms (TLS) to 350 ms (SCRAM, beside twelve other programs); all three
# brokers' must fit into the 4 s of a bootstrap.
_CONNECT_TIMEOUT_MS: Final = 1_000


def refusal_of(options: Mapping[str, Any], number: int) -> BaseException | None:
    """Why this one of the bootstrap servers cannot be spoken to; None: it can.

    Connects once, up to the log-in.
    """
    net = NetworkSelector()
    manager = _RefusalKeeper(net, **options)

    async def connect() -> None:
        await manager.get_connection(f"bootstrap-{number}", timeout_ms=_CONNECT_TIMEOUT_MS)

    try:
        net.run(connect)
    except Exception as error:
        # The library's, Python's and the system's alike: what it was is the question.
        return manager.refusal or error
    finally:
        manager.close()
        net.close()
    return None


class _RefusalKeeper(KafkaConnectionManager):  # type: ignore[misc] # the library has no types
    """Connections that keep what the library loses: why TLS failed, and a broker's last answer
    before it closes.
    """

    refusal: BaseException | None = None

    async def _build_transport(
        self, node: Any, timeout_at: float | None = None
    ) -> KafkaTCPTransport:
        try:
            transport = await super()._build_transport(node, timeout_at=timeout_at)
        except kafka_errors.KafkaConnectionError as error:
            self.refusal = error.__context__
            raise
        receive = transport._sock_recv  # noqa: SLF001 - no public way

        def answer_first() -> tuple[bytes, Exception | None]:
            # "Authentication failed" and the end of the connection come together when we are slow;
            # the library then drops the answer.
            received, end = receive()
            return received, None if received else end

        transport._sock_recv = answer_first  # noqa: SLF001 - see above
        return transport
