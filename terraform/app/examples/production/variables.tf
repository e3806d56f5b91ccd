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
