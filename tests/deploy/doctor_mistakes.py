"""Mistakes that are planted in a running installation, each for the check of `kn-chat doctor` that
must find it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Mistake:
    """`patch`: a JSON patch, or None for a deletion.

    `said`: words of the finding. `hold`: fake controllers that do nothing meanwhile.
    """

    check: str
    thing: str
    patch: list | None
    said: str
    space: str = "chat"
    hold: tuple[str, ...] = ()
    status: bool = False


def setting(path, value):
    return [{"op": "add", "path": path, "value": value}]


NOT_READY = setting(
    "/status/conditions",
    [{"type": "Ready", "status": "False", "reason": "Planted", "message": "no route to Kafka"}],
)
FIRST = "/spec/template/spec/containers/0"
SETTINGS = "settings"
FUNCTIONS = "ghcr.io/kn-chat/functions"
MISTAKES = (
    Mistake(
        "topic-missing",
        "kafkatopic/chat-retries",
        None,
        "topic chat-retries has no KafkaTopic: kn-chat deploy",
        "kafka",
    ),
    Mistake(
        "topic-partitions",
        "kafkatopic/chat-deliveries",
        setting("/spec/partitions", 48),
        "has 48 partitions, and KNCHAT_DELIVERY_PARTITIONS is 12",
        "kafka",
    ),
    Mistake(
        "topic-partitions",
        "kafkatopic/chat-messages",
        setting("/spec/partitions", 2),
        "set spec.partitions to 24",
        "kafka",
    ),
    Mistake(
        "topic-copies",
        "kafkatopic/chat-messages",
        setting("/spec/config/unclean.leader.election.enable", True),
        "set unclean.leader.election.enable: false",
        "kafka",
    ),
    Mistake(
        "topic-copies",
        SETTINGS,
        setting("/data/KNCHAT_KAFKA_REPLICATION", "3"),
        "has 1 copies, KNCHAT_KAFKA_REPLICATION is 3",
    ),
    Mistake(
        "sink-topic",
        "kafkasink/commands",
        setting("/spec/numPartitions", 12),
        "has numPartitions: the topic would be deleted with it",
    ),
    Mistake("sink-topic", "kafkasink/queries", None, "KafkaSink queries is missing"),
    Mistake(
        "binding-missing",
        "sinkbinding/gateway",
        None,
        "the gateways do not know where to post commands",
    ),
    Mistake(
        "sink-not-injected",
        "statefulset/gateway",
        setting(f"{FIRST}/env", [{"name": "KNCHAT_LOG", "value": "knative"}]),
        "has no K_SINK: its SinkBinding does not reach it",
        hold=("SinkBinding",),
    ),
    Mistake(
        "source-missing", "kafkasource/history", None, "history gets no events of chat-queries"
    ),
    Mistake(
        "source-inbox",
        "kafkasource/send",
        setting("/spec/topics", ["chat-queries"]),
        "has topics chat-queries, and functions/triggers.py says chat-commands",
    ),
    Mistake(
        "source-inbox",
        "kafkasource/persist",
        setting("/spec/consumerGroup", "mine"),
        "has consumerGroup mine, and functions/triggers.py says persist",
    ),
    Mistake(
        "source-delivery",
        "kafkasource/send",
        [{"op": "remove", "path": "/spec/delivery/retry"}],
        "has no delivery.retry: set spec.delivery.retry: 60",
    ),
    Mistake(
        "source-delivery",
        "kafkasource/send",
        setting("/spec/ordering", "ordered"),
        "set spec.ordering: unordered",
    ),
    Mistake(
        "source-dead-letters",
        "kafkasource/persist",
        [{"op": "remove", "path": "/spec/delivery/deadLetterSink"}],
        "events that fail are dropped",
    ),
    Mistake(
        "source-not-ready",
        "kafkasource/history",
        NOT_READY,
        "is not Ready (Ready: Planted, no route to Kafka)",
        hold=("KafkaSource",),
        status=True,
    ),
    Mistake(
        "not-ready",
        "kafkasink/queries",
        NOT_READY,
        "waits for Ready: Planted, no route to Kafka",
        hold=("KafkaSink",),
        status=True,
    ),
    Mistake(
        "not-ready",
        "gateway/chat",
        setting(
            "/status/conditions",
            [
                {
                    "type": "Accepted",
                    "status": "True",
                    "reason": "Accepted",
                    "message": "",
                    "lastTransitionTime": "2026-11-29T00:00:00Z",
                },
                {
                    "type": "Programmed",
                    "status": "False",
                    "reason": "Invalid",
                    "message": "Secret kn-chat-tls not found",
                    "lastTransitionTime": "2026-11-29T00:00:00Z",
                },
            ],
        ),
        "waits for Programmed: Invalid, Secret kn-chat-tls not found",
        hold=("Gateway",),
        status=True,
    ),
    Mistake(
        "not-ready",
        "httproute/api",
        setting("/status/parents", []),
        "no controller has seen it yet",
        hold=("HTTPRoute",),
        status=True,
    ),
    Mistake(
        "function-missing",
        "services.serving.knative.dev/persist",
        None,
        "the function persist is missing",
    ),
    Mistake(
        "pods-not-ready", "pod/gateway-0", None, "is not ready (Pending)", hold=("StatefulSet",)
    ),
    Mistake("schema", "job/migrate", None, "whether the stores were migrated is unknown"),
    Mistake("audit", "cronjob/audit", None, "nothing looks for what was lost on the way"),
    Mistake("audit", "cronjob/audit", setting("/spec/suspend", True), "is suspended"),
    Mistake("audit", "cronjob/files-sweep", None, "files that nothing refers to stay"),
    Mistake(
        "event-keys",
        "services.serving.knative.dev/send",
        setting(f"{FIRST}/env/-", {"name": "KNCHAT_EVENT_KEYS", "value": "another"}),
        "what one signs the others refuse",
    ),
    Mistake("secrets", "secret/kn-chat-keys", None, "is missing"),
    Mistake(
        "public-url",
        SETTINGS,
        [{"op": "remove", "path": "/data/KNCHAT_PUBLIC_URL"}],
        "clients would be told an address inside the cluster",
    ),
    Mistake(
        "public-url",
        "statefulset/gateway",
        [
            *setting("/spec/replicas", 2),
            *setting(
                f"{FIRST}/env/-",
                {"name": "KNCHAT_PUBLIC_URL", "value": "wss://gw.kn-chat.localhost/v1/socket"},
            ),
        ],
        "for 2 gateways: all would be told the same address",
    ),
    Mistake(
        "gateway-routes",
        "statefulset/gateway",
        setting("/spec/replicas", 2),
        "has the host gw-1.kn-chat.localhost, and no HTTPRoute",
    ),
    Mistake("gateway-routes", "httproute/gw-0", None, "and no HTTPRoute leads there"),
    Mistake(
        "trusted-proxies",
        SETTINGS,
        [{"op": "remove", "path": "/data/KNCHAT_TRUSTED_PROXIES"}],
        "have no limit by address",
    ),
    Mistake(
        "delivery-partitions",
        "statefulset/gateway",
        setting("/spec/replicas", 4),
        "has 4 gateways for 12 partitions",
    ),
    Mistake(
        "images-mixed",
        "services.serving.knative.dev/chats",
        setting(f"{FIRST}/image", f"{FUNCTIONS}:0.0.9"),
        "are of 2 versions",
    ),
    Mistake(
        "image-latest",
        "services.serving.knative.dev/chats",
        setting(f"{FIRST}/image", FUNCTIONS),
        "may be another tomorrow",
    ),
    Mistake(
        "traffic-pinned",
        "services.serving.knative.dev/send",
        setting("/spec/traffic", [{"revisionName": "send-00001", "percent": 100}]),
        "sends 100 % of its calls to the revision send-00001",
    ),
)
ELSEWHERE = {
    "definitions": "above",
    "store-unavailable": "above",
    "clock": "above",
    "topics-in-kafka": "above",
    "dead-letters": "above",
}
