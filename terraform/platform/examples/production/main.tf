# Any cloud's cluster of three nodes or more: Kafka by Strimzi with TLS and SCRAM, the other stores
# as the cloud or another team keeps them. The state holds no secret; still keep it where one apply
# at a time is let in (a backend with locking).

provider "kubectl" {
  config_path    = var.kubeconfig
  config_context = var.kube_context
}

module "platform" {
  source = "../.."

  kubeconfig    = var.kubeconfig
  kube_context  = var.kube_context
  replicas      = 3
  acme_email    = var.acme_email
  storage_class = var.storage_class
  storage       = { kafka = "500Gi" }

  cassandra = var.cassandra
  database  = var.database
  redis     = var.redis
}
