# Kafka by Strimzi: KRaft, API v1, one pool of nodes that are both controller and broker. Unless
# var.kafka names another.

locals {
  # User => topics and groups => what it may do with them. A name that ends in * is a prefix.
  kafka_rights = {
    # Knative's data plane: sinks write commands and questions, sources read inboxes and write dead
    # letters; groups have our names.
    kn-chat = {
      topic = {
        chat-commands        = ["Describe", "Read", "Write"]
        chat-queries         = ["Describe", "Read", "Write"]
        chat-uploads         = ["Describe", "Read"]
        chat-retries         = ["Describe", "Read"]
        chat-messages        = ["Describe", "Read"]
        chat-history-retries = ["Describe", "Read"]
        chat-dead-letters    = ["Describe", "Read", "Write"]
      }
      group = { "*" = ["Describe", "Read", "Delete"] }
    }
    # Functions write what they decide. They read for the audit, re-driving and `kn chat doctor`,
    # which look at everything.
    kn-chat-functions = {
      topic = {
        "chat-*"             = ["Describe", "DescribeConfigs", "Read"]
        session-deliveries   = ["Describe", "DescribeConfigs", "Read", "Write"]
        chat-commands        = ["Write"] # kn-chat dead-letters redrive
        chat-queries         = ["Write"] # the same
        chat-uploads         = ["Write"]
        chat-retries         = ["Write"]
        chat-messages        = ["Write"]
        chat-history-retries = ["Write"]
        chat-deliveries      = ["Write"]
        chat-dead-letters    = ["Write"]
      }
      group = { "*" = ["Describe"], audit = ["Read"] }
    }
    # Gateways read deliveries, and write what they tell each other of typing and presence: commands
    # and questions go by the sinks. They look since when history's oldest outcome waits.
    kn-chat-gateway = {
      topic = {
        "chat-*"             = ["Describe"]
        chat-messages        = ["Read"]
        chat-history-retries = ["Read"]
        chat-deliveries      = ["Read", "DescribeConfigs"]
        session-deliveries   = ["Describe", "Read", "Write", "DescribeConfigs"]
      }
      group = { "*" = ["Describe"], gateways = ["Read", "Delete"] }
    }
  }

  kafka_users = { for user, rights in local.kafka_rights : user => {
    apiVersion = "kafka.strimzi.io/v1"
    kind       = "KafkaUser"
    metadata   = { name = user, namespace = "kafka", labels = { "strimzi.io/cluster" = "kafka" } }
    spec = {
      authentication = { type = "scram-sha-512" }
      authorization = {
        type = "simple"
        acls = flatten([for type, named in rights : [for name, operations in named : {
          resource = {
            type        = type
            name        = name == "*" ? "*" : trimsuffix(name, "*")
            patternType = name != "*" && endswith(name, "*") ? "prefix" : "literal"
          }
          operations = operations
        }]])
      }
    }
  } }

  kafka_bootstrap = var.kafka != null ? var.kafka : "kafka-kafka-bootstrap.kafka.svc:${var.kafka_secure ? 9093 : 9092}"

  kafka_objects = { for name, object in {
    kafka = {
      apiVersion = "kafka.strimzi.io/v1"
      kind       = "Kafka"
      metadata   = { name = "kafka", namespace = "kafka" }
      spec = {
        # No version of Kafka: each Strimzi has one that it was tested with, and takes the upgrade
        # on itself.
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

    # A user a part, each with what the part does and no more. Strimzi puts a password into the
    # Secret of the same name in namespace kafka.
    kafka-user           = local.kafka_users["kn-chat"]
    kafka-user-functions = local.kafka_users["kn-chat-functions"]
    kafka-user-gateway   = local.kafka_users["kn-chat-gateway"]
  } : name => object if var.kafka == null && (!startswith(name, "kafka-user") || var.kafka_secure) }
}
