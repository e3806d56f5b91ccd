output "settings" {
  description = "For settings.env of your overlay."
  value       = module.platform.settings
}

output "secrets" {
  description = "Where the passwords for the Secrets kn-chat-stores and kn-chat-kafka are."
  value       = module.platform.secrets
}
