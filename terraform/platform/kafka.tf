# Kafka by Strimzi: KRaft, API v1, one pool of nodes that are both controller and broker. Unless var.kafka names another.

locals {
  kafka_bootstrap = var.kafka != null ? var.kafka : "kafka-kafka-bootstrap.kafka.svc:${var.kafka_secure ? 9093 : 9092}"

  kafka_objects = { for name, object in {
    kafka = {
      apiVersion = "kafka.strimzi.io/v1"
      kind       = "Kafka"
      metadata   = { name = "kafka", namespace = "kafka" }
      spec = {
        # No version of Kafka: each Strimzi has one that it was tested with, and takes the upgrade on itself.
        kafka = { for key, value in {
          listeners = [{ for key, value in {
            name           = var.kafka_secure ? "tls" : "plain"
            port           = var.kafka_secure ? 9093 : 9092
            type           = "internal"
            tls            = var.kafka_secure
            authentication = { type = "scram-sha-512" }
          } : key => value if key != "authentication" || var.kafka_secure }]
          authorization = { type = "simple" }
          config = {
            "auto.create.topics.enable"                = false # a misspelt topic is an error, not a topic with 1 partition
            "default.replication.factor"               = var.replicas
            "min.insync.replicas"                      = var.replicas > 1 ? 2 : 1
            "offsets.topic.replication.factor"         = var.replicas
            "transaction.state.log.replication.factor" = var.replicas
            "transaction.state.log.min.isr"            = var.replicas > 1 ? 2 : 1
            "unclean.leader.election.enable"           = false
          }
        } : key => value if key != "authorization" || var.kafka_secure }
        entityOperator = { for key, value in { topicOperator = {}, userOperator = {} } : key => value if key == "topicOperator" || var.kafka_secure }
      }
    }

    kafka-nodes = {
      apiVersion = "kafka.strimzi.io/v1"
      kind       = "KafkaNodePool"
      metadata   = { name = "node", namespace = "kafka", labels = { "strimzi.io/cluster" = "kafka" } }
      spec = {
        replicas = var.replicas
        roles    = ["controller", "broker"]
        storage = {
          type = "jbod"
          volumes = [{ for key, value in {
            id            = 0
            type          = "persistent-claim"
            size          = var.storage.kafka
            class         = var.storage_class
            kraftMetadata = "shared"
            deleteClaim   = false
          } : key => value if value != null }]
        }
      }
    }

    # One user for the functions, the gateways and Knative's data plane. Strimzi puts its password into the Secret kn-chat of namespace kafka.
    kafka-user = {
      apiVersion = "kafka.strimzi.io/v1"
      kind       = "KafkaUser"
      metadata   = { name = "kn-chat", namespace = "kafka", labels = { "strimzi.io/cluster" = "kafka" } }
      spec = {
        authentication = { type = "scram-sha-512" }
        authorization = {
          type = "simple"
          acls = [
            { resource = { type = "topic", name = "chat-", patternType = "prefix" }, operations = ["All"] },
            { resource = { type = "topic", name = "session-deliveries", patternType = "literal" }, operations = ["All"] },
            # Groups of the sources have our names, those of the gateways too; `kn chat doctor` reads all of them.
            { resource = { type = "group", name = "*", patternType = "literal" }, operations = ["All"] },
          ]
        }
      }
    }
  } : name => object if var.kafka == null && (name != "kafka-user" || var.kafka_secure) }
}
