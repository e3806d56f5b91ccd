variable "documents" {
  type        = map(string)
  description = "KIND NAMESPACE NAME => its YAML."
}

variable "waits" {
  type        = list(string)
  description = "As in the module ready: CONDITION NAMESPACE RESOURCE/NAME."
}

variable "cluster" {
  type        = object({ kubeconfig = string, kube_context = optional(string), timeout_s = number })
  description = "Where it is, and how many seconds this wave has."
}

variable "hint" {
  type        = string
  description = "Said when the wave is not ready in time."
}
