variable "kubeconfig" {
  type        = string
  default     = "kubeconfig"
  description = "Path of the kubeconfig."
}

variable "kube_context" {
  type        = string
  default     = null
  description = "Context in it; null is its current one."
}

variable "overlay" {
  type        = string
  default     = "../../../../knative/overlays/production"
  description = "Path of your overlay."
}
