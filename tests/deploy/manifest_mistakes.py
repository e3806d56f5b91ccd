"""Mistakes that are planted in an overlay's objects, each for the rule that must find it."""

from tests.deploy import rules
from tests.deploy.overlays import one, settings


def put(thing, path, value):
    """Sets what lies at the path, or takes it away with None."""
    *way, last = (
        int(step) if step.isdigit() else step for step in path.split("|" if "|" in path else ".")
    )
    for step in way:
        thing = thing[step]
    if value is None:
        del thing[last]
    else:
        thing[last] = value


def at(kind, named, path, value):
    """A mistake: that object has this value there."""
    return lambda things: put(one(things, kind, named), path, value)


def without(kind, named):
    """A mistake: that object is missing."""
    return lambda things: things.remove(one(things, kind, named))


def setting(key, value):
    """A mistake: the ConfigMap says this."""
    return lambda things: put(settings(things), key, value)


def scaling(named, key, value):
    """A mistake: an annotation of the template."""
    return at(
        "Function",
        named,
        f"spec|template|metadata|annotations|autoscaling.knative.dev/{key}",
        value,
    )


def variable(named, **entry):
    """A mistake: one more variable of a function."""
    return lambda things: one(things, "Function", named)["spec"]["template"]["spec"]["containers"][
        0
    ]["env"].append(entry)


def more(thing):
    """A mistake: an object that should not be there."""
    return lambda things: things.append(thing)


POD = "spec.template.spec"
AUDIT = f"spec.jobTemplate.{POD}"
CONTAINER = f"{POD}.containers.0"
MISTAKES = {
    rules.delivery_is_whole: [
        at("KafkaSource", "send", "spec.delivery", None),
        at("KafkaSource", "send", "spec.delivery.retry", None),
        at("KafkaSource", "persist", "spec.delivery.deadLetterSink", None),
        at("KafkaSource", "persist", "spec.delivery.deadLetterSink.ref.name", "dead-letter"),
        at("KafkaSource", "history", "spec.delivery.backoffPolicy", "expo"),
        at("KafkaSource", "history", "spec.delivery.backoffDelay", "200ms"),
        at("KafkaSource", "history", "spec.delivery.timeout", "15"),
    ],
    rules.sources_say_everything: [
        at("KafkaSource", "send", "spec.ordering", "ordered"),
        at("KafkaSource", "send", "spec.ordering", None),
        at("KafkaSource", "send", "spec.initialOffset", "latest"),
        at("KafkaSource", "send", "spec.initialOffset", None),
        at("KafkaSource", "send", "spec.consumers", None),
        at("KafkaSource", "send", "spec.consumers", 0),
        at("KafkaSource", "send", "spec.consumerGroup", None),
        at("KafkaSource", "send", "spec.sink.ref.namespace", None),
    ],
    rules.triggers_are_called: [
        without("KafkaSource", "send-retries"),
        without("Function", "persist"),
        at("KafkaSource", "send", "spec.topics", ["chat-retries"]),
        at("KafkaSource", "send", "spec.sink.ref.name", "persist"),
        at("KafkaSource", "send", "spec.consumerGroup", "sends"),
        at("KafkaSource", "send", "spec.delivery.retry", 10),
        at("KafkaSource", "send", "spec.delivery.timeout", "PT10S"),
        at("Function", "report-lost", f"{CONTAINER}.env.0.value", "report-lost"),
        at("HTTPRoute", "api", "spec.rules.0.matches.0.path.value", "/v2/users"),
        at(
            "HTTPRoute",
            "api",
            "spec.rules.1.filters.0.urlRewrite.hostname",
            "chat.chat.svc.cluster.local",
        ),
    ],
    rules.sinks_own_no_topic: [
        at("KafkaSink", "commands", "spec.numPartitions", 12),
        at("KafkaSink", "commands", "spec.replicationFactor", 3),
        at("KafkaSink", "queries", "spec.topic", "chat-commands"),
        at("KafkaSink", "queries", "spec.contentMode", "structured"),
        without("KafkaSink", "dead-letters"),
    ],
    rules.bindings_say_their_namespace: [
        at("SinkBinding", "gateway", "spec.subject.namespace", None),
        at(
            "SinkBinding",
            "gateway",
            "spec.subject.selector.matchLabels",
            {"app.kubernetes.io/name": "gateways"},
        ),
        at("SinkBinding", "gateway", "spec.sink.ref.name", "queries"),
        without("SinkBinding", "gateway"),
        at("StatefulSet", "gateway", "metadata|labels|bindings.knative.dev/include", None),
        at("Namespace", "chat", "metadata|labels|bindings.knative.dev/include", None),
    ],
    rules.topics_are_as_code_expects: [
        at("KafkaTopic", "chat-commands", "spec.partitions", 6),
        at("KafkaTopic", "chat-deliveries", "spec.partitions", 24),
        at("KafkaTopic", "chat-messages", "spec.replicas", 2),
        at("KafkaTopic", "chat-messages", "spec|config|retention.ms", 1000),
        at("KafkaTopic", "chat-messages", "spec|config|message.timestamp.type", "CreateTime"),
        at("KafkaTopic", "chat-messages", "spec|config|min.insync.replicas", None),
        at("KafkaTopic", "chat-messages", "metadata|labels|strimzi.io/cluster", "other"),
        without("KafkaTopic", "session-deliveries"),
        setting("KNCHAT_DELIVERY_PARTITIONS", "12"),
    ],
    rules.gateways_have_partitions_enough: [at("StatefulSet", "gateway", "spec.replicas", 13)],
    rules.no_reserved_names: [
        at("Function", "send", f"{CONTAINER}.ports.0.containerPort", 8012),
        at("Function", "send", f"{CONTAINER}.ports.0.name", "http"),
        variable("send", name="K_SERVICE", value="send"),
        variable("send", name="PORT", value="8080"),
        setting("PORT", "8080"),
    ],
    rules.functions_have_time: [
        at("Function", "send", f"{POD}.timeoutSeconds", 30),
        at("Function", "send", f"{POD}.timeoutSeconds", 6000),
        at("Function", "send", f"{POD}.timeoutSeconds", None),
    ],
    rules.scaling_is_legal: [
        scaling("send", "minscale", "1"),
        scaling("send", "min-scale", "-1"),
        scaling("send", "min-scale", None),
        scaling("send", "min-scale", "50"),
        scaling("send", "target", "0"),
        scaling("send", "target", "100"),
        scaling("send", "scale-down-delay", "60"),
        at("Function", "send", f"{POD}.containerConcurrency", 0),
        at("Function", "send", "metadata|annotations|autoscaling.knative.dev/min-scale", "1"),
    ],
    rules.containers_are_bounded: [
        at("Function", "send", f"{CONTAINER}.resources.limits", None),
        at("StatefulSet", "gateway", f"{CONTAINER}.resources.requests.memory", None),
        at("Job", "migrate", f"{CONTAINER}.resources.requests.cpuu", "1"),
    ],
    rules.images_have_our_version: [
        at("Function", "send", f"{CONTAINER}.image", "ghcr.io/kn-chat/functions:latest"),
        at("StatefulSet", "gateway", f"{CONTAINER}.image", "ghcr.io/kn-chat/gateway"),
        at("Job", "migrate", f"{CONTAINER}.image", "ghcr.io/kn-chat/functions:0.0.1"),
    ],
    rules.pods_may_do_nothing: [
        at("Function", "send", f"{CONTAINER}.securityContext.readOnlyRootFilesystem", None),
        at("Function", "send", f"{CONTAINER}.securityContext.capabilities", None),
        at("Function", "send", f"{CONTAINER}.securityContext.seccompProfile", None),
        at("Function", "send", f"{POD}.serviceAccountName", None),
        at(
            "Function",
            "send",
            f"{CONTAINER}.volumeMounts.0",
            {"name": "keys", "mountPath": "/tmp"},  # noqa: S108 - a mount
        ),
        at("StatefulSet", "gateway", f"{POD}.securityContext.runAsNonRoot", None),
        at("StatefulSet", "gateway", f"{POD}.automountServiceAccountToken", None),
        at("Job", "migrate", f"{CONTAINER}.securityContext.allowPrivilegeEscalation", True),
        at("CronJob", "audit", f"{AUDIT}.serviceAccountName", "default"),
        at("ServiceAccount", "functions", "automountServiceAccountToken", None),
        without("ServiceAccount", "gateway"),
        more(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "all"},
            }
        ),
    ],
    rules.functions_are_hidden: [
        at("Function", "send", "metadata|labels|networking.knative.dev/visibility", None),
        at("NetworkPolicy", "functions", "spec.ingress.0.from", [{"namespaceSelector": {}}]),
        at("NetworkPolicy", "functions", "spec.ingress.0.from", None),
        at("NetworkPolicy", "functions", "spec.ingress.0.ports.0.port", 8080),
        at("NetworkPolicy", "functions", "spec.ingress.0.ports", None),
        without("NetworkPolicy", "functions"),
        without("NetworkPolicy", "deny-all"),
        at("NetworkPolicy", "deny-all", "spec.policyTypes", ["Ingress"]),
        at("NetworkPolicy", "gateway", "spec.ingress.0.from", [{"namespaceSelector": {}}]),
        at("NetworkPolicy", "gateway", "spec.egress.0.ports", None),
        at("NetworkPolicy", "stores", "spec.egress.1.to", [{"ipBlock": {"cidr": "0.0.0.0/0"}}]),
        at("Function", "send", "spec|template|metadata|labels|app.kubernetes.io/part-of", None),
    ],
    rules.probes_tell_the_truth: [
        at(
            "Function",
            "send",
            f"{CONTAINER}.readinessProbe",
            {"httpGet": {"path": "/", "port": 8080}},
        ),
        at("Function", "send", f"{CONTAINER}.livenessProbe", None),
        at("StatefulSet", "gateway", f"{CONTAINER}.readinessProbe.httpGet.path", "/livez"),
        at("StatefulSet", "gateway", f"{POD}.terminationGracePeriodSeconds", 30),
        at("StatefulSet", "gateway", f"{CONTAINER}.lifecycle", None),
        at("StatefulSet", "gateway", "spec.podManagementPolicy", None),
        at("StatefulSet", "gateway", f"{POD}.topologySpreadConstraints", None),
        at("PodDisruptionBudget", "gateway", "spec.maxUnavailable", 2),
        setting("KNCHAT_DRAIN_S", "50"),
    ],
    rules.settings_are_taken: [
        setting("KNCHAT_KAFKAS", "kafka:9092"),
        setting("KNCHAT_KAFKA", "kafka"),
        setting("KNCHAT_KAFKA_USER", None),
        setting("KNCHAT_DRAIN_S", "long"),
        setting("KNCHAT_REDIS_CA", "/etc/kn-chat/redis/ca.crt"),
        setting("KNCHAT_DATABASE", "postgresql://knchat:secret@database/knchat"),
        at(
            "StatefulSet",
            "gateway",
            f"{POD}.volumes.1.secret.items",
            [{"key": "jwks.json", "path": "jwks.json"}],
        ),
        at("Function", "accounts", f"{CONTAINER}.volumeMounts.1.mountPath", "/etc/keys"),
        variable("send", name="KNCHAT_SPEED", value="1"),
    ],
    rules.the_audit_runs: [
        without("CronJob", "audit"),
        at("CronJob", "audit", f"{AUDIT}.containers.0.command", ["kn-chat", "audit"]),
        at("CronJob", "audit", f"{AUDIT}.containers.0.env", []),
        at("CronJob", "audit", "spec.schedule", "0 3 * * *"),
        at("CronJob", "audit", "spec.suspend", True),
        at("CronJob", "audit", "spec.concurrencyPolicy", "Allow"),
        at("CronJob", "audit", "spec.jobTemplate.spec.backoffLimit", 6),
        at("CronJob", "audit", "spec.jobTemplate.spec.activeDeadlineSeconds", None),
    ],
    rules.secrets_stay_out: [
        more(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "kn-chat-keys", "namespace": "chat"},
            }
        ),
        setting("KNCHAT_DATABASE_PASSWORD", "secret"),
        variable("send", name="KNCHAT_EVENT_KEYS", value="c2VjcmV0"),
        at("Function", "send", f"{POD}.volumes.0.secret.items", None),
        at("Function", "chats", f"{POD}.volumes.0.secret.items.0.key", "signing-key.pem"),
    ],
    rules.kafka_is_one: [
        at(
            "KafkaSource", "send", "spec.bootstrapServers", ["kafka-kafka-bootstrap.kafka.svc:9092"]
        ),
        at("KafkaSource", "send", "spec.net.tls.enable", False),
        at("KafkaSource", "send", "spec.net", None),
        at("KafkaSink", "commands", "spec.auth", None),
        at("KafkaSink", "commands", "spec.bootstrapServers", ["kafka:9093"]),
        setting("KNCHAT_KAFKA", "other.kafka.svc:9093"),
        setting("KNCHAT_KAFKA_SECURITY", "plaintext"),
        at(
            "StatefulSet",
            "gateway",
            f"{CONTAINER}.env.3.value",
            "http://kafka-sink-ingress.knative-eventing.svc.cluster.local/chat/commands",
        ),
    ],
    rules.references_lead_somewhere: [
        without("Function", "send"),
        without("KafkaTopic", "chat-queries"),
        without("Service", "gw-1"),
        without("Service", "gateway"),
        without("ReferenceGrant", "kn-chat"),
        at("ReferenceGrant", "kn-chat", "metadata.namespace", "kourier-system"),
        at("KafkaSource", "send", "spec.sink.ref.apiVersion", "v1"),
        at("Function", "send", f"{CONTAINER}.envFrom.0.configMapRef.name", "settings"),
        at("HTTPRoute", "gw-1", "spec.parentRefs.0.sectionName", "https-gw-0"),
        at("HTTPRoute", "gw-1", "spec.parentRefs.0.sectionName", "https-gw-9"),
    ],
    rules.every_object_has_its_place: [
        at("KafkaSink", "commands", "metadata|annotations|kn-chat.dev/wave", "5"),
        at("KafkaSink", "commands", "metadata|annotations|kn-chat.dev/wave", None),
        at("KafkaSink", "commands", "metadata|labels|app.kubernetes.io/part-of", None),
        at("KafkaSink", "commands", "metadata|labels|app.kubernetes.io/managed-by", "us"),
        at("KafkaSink", "commands", "metadata.namespace", None),
        lambda things: things.append(things[0]),
        more(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "x", "namespace": "chat", "labels": {}},
            }
        ),
    ],
}
