# Everything on one kind cluster, for trying out: 4 CPUs and 8 GiB for the nodes. History is in
# PostgreSQL, as the overlay dev has it.
#
#   kind create cluster --name kn-chat && kind get kubeconfig --name kn-chat > kubeconfig
#   terraform init && terraform apply

provider "kubectl" {
  config_path    = var.kubeconfig
  config_context = var.kube_context
}

module "platform" {
  source = "../.."

  kubeconfig   = var.kubeconfig
  kube_context = var.kube_context
  replicas     = 1
  kafka_secure = false
  cassandra    = "none"
  storage      = { kafka = "5Gi", database = "1Gi" }
}
