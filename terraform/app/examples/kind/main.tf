# The overlay dev on the cluster that terraform/platform/examples/kind has made: one gateway,
# functions that sleep when nothing comes.
#
#   ln -s ../../../platform/examples/kind/kubeconfig kubeconfig
#   terraform init && terraform apply

provider "kubectl" {
  config_path    = var.kubeconfig
  config_context = var.kube_context
}

module "app" {
  source = "../.."

  overlay      = "${path.module}/../../../../knative/overlays/dev"
  kubeconfig   = var.kubeconfig
  kube_context = var.kube_context
}

output "waves" {
  description = "What was applied, by wave."
  value       = module.app.waves
}
