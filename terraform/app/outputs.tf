output "waves" {
  description = "What is applied in which wave, \"0\" being the namespaces and \"settings\" the ConfigMaps behind them: KIND NAMESPACE NAME."
  value       = { for wave, documents in local.waves : wave => keys(documents) }
}

output "waits" {
  description = "What each wave waits for before the next."
  value       = local.waits
}

output "images" {
  description = "Images that run, with their versions."
  value       = distinct(flatten([for text in data.kubectl_kustomize_documents.overlay.documents : regexall("(?m)^\\s*-?\\s*image: [\"']?([^\\s\"']+)", text)]))
}

output "hosts" {
  description = "Names that DNS must send to the Gateway."
  value       = distinct(flatten([for document in local.decoded : try(document.object.spec.hostnames, []) if document.object.kind == "HTTPRoute"]))
}
