variable "overlay" {
  type        = string
  description = "Path of the kustomize overlay to apply: a copy of knative/overlays/production that you keep. It is the only place of configuration; this stack only says in which order it is applied."

  validation {
    condition     = fileexists("${var.overlay}/kustomization.yaml")
    error_message = "There is no kustomization.yaml in overlay. Copy knative/overlays/production, change what is yours in it, and give its path (relative to where terraform runs, or absolute)."
  }
}

variable "kubeconfig" {
  type        = string
  description = "Path of the kubeconfig that kubectl uses between the waves; give the provider the same one."

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

variable "timeout_s" {
  type        = number
  default     = 600
  description = "Seconds for each wave to be ready. The longest is the gateways': one after another drains its sessions (up to 60 s each)."

  validation {
    condition     = var.timeout_s >= 10 && var.timeout_s <= 3600
    error_message = "timeout_s is 10 to 3600 for each of 6 waves: shorter ends before an image is pulled, longer hides what is wrong."
  }
}
