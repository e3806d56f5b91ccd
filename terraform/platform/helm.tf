# Every chart there is, in one file: the test puts a stub in place of it, since the helm provider is
# not everywhere to be had. What the charts bring is used by local.objects, which waits for
# terraform_data.operators at the end.

locals {
  # `atomic`: a chart that does not come up in time is rolled back, so that the next apply does not
  # meet half a release.
  charts = {
    cert-manager = {
      repository = "https://charts.jetstack.io"
      chart      = "cert-manager"
      version    = "v1.21.2"
      namespace  = "cert-manager"
      values     = { crds = { enabled = true }, config = { enableGatewayAPI = true } }
    }
    knative-operator = {
      repository = "https://knative.github.io/operator"
      chart      = "knative-operator"
      version    = "v${local.knative_version}"
      namespace  = "knative-operator"
      values     = {}
    }
    strimzi = {
      repository = "oci://quay.io/strimzi-helm"
      chart      = "strimzi-kafka-operator"
      version    = "1.2.0"
      namespace  = "strimzi"
      values     = { watchNamespaces = ["kafka"] }
    }
    cloudnative-pg = {
      repository = "https://cloudnative-pg.github.io/charts"
      chart      = "cloudnative-pg"
      version    = "0.29.0"
      namespace  = "cnpg-system"
      values     = {}
    }
    valkey = {
      repository = "https://valkey.io/valkey-helm/"
      chart      = "valkey"
      version    = "0.9.4"
      namespace  = "stores"
      # A cache: what it loses is made again, so no volume; full, it forgets what was asked for
      # longest ago instead of refusing.
      values = { valkeyConfig = "maxmemory 256mb\nmaxmemory-policy allkeys-lru\n" }
    }
  }

  # What is not wanted since it is there already.
  wanted = { strimzi = var.kafka == null, cloudnative-pg = var.database == null, valkey = var.redis == null }
}

# Before cert-manager: it serves the Gateway API only if the API is there when it starts.
resource "helm_release" "envoy_gateway" {
  count = var.gateway_class == null ? 1 : 0

  name             = "envoy-gateway"
  repository       = "oci://docker.io/envoyproxy"
  chart            = "gateway-helm"
  version          = "v1.8.2"
  namespace        = "envoy-gateway-system"
  create_namespace = true
  atomic           = true
  wait             = true
  timeout          = var.timeout_s
}

resource "helm_release" "chart" {
  for_each = { for name, chart in local.charts : name => chart if lookup(local.wanted, name, true) }

  name             = each.key
  repository       = each.value.repository
  chart            = each.value.chart
  version          = each.value.version
  namespace        = each.value.namespace
  create_namespace = true
  atomic           = true
  wait             = true
  timeout          = var.timeout_s
  values           = [yamlencode(each.value.values)]

  depends_on = [kubectl_manifest.namespace, helm_release.envoy_gateway]
}

# Apart from the others: its webhook asks for a certificate from cert-manager.
resource "helm_release" "cass_operator" {
  count = var.cassandra == null ? 1 : 0

  name             = "cass-operator"
  repository       = "https://helm.k8ssandra.io/stable"
  chart            = "cass-operator"
  version          = "0.55.2"
  namespace        = "cass-operator"
  create_namespace = true
  atomic           = true
  wait             = true
  timeout          = var.timeout_s
  values           = [yamlencode({ global = { clusterScoped = true } })]

  depends_on = [helm_release.chart]
}

resource "terraform_data" "operators" {
  input = merge(
    { for name, release in helm_release.chart : name => release.version },
    { for release in concat(helm_release.envoy_gateway, helm_release.cass_operator) : release.name => release.version },
  )
}
