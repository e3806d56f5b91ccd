# Knative by its operator: Serving with Kourier, Eventing with the Kafka source and sink.

locals {
  # Operator, Serving, Eventing and the sink move together. Upgrade by one minor version at a time: the operator does not skip.
  knative_version = "1.23.0"

  # The operator replaces a key of a ConfigMap whole, so each properties file is here whole: what the data plane needs to work, then ours.
  kafka_consumer = <<-EOT
    key.deserializer=org.apache.kafka.common.serialization.StringDeserializer
    value.deserializer=io.cloudevents.kafka.CloudEventDeserializer
    partition.assignment.strategy=org.apache.kafka.clients.consumer.StickyAssignor
    isolation.level=read_committed
    enable.auto.commit=false
    auto.commit.interval.ms=5000
    auto.offset.reset=earliest
    allow.auto.create.topics=false
    session.timeout.ms=10000
    heartbeat.interval.ms=3000
    # 50 is the default, and 250 events a second and consumer with it.
    max.poll.records=500
    # 64 KiB is the default; our records have up to 512 KiB, and one that does not fit stops its partition.
    max.partition.fetch.bytes=1048576
  EOT

  kafka_producer = <<-EOT
    key.serializer=org.apache.kafka.common.serialization.StringSerializer
    value.serializer=io.cloudevents.kafka.CloudEventSerializer
    acks=all
    retries=2147483647
    delivery.timeout.ms=120000
    request.timeout.ms=10000
    max.block.ms=60000
    max.request.size=1048576
    max.in.flight.requests.per.connection=5
    # Off by default: a broker that hiccups would then write an event twice, or two in the other order.
    enable.idempotence=true
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
          # Functions end in 60 s; a revision whose image cannot be pulled is said to have failed after 5 minutes instead of 10.
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
        # The operator bundles the controller, the definitions and the source's data plane. The sink's receiver it does not.
        additionalManifests = [{
          URL = "https://github.com/knative-extensions/eventing-kafka-broker/releases/download/knative-v${local.knative_version}/eventing-kafka-sink.yaml"
        }]
        # Its webhook fails closed. With `exclusion`, the default, a webhook that is away stops every workload of the cluster from being changed;
        # so only what says bindings.knative.dev/include=true is looked at: our namespace and our StatefulSet.
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
              # Virtual replicas of a source on one pod are one Kafka consumer: a second pod doubles what is read, and lives on when one dies.
              envVars = [{ name = "DISPATCHERS_MIN_REPLICAS", value = tostring(max(2, var.replicas)) }]
            }]
          },
          { name = "kafka-sink-receiver", replicas = max(2, var.replicas) },
        ]
      }
    }
  }
}
