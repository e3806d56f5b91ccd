# Waits until objects are what they should be, with `kubectl wait`: the provider gavinbunney/kubectl
# 1.19.0 waits for Deployments and API services only. Both stacks use it. Nothing is left in the
# cluster.

resource "terraform_data" "ready" {
  triggers_replace = var.triggers

  provisioner "local-exec" {
    command = "sh '${path.module}/ready.sh'"
    environment = merge(
      { WAITS = join("\n", var.waits), TIMEOUT_S = var.timeout_s, HINT = var.hint, KUBECONFIG = pathexpand(var.kubeconfig) },
      var.kube_context == null ? {} : { KUBE_CONTEXT = var.kube_context },
    )
  }
}
