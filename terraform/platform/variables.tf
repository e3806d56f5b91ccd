variable "kubeconfig" {
  type        = string
  description = "Path of the kubeconfig that `kubectl wait` uses; give the providers the same one."

  validation {
    condition     = fileexists(pathexpand(var.kubeconfig))
    error_message = "There is no file at kubeconfig. `kind get kubeconfig --name NAME > FILE` or your cloud's command writes one; without it nothing can wait for the cluster."
  }
}

variable "kube_context" {
  type        = string
  default     = null
  description = "Context in the kubeconfig; null is its current one."
}

variable "replicas" {
  type        = number
  default     = 3
  description = "Brokers of Kafka, nodes of Cassandra, instances of PostgreSQL, and dispatchers and receivers of Knative's Kafka parts. 1 is for trying out: nothing is kept when a node dies."

  validation {
    condition     = contains([1, 3, 5], var.replicas)
    error_message = "replicas is 1 (a laptop), 3 or 5: Kafka's controllers and Cassandra's quorums need an odd number, and 2 can lose no more than 1 can."
  }
}

variable "ingress_service_type" {
  type        = string
  default     = "ClusterIP"
  description = "Type of Kourier's Service. ClusterIP, since clients come by the Gateway; NodePort or LoadBalancer where other Knative Services are to be reached from outside."

  validation {
    condition     = contains(["ClusterIP", "NodePort", "LoadBalancer"], var.ingress_service_type)
    error_message = "ingress_service_type is ClusterIP, NodePort or LoadBalancer (the operator refuses ExternalName)."
  }
}

variable "gateway_class" {
  type        = string
  default     = null
  description = "A GatewayClass that the cluster has already; null installs Envoy Gateway with the class `kn-chat`. It must hold WebSockets open for hours."
}

variable "acme_email" {
  type        = string
  default     = null
  description = "Address for the ACME account that issues the certificates of the Gateway. null makes a CA of the cluster's own, which no client trusts by itself: for trying out."

  validation {
    condition     = var.acme_email == null || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.acme_email))
    error_message = "acme_email is an address such as ops@example.org; ACME servers refuse an account without one that can be reached."
  }
}

variable "acme_server" {
  type        = string
  default     = "https://acme-v02.api.letsencrypt.org/directory"
  description = "The ACME directory; used with acme_email."

  validation {
    condition     = startswith(var.acme_server, "https://")
    error_message = "acme_server is the https:// address of an ACME directory."
  }
}

# Stores: null installs one into this cluster (the worked example), an address takes what is there
# already. No passwords here: a state file keeps what passes through it. They are in the Secret
# kn-chat-stores (docs/operations/secrets.md).

variable "kafka" {
  type        = string
  default     = null
  description = "HOST:PORT,... of a Kafka that is there already; null has Strimzi run one. Without Strimzi, topics are made by `kn-chat topics create`, and the overlay leaves its KafkaTopics out."

  validation {
    condition     = var.kafka == null || can(regex("^[A-Za-z0-9.-]+:[0-9]+(,[A-Za-z0-9.-]+:[0-9]+)*$", var.kafka))
    error_message = "kafka is HOST:PORT, several with commas and no spaces, without a scheme: broker-0.example.org:9093,broker-1.example.org:9093."
  }
}

variable "kafka_secure" {
  type        = bool
  default     = true
  description = "Strimzi's listener: true is 9093 with TLS and SCRAM-SHA-512 only, and the KafkaUser `kn-chat`; false is 9092 in plain text, for trying out."
}

variable "cassandra" {
  type        = string
  default     = null
  description = "HOST:PORT,... of a Cassandra that is there already; null has cass-operator run one; \"none\" where history is in PostgreSQL, as in the overlay dev."

  validation {
    condition     = var.cassandra == null || var.cassandra == "none" || can(regex("^[A-Za-z0-9.-]+:[0-9]+(,[A-Za-z0-9.-]+:[0-9]+)*$", var.cassandra))
    error_message = "cassandra is HOST:PORT, several with commas and no spaces: node-0.example.org:9042,node-1.example.org:9042; or none."
  }
}

variable "database" {
  type        = string
  default     = null
  description = "URL of a PostgreSQL (or YugabyteDB) that is there already, without a password; null has CloudNativePG run one."

  validation {
    condition     = var.database == null || can(regex("^postgresql://[^:@/\\s]+@[^@/\\s]+/[^/\\s]+$", var.database))
    error_message = "database is postgresql://USER@HOST:PORT/NAME with no password in it: that one belongs into the Secret kn-chat-stores (a state file would keep it)."
  }
}

variable "redis" {
  type        = string
  default     = null
  description = "URL of a Redis or Valkey that is there already, without a password; null installs Valkey."

  validation {
    condition     = var.redis == null || can(regex("^rediss?://([^:@/\\s]+@)?[^@/\\s]+$|^rediss?://([^:@/\\s]+@)?[^@/\\s]+/[0-9]+$", var.redis))
    error_message = "redis is redis://HOST:PORT/0, or rediss:// with TLS, with no password in it: that one belongs into the Secret kn-chat-stores."
  }
}

variable "storage_class" {
  type        = string
  default     = null
  description = "StorageClass for what is installed here; null is the cluster's default one."
}

variable "storage" {
  type = object({
    kafka     = optional(string, "100Gi")
    cassandra = optional(string, "100Gi")
    database  = optional(string, "20Gi")
  })
  default     = {}
  description = "Size of each node's volume. Kafka keeps chat-messages for 7 days: bytes a day x 7 x replication / brokers, twice over."

  validation {
    condition     = alltrue([for size in values(var.storage) : can(regex("^[1-9][0-9]*(Gi|Ti)$", size))])
    error_message = "A size in storage is a whole number of Gi or Ti, for example 100Gi."
  }
}

variable "timeout_s" {
  type        = number
  default     = 900
  description = "Seconds for all that is installed to be ready, and for each chart. Cassandra's nodes start one after another, 1 to 2 minutes each."

  validation {
    condition     = var.timeout_s >= 60 && var.timeout_s <= 3600
    error_message = "timeout_s is 60 to 3600: below a minute images are not even pulled, beyond an hour something is wrong."
  }
}
