output "objects" {
  description = "KIND NAMESPACE NAME => uid."
  value       = { for key, object in kubectl_manifest.object : key => object.uid }
}
