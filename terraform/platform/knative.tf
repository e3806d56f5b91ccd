# Knative by its operator: Serving with Kourier, Eventing with the Kafka source and sink.

locals {
  # Operator, Serving, Eventing and the sink move together. Upgrade by one minor version at a time:
  # the operator does not skip.
  knative_version = "1.23.0"

  # The operator replaces a key of a ConfigMap whole, so each properties file is here whole: every
  # key that Knative ships, with its value unless a comment says why ours is another. What is left
  # out falls back to Kafka's default, or to the data plane's: without the first two lines of the
  # consumer's a record that is no CloudEvent would be dropped and committed, with no dead letter
  # (seen).
  kafka_consumer = <<-EOT
    cloudevent.invalid.transformer.enabled=true
    cloudevent.invalid.kind.plural=kafkasources
    key.deserializer=org.apache.kafka.common.serialization.StringDeserializer
    value.deserializer=io.cloudevents.kafka.CloudEventDeserializer
    partition.assignment.strategy=org.apache.kafka.clients.consumer.StickyAssignor
    isolation.level=read_committed
    enable.auto.commit=false
    auto.commit.interval.ms=5000
    auto.offset.reset=earliest
    # true is shipped: a misspelt topic is an error, not a topic with 1 partition.
    allow.auto.create.topics=false
    session.timeout.ms=10000
    heartbeat.interval.ms=3000
    max.poll.interval.ms=300000
    # 50 is shipped, and 250 events a second and consumer with it.
    max.poll.records=500
    # 64 KiB is shipped; our records have up to 512 KiB, and one that does not fit stops its
    # partition.
    max.partition.fetch.bytes=1048576
    fetch.min.bytes=1
    fetch.max.bytes=52428800
    fetch.max.wait.ms=500
    check.crcs=true
    exclude.internal.topics=true
    default.api.timeout.ms=2000
    request.timeout.ms=2000
    retry.backoff.ms=100
    reconnect.backoff.max.ms=1000
    connections.max.idle.ms=540000
    metadata.max.age.ms=600000
    client.dns.lookup=use_all_dns_ips
    receive.buffer.bytes=65536
    send.buffer.bytes=131072
    metrics.recording.level=INFO
    security.protocol=PLAINTEXT
  EOT

  kafka_producer = <<-EOT
    key.serializer=org.apache.kafka.common.serialization.StringSerializer
    value.serializer=io.cloudevents.kafka.CloudEventSerializer
    acks=all
    retries=2147483647
    delivery.timeout.ms=120000
    # 2 s is shipped: a broker that collects its garbage for longer would be asked twice.
    request.timeout.ms=10000
    max.block.ms=60000
    max.request.size=1048576
    buffer.memory=33554432
    batch.size=16384
    linger.ms=0
    max.in.flight.requests.per.connection=5
    # Off as shipped: a broker that hiccups would then write an event twice, or two in the other
    # order.
    enable.idempotence=true
    retry.backoff.ms=100
    reconnect.backoff.ms=50
    reconnect.backoff.max.ms=1000
    connections.max.idle.ms=600000
    metadata.max.age.ms=300000
    client.dns.lookup=use_all_dns_ips
    receive.buffer.bytes=-1
    metrics.num.samples=2
    metrics.recording.level=INFO
    metrics.sample.window.ms=30000
  EOT

  knative = {
    knative-serving = {
      apiVersion = "operator.knative.dev/v1beta1"
      kind       = "KnativeServing"
      metadata   = { name = "knative-serving", namespace = "knative-serving" }
      spec = {
        version           = local.knative_version
        high-availability = { replicas = min(var.replicas, 3) }
        ingress           = { kourier = { enabled = true, service-type = var.ingress_service_type } }
        config = {
          network = { ingress-class = "kourier.ingress.networking.knative.dev" }
          # Functions end in 60 s; a revision whose image cannot be pulled is said to have failed
          # after 5 minutes instead of 10.
          deployment = { progress-deadline = "300s" }
        }
      }
    }

    knative-eventing = {
      apiVersion = "operator.knative.dev/v1beta1"
      kind       = "KnativeEventing"
      metadata   = { name = "knative-eventing", namespace = "knative-eventing" }
      spec = {
        version           = local.knative_version
        high-availability = { replicas = min(var.replicas, 3) }
        source            = { kafka = { enabled = true } }
        # The operator bundles the controller, the definitions and the source's data plane. The
        # sink's receiver it does not.
        additionalManifests = [{
          URL = "https://github.com/knative-extensions/eventing-kafka-broker/releases/download/knative-v${local.knative_version}/eventing-kafka-sink.yaml"
        }]
        # Its webhook fails closed. With `exclusion`, the default, a webhook that is unavailable
        # stops every workload of the cluster from being changed; so only what says
        # bindings.knative.dev/include=true is looked at: our namespace and our StatefulSet.
        sinkBindingSelectionMode = "inclusion"
        config = {
          kafka-source-data-plane = { "config-kafka-source-consumer.properties" = local.kafka_consumer }
          kafka-sink-data-plane   = { "config-kafka-sink-producer.properties" = local.kafka_producer }
        }
        workloads = [
          {
            name = "kafka-controller"
            env = [{
              container = "controller"
              # Virtual replicas of a source on one pod are one Kafka consumer: a second pod doubles
              # what is read, and lives on when one dies.
              envVars = [{ name = "DISPATCHERS_MIN_REPLICAS", value = tostring(max(2, var.replicas)) }]
            }]
          },
          { name = "kafka-sink-receiver", replicas = max(2, var.replicas) },
        ]
      }
    }
  }
}
