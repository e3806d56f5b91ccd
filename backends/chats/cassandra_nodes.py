"""Where Cassandra's nodes are, how a session with them is made, and what the driver's errors mean.

Everything here blocks: `cassandra_session.py` calls it in a thread. Source: design.md D18.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cassandra import AuthenticationFailed, ConsistencyLevel, InvalidRequest, Unauthorized
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    Session,
)
from cassandra.policies import (
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    TokenAwarePolicy,
)
from cassandra.query import tuple_factory

from schemas.errors import ChatError, Malformed, Unavailable

# While nodes are unavailable the driver writes a line per try, some with a traceback. What matters
# comes back to us as an error, and is told here.
logging.getLogger("cassandra").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a session waits before it tries again."""

    reconnect_s: tuple[float, float] = (0.25, 1.0)
    """First and longest pause between two tries of the driver to reach a node again; it tries
    without end.
    """
    silence_timeout_s: float = 5.0
    """After so long without any node another session is made, from the settings: the driver
    reconnects by itself, but not after a log-in that failed while the nodes were starting, nor when
    all nodes have new addresses.
    """
    retry_delay_s: float = 0.5
    """Between two tries to make a session."""


TIMING: Final = Timing()
"""What is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """Where Cassandra is and how to speak with it: the settings KNCHAT_CASSANDRA_*."""

    places: tuple[str, ...]
    keyspace: str = "knchat"
    datacenter: str = ""
    replication: int = 3
    consistency: str = "LOCAL_QUORUM"
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    timeout_s: float = 5.0
    timing: Timing = TIMING

    def connect(self) -> tuple[Cluster, Session]:
        """A new session; blocks.

        Raises Malformed for a setting that the nodes refuse, Unavailable when none answers.
        """
        cluster = Cluster(
            [
                (host.strip("[]"), int(port))
                for host, _, port in (place.rpartition(":") for place in self.places)
            ],
            port=int(self.places[0].rpartition(":")[2]),  # of nodes that the first ones tell us of
            auth_provider=PlainTextAuthProvider(self.user, self.password) if self.user else None,
            ssl_context=_tls(self.ca) if self.ca else None,
            # What every Cassandra since 2.2 speaks; 5 costs more here, and finding out costs two
            # connections.
            protocol_version=4,
            # The driver's policy of retries stays: from a node that fails to the next, each at most
            # once, and never at a lower consistency.
            execution_profiles={
                EXEC_PROFILE_DEFAULT: ExecutionProfile(
                    TokenAwarePolicy(DCAwareRoundRobinPolicy(self.datacenter)),
                    consistency_level=ConsistencyLevel.name_to_value[self.consistency],
                    request_timeout=self.timeout_s,
                    row_factory=tuple_factory,
                )
            },
            reconnection_policy=ExponentialReconnectionPolicy(
                *self.timing.reconnect_s, max_attempts=None
            ),
            # Without it a second request waits until the node's kernel has acknowledged the first,
            # which it puts off for 40 ms (measured).
            sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            connect_timeout=self.timeout_s,
            # A node that has vanished without a word is noticed by this.
            idle_heartbeat_interval=5,
            idle_heartbeat_timeout=self.timeout_s,
            monitor_reporting_enabled=False,
        )
        try:
            session = cluster.connect()
        except Exception as error:
            known = {host.datacenter for host in cluster.metadata.all_hosts()} - {None}
            cluster.shutdown()
            if known and self.datacenter and self.datacenter not in known:
                raise Malformed(
                    f"KNCHAT_CASSANDRA_DATACENTER: there is no data centre {self.datacenter!r}, "
                    f"but {', '.join(sorted(known))}",
                    field="KNCHAT_CASSANDRA_DATACENTER",
                ) from error
            raise error_of(error) from error
        session.default_fetch_size = None  # every statement has a limit of its own
        session.use_client_timestamp = False  # every write has a timestamp of its own
        return cluster, session


def _tls(ca: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise Malformed(
            f"KNCHAT_CASSANDRA_CA: {ca} holds no certificates", field="KNCHAT_CASSANDRA_CA"
        ) from error
    # The driver reaches nodes by addresses that they tell each other, and in Kubernetes no
    # certificate can name those. So the authority must be one that signs Cassandra's nodes only.
    context.check_hostname = False
    return context


def error_of(error: BaseException) -> ChatError:
    """What the driver's error means for a caller: Malformed names the setting that is wrong, all
    else is Unavailable.
    """
    causes = (
        error.errors.values()
        if isinstance(error, NoHostAvailable) and isinstance(error.errors, Mapping)
        else [error]
    )
    for cause in causes:
        match cause:
            case ChatError():
                return cause
            # A node that is starting, or has lost the others, cannot read its users and says this
            # too.
            case AuthenticationFailed() if "Unable to perform authentication" not in str(cause):
                return Malformed(
                    "Cassandra refuses KNCHAT_CASSANDRA_USER with KNCHAT_CASSANDRA_PASSWORD",
                    field="KNCHAT_CASSANDRA_PASSWORD",
                )
            # The text: the driver keeps no more of it.
            case OSError() if "CERTIFICATE_VERIFY_FAILED" in str(cause):
                return Malformed(
                    "the node's certificate is not of an authority in KNCHAT_CASSANDRA_CA",
                    field="KNCHAT_CASSANDRA_CA",
                )
            case Unauthorized():
                return Malformed(
                    "KNCHAT_CASSANDRA_USER may not use KNCHAT_CASSANDRA_KEYSPACE",
                    field="KNCHAT_CASSANDRA_USER",
                )
            # Such as a guardrail: the text says which, and holds none of our values.
            case InvalidRequest():
                return Unavailable(f"Cassandra refuses a request: {cause}")
    return Unavailable(f"Cassandra does not answer ({type(error).__name__})")
