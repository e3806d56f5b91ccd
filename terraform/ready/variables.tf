variable "waits" {
  type        = list(string)
  description = "What is waited for, a line each: CONDITION NAMESPACE RESOURCE/NAME. CONDITION is what kubectl wait takes behind --for=, or `rollout`. A cluster-wide object has the namespace `-`."

  validation {
    condition     = alltrue([for wait in var.waits : can(regex("^\\S+ \\S+ [^\\s/]+/[^\\s/]+$", wait))])
    error_message = "Each line of waits is CONDITION NAMESPACE RESOURCE/NAME, for example \"condition=Ready chat kafkasink/commands\"."
  }
}

variable "triggers" {
  type        = any
  description = "The wait is done again when this differs."
}

variable "kubeconfig" {
  type        = string
  description = "Path of the kubeconfig for kubectl wait."
}

variable "kube_context" {
  type        = string
  default     = null
  description = "Context in it; null is its current one."
}

variable "timeout_s" {
  type        = number
  description = "Seconds for all of waits together."
}

variable "hint" {
  type        = string
  default     = ""
  description = "Said when something is not ready in time: what to look at."
}
