# The way in: a GatewayClass for the Gateway `chat`, and an issuer for its certificate (Secret
# kn-chat-tls).

locals {
  gateway = { for name, object in {
    gateway-class = {
      apiVersion = "gateway.networking.k8s.io/v1"
      kind       = "GatewayClass"
      metadata   = { name = "kn-chat" }
      spec       = { controllerName = "gateway.envoyproxy.io/gatewayclass-controller" }
    }

    issuer = {
      apiVersion = "cert-manager.io/v1"
      kind       = "ClusterIssuer"
      metadata   = { name = "kn-chat" }
      spec = { for kind, spec in {
        ca = { secretName = "kn-chat-ca" }
        acme = {
          email               = var.acme_email
          server              = var.acme_server
          privateKeySecretRef = { name = "kn-chat-acme" }
          solvers = [{
            http01 = { gatewayHTTPRoute = { parentRefs = [{ kind = "Gateway", name = "chat", namespace = "chat" }] } }
          }]
        }
      } : kind => spec if kind == (var.acme_email == null ? "ca" : "acme") }
    }

    # The CA of the cluster's own.
    self-signed = {
      apiVersion = "cert-manager.io/v1"
      kind       = "ClusterIssuer"
      metadata   = { name = "kn-chat-self-signed" }
      spec       = { selfSigned = {} }
    }
    ca = {
      apiVersion = "cert-manager.io/v1"
      kind       = "Certificate"
      metadata   = { name = "kn-chat-ca", namespace = "cert-manager" }
      spec = {
        isCA       = true
        commonName = "kn-chat, for trying out"
        secretName = "kn-chat-ca"
        duration   = "8760h"
        privateKey = { algorithm = "ECDSA", size = 256 }
        issuerRef  = { name = "kn-chat-self-signed", kind = "ClusterIssuer" }
      }
    }
  } : name => object if name == "issuer" || (name == "gateway-class" ? var.gateway_class == null : var.acme_email == null) }
}
