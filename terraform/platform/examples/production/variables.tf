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

variable "acme_email" {
  type        = string
  description = "Address for the ACME account."
}

variable "storage_class" {
  type        = string
  default     = null
  description = "StorageClass for Kafka's volumes: one that grows, on disks that survive a node."
}

variable "cassandra" {
  type        = string
  description = "HOST:PORT,... of the Cassandra."
}

variable "database" {
  type        = string
  description = "postgresql://USER@HOST:PORT/NAME"
}

variable "redis" {
  type        = string
  description = "rediss://HOST:PORT/0"
}
