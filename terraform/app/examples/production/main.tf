# Your copy of the overlay production on any cluster. An upgrade is a new version under `images:` in
# the overlay and another apply: migration first, then functions by new revisions, then gateways one
# after another.

provider "kubectl" {
  config_path       = var.kubeconfig
  config_context    = var.kube_context
  apply_retry_count = 3 # an API server that is being upgraded, a webhook that has just started
}

module "app" {
  source = "../.."

  overlay      = var.overlay
  kubeconfig   = var.kubeconfig
  kube_context = var.kube_context
  timeout_s    = 1800 # gateways drain their sessions one after another
}

output "waves" {
  description = "What was applied, by wave."
  value       = module.app.waves
}

output "hosts" {
  description = "Names that DNS must send to the Gateway."
  value       = module.app.hosts
}
