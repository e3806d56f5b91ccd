# One wave: its objects are applied side by side, then waited for. The root module says with
# depends_on which wave is before which.

resource "kubectl_manifest" "object" {
  for_each = var.documents

  yaml_body         = each.value
  server_side_apply = true
  force_new         = startswith(each.key, "Job ") # a Job cannot be changed: it is deleted and made again
  wait              = true                         # for its deletion: finalizers of sources and sinks need what the waves before have made
}

module "ready" {
  source = "../../ready"

  waits        = var.waits
  triggers     = sha256(jsonencode([var.documents, { for key, object in kubectl_manifest.object : key => object.uid }])) # made again by hand: waited for again
  kubeconfig   = var.cluster.kubeconfig
  kube_context = var.cluster.kube_context
  timeout_s    = var.cluster.timeout_s
  hint         = var.hint

  depends_on = [kubectl_manifest.object]
}
