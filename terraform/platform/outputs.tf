output "settings" {
  description = "What settings.env of your overlay must say about the stores. Passwords and CAs are in Secrets."
  value = merge(
    {
      KNCHAT_KAFKA    = local.kafka_bootstrap
      KNCHAT_DATABASE = local.database_url
      KNCHAT_REDIS    = local.redis_url
    },
    var.cassandra == "none" ? {} : { KNCHAT_CHATS = "cassandra", KNCHAT_CASSANDRA = local.cassandra_contact },
    var.kafka == null ? { KNCHAT_KAFKA_REPLICATION = tostring(var.replicas) } : {},
    var.cassandra == null ? { KNCHAT_CASSANDRA_REPLICATION = tostring(min(var.replicas, 3)) } : {},
  )
}

output "gateway_class" {
  description = "gatewayClassName of the Gateway `chat`."
  value       = var.gateway_class == null ? "kn-chat" : var.gateway_class
}

output "cluster_issuer" {
  description = "Issuer for the certificate of the Gateway: its annotation cert-manager.io/cluster-issuer."
  value       = "kn-chat"
}

output "secrets" {
  description = "Where the operators have put what the Secrets kn-chat-stores and kn-chat-kafka need: NAMESPACE/SECRET of each store that was installed here."
  value = merge(
    var.kafka == null && var.kafka_secure ? {
      kafka           = "kafka/kn-chat"
      kafka_functions = "kafka/kn-chat-functions"
      kafka_gateway   = "kafka/kn-chat-gateway"
      kafka_ca        = "kafka/kafka-cluster-ca-cert"
    } : {},
    var.cassandra == null ? { cassandra = "stores/kn-chat-superuser" } : {},
    var.database == null ? { database = "stores/database-app", database_ca = "stores/database-ca" } : {},
  )
}

output "operators" {
  description = "Versions of the charts that are installed."
  value       = terraform_data.operators.output
}
