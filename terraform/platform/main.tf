# What kn-chat stands on: Knative, its Kafka parts, a gateway and certificates, and the stores that
# are not there already. Charts are in helm.tf; here are the custom resources that tell their
# operators what to run. They are applied after the charts, and need no definition at plan time
# (kubectl_manifest), so one apply does it.

locals {
  # Objects whose kind comes with a chart, by their address in the state. Each file adds its own.
  objects = merge(local.knative, local.gateway, local.kafka_objects, local.store_objects)

  namespaces = concat(
    ["knative-serving", "knative-eventing"],
    var.kafka == null ? ["kafka"] : [],
    var.cassandra == null || var.database == null || var.redis == null ? ["stores"] : [],
  )

  waits = concat(
    [
      "condition=Ready knative-serving knativeserving/knative-serving",
      "condition=Ready knative-eventing knativeeventing/knative-eventing",
      # The operator's Ready does not look into the manifest that is added (knative.tf).
      "rollout knative-eventing deployment/kafka-sink-receiver",
      "condition=Ready - clusterissuer/kn-chat",
    ],
    var.gateway_class == null ? ["condition=Accepted - gatewayclass/kn-chat"] : [],
    var.kafka == null ? ["condition=Ready kafka kafka.kafka.strimzi.io/kafka"] : [],
    var.cassandra == null ? ["condition=Ready stores cassandradatacenter/dc1"] : [],
    var.database == null ? ["condition=Ready stores cluster.postgresql.cnpg.io/database"] : [],
  )
}

resource "kubectl_manifest" "namespace" {
  for_each = toset(local.namespaces)

  yaml_body         = yamlencode({ apiVersion = "v1", kind = "Namespace", metadata = { name = each.key } })
  server_side_apply = true
  wait              = true
}

resource "kubectl_manifest" "object" {
  for_each = local.objects

  yaml_body         = yamlencode(each.value)
  server_side_apply = true
  wait              = true # for operators to take away what they have made before their charts go

  depends_on = [terraform_data.operators, kubectl_manifest.namespace]
}

module "ready" {
  source = "../ready"

  waits        = local.waits
  triggers     = sha256(jsonencode(local.objects))
  kubeconfig   = var.kubeconfig
  kube_context = var.kube_context
  timeout_s    = var.timeout_s
  hint         = "kubectl get pods -A shows what does not start: images, volumes or memory that cannot be had are the usual causes."

  depends_on = [kubectl_manifest.object]
}
