output "settings" {
  description = "For the ConfigMap kn-chat of your overlay."
  value       = module.platform.settings
}

output "secrets" {
  description = "Where the passwords for the Secret kn-chat-stores are."
  value       = module.platform.secrets
}
