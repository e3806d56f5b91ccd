# terraform test, in this folder. Plans only, with a mocked provider: nothing is asked of a cluster.

mock_provider "kubectl" {}
mock_provider "helm" {}

variables {
  kubeconfig = "versions.tf" # any file that is there: a plan does not read it
}

run "everything_is_installed_by_default" {
  command = plan

  assert {
    condition = toset(keys(kubectl_manifest.object)) == toset([
      "knative-serving", "knative-eventing", "gateway-class", "issuer", "self-signed", "ca", "kafka", "kafka-nodes", "kafka-user", "kafka-user-functions", "kafka-user-gateway", "cassandra", "database",
    ])
    error_message = "Other objects than expected: ${join(", ", keys(kubectl_manifest.object))}"
  }

  assert {
    condition     = toset(keys(kubectl_manifest.namespace)) == toset(["knative-serving", "knative-eventing", "kafka", "stores"])
    error_message = "Other namespaces than expected: ${join(", ", keys(kubectl_manifest.namespace))}"
  }

  assert {
    condition     = output.settings.KNCHAT_KAFKA == "kafka-kafka-bootstrap.kafka.svc:9093"
    error_message = "Kafka's secure listener is 9093."
  }

  assert {
    condition     = output.settings.KNCHAT_KAFKA_REPLICATION == "3" && output.settings.KNCHAT_CASSANDRA_REPLICATION == "3"
    error_message = "Three nodes hold three copies."
  }
}

run "the_data_plane_is_tuned" {
  command = plan

  assert {
    condition     = contains(split("\n", yamldecode(nonsensitive(kubectl_manifest.object["knative-eventing"].yaml_body)).spec.config.kafka-source-data-plane["config-kafka-source-consumer.properties"]), "max.poll.records=500")
    error_message = "50 records a poll are 250 events a second."
  }

  assert {
    condition     = contains(split("\n", yamldecode(nonsensitive(kubectl_manifest.object["knative-eventing"].yaml_body)).spec.config.kafka-source-data-plane["config-kafka-source-consumer.properties"]), "max.partition.fetch.bytes=1048576")
    error_message = "A record of 512 KiB must fit into a fetch."
  }

  assert {
    condition     = contains(split("\n", yamldecode(nonsensitive(kubectl_manifest.object["knative-eventing"].yaml_body)).spec.config.kafka-sink-data-plane["config-kafka-sink-producer.properties"]), "enable.idempotence=true")
    error_message = "Without idempotence a sink repeats and reorders."
  }

  assert {
    condition = yamldecode(nonsensitive(kubectl_manifest.object["knative-eventing"].yaml_body)).spec.additionalManifests == [
      { URL = "https://github.com/knative-extensions/eventing-kafka-broker/releases/download/knative-v1.23.0/eventing-kafka-sink.yaml" },
    ]
    error_message = "The operator does not bundle the sink's receiver."
  }

  assert {
    condition     = yamldecode(nonsensitive(kubectl_manifest.object["knative-eventing"].yaml_body)).spec.sinkBindingSelectionMode == "inclusion"
    error_message = "In exclusion mode the webhook stands before every workload of the cluster."
  }
}

run "a_laptop_still_has_two_dispatchers" {
  command = plan

  variables {
    replicas     = 1
    kafka_secure = false
  }

  assert {
    condition     = yamldecode(nonsensitive(kubectl_manifest.object["knative-eventing"].yaml_body)).spec.workloads[0].env[0].envVars == [{ name = "DISPATCHERS_MIN_REPLICAS", value = "2" }]
    error_message = "Fewer than 2 dispatchers: one that dies stops all functions."
  }

  assert {
    condition     = yamldecode(nonsensitive(kubectl_manifest.object["kafka"].yaml_body)).spec.kafka.config["min.insync.replicas"] == 1
    error_message = "One broker cannot have two in-sync replicas: every append would fail."
  }

  assert {
    condition     = !contains(keys(kubectl_manifest.object), "kafka-user") && output.settings.KNCHAT_KAFKA == "kafka-kafka-bootstrap.kafka.svc:9092"
    error_message = "In plain text there is no user, and the port is 9092."
  }
}

run "stores_that_are_there_are_taken" {
  command = plan

  variables {
    kafka         = "b-0.example.org:9093,b-1.example.org:9093"
    cassandra     = "c-0.example.org:9042"
    database      = "postgresql://knchat@db.example.org:5432/knchat"
    redis         = "rediss://cache.example.org:6379/0"
    gateway_class = "theirs"
    acme_email    = "ops@example.org"
  }

  assert {
    condition     = toset(keys(kubectl_manifest.object)) == toset(["knative-serving", "knative-eventing", "issuer"])
    error_message = "Nothing is installed that is there already: ${join(", ", keys(kubectl_manifest.object))}"
  }

  assert {
    condition = output.settings == {
      KNCHAT_KAFKA     = "b-0.example.org:9093,b-1.example.org:9093"
      KNCHAT_CHATS     = "cassandra"
      KNCHAT_CASSANDRA = "c-0.example.org:9042"
      KNCHAT_DATABASE  = "postgresql://knchat@db.example.org:5432/knchat"
      KNCHAT_REDIS     = "rediss://cache.example.org:6379/0"
    }
    error_message = "The settings are the addresses that were given, and no replication is invented: ${jsonencode(output.settings)}"
  }

  assert {
    condition     = output.gateway_class == "theirs" && length(output.secrets) == 0
    error_message = "Nothing of ours holds a secret there."
  }
}

run "history_in_postgresql" {
  command = plan

  variables {
    cassandra = "none"
  }

  assert {
    condition     = !contains(keys(kubectl_manifest.object), "cassandra") && !contains(keys(output.settings), "KNCHAT_CHATS")
    error_message = "No Cassandra was wanted."
  }
}

# Planted mistakes: each is refused, by the variable that it is in.

run "two_replicas" {
  command = plan
  variables {
    replicas = 2
  }
  expect_failures = [var.replicas]
}

run "no_kubeconfig" {
  command = plan
  variables {
    kubeconfig = "/nowhere/kubeconfig"
  }
  expect_failures = [var.kubeconfig]
}

run "a_password_in_the_database_url" {
  command = plan
  variables {
    database = "postgresql://knchat:secret@db.example.org:5432/knchat"
  }
  expect_failures = [var.database]
}

run "a_password_in_the_redis_url" {
  command = plan
  variables {
    redis = "redis://:secret@cache.example.org:6379/0"
  }
  expect_failures = [var.redis]
}

run "kafka_with_a_scheme" {
  command = plan
  variables {
    kafka = "https://b-0.example.org:9093"
  }
  expect_failures = [var.kafka]
}

run "cassandra_without_a_port" {
  command = plan
  variables {
    cassandra = "c-0.example.org"
  }
  expect_failures = [var.cassandra]
}

run "an_address_that_is_none" {
  command = plan
  variables {
    acme_email = "ops"
  }
  expect_failures = [var.acme_email]
}

run "acme_in_plain_text" {
  command = plan
  variables {
    acme_server = "http://acme.example.org/directory"
  }
  expect_failures = [var.acme_server]
}

run "megabytes_of_storage" {
  command = plan
  variables {
    storage = { kafka = "500M" }
  }
  expect_failures = [var.storage]
}

run "an_unknown_service_type" {
  command = plan
  variables {
    ingress_service_type = "ExternalName"
  }
  expect_failures = [var.ingress_service_type]
}

run "no_time_at_all" {
  command = plan
  variables {
    timeout_s = 5
  }
  expect_failures = [var.timeout_s]
}
