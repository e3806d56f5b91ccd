# Everything on one kind cluster, for trying out: 4 CPUs and 16 GiB for the nodes.
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
  storage      = { kafka = "5Gi", cassandra = "5Gi", database = "1Gi" }
}
