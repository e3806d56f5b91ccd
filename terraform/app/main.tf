# kn-chat itself: the objects of one kustomize overlay, applied wave by wave in the order of their
# annotation kn-chat.dev/wave, and taken away in the reverse. The same manifests as `kn chat
# deploy`; this file knows no object but by its kind.

data "kubectl_kustomize_documents" "overlay" {
  target = var.overlay

  lifecycle {
    postcondition {
      condition     = length(self.documents) > 0
      error_message = "The overlay renders no object."
    }
    postcondition {
      condition = alltrue([for text in self.documents :
        contains(["1", "2", "3", "4", "5"], try(yamldecode(text).metadata.annotations["kn-chat.dev/wave"], ""))
      ])
      error_message = "Each object needs the annotation kn-chat.dev/wave, a string from \"1\" to \"5\", which says when it may be applied. Without one: ${join(", ", [for text in self.documents : "${yamldecode(text).kind} ${yamldecode(text).metadata.name}" if !contains(["1", "2", "3", "4", "5"], try(yamldecode(text).metadata.annotations["kn-chat.dev/wave"], ""))])}."
    }
    postcondition {
      condition     = !anytrue([for text in self.documents : yamldecode(text).kind == "Secret"])
      error_message = "The overlay holds a Secret: its content would stand in the state file and in your repository. Make it with kubectl, as docs/operations/secrets.md shows, and refer to it by its name."
    }
    postcondition {
      condition     = !can(regex("(?m)^\\s*-?\\s*image: [\"']?\\S+?(:latest|/[^:@\\s\"']+)[\"']?\\s*$", join("\n", self.documents)))
      error_message = "An image has no version or is :latest, so what runs would change without a plan. Set `newTag` under `images:` in the overlay."
    }
  }
}

locals {
  decoded = [for text in data.kubectl_kustomize_documents.overlay.documents : { text = text, object = yamldecode(text) }]

  # Wave 1 has three steps: namespaces, since all the rest stands in them; settings; the rest of it.
  documents = {
    for document in local.decoded :
    join(" ", compact([document.object.kind, try(document.object.metadata.namespace, ""), document.object.metadata.name])) => merge(document, {
      wave = lookup({ Namespace = "0", ConfigMap = "settings" }, document.object.kind, document.object.metadata.annotations["kn-chat.dev/wave"])
    })
  }

  waves = { for wave in ["0", "settings", "1", "2", "3", "4", "5"] : wave => {
    for key, document in local.documents : key => document.text if document.wave == wave
  } }

  # What an object must be before the next wave. Kinds that are not here are done when they are
  # applied.
  conditions = {
    "kafka.strimzi.io/KafkaTopic"     = "condition=Ready"
    "eventing.knative.dev/KafkaSink"  = "condition=Ready"
    "sources.knative.dev/SinkBinding" = "condition=SinkProvided" # Ready needs its subject, which is in the next wave
    "batch/Job"                       = "condition=Complete"
    "serving.knative.dev/Service"     = "condition=Ready"
    "apps/StatefulSet"                = "rollout"
    "sources.knative.dev/KafkaSource" = "condition=Ready"

    "gateway.networking.k8s.io/Gateway"   = "condition=Programmed"
    "gateway.networking.k8s.io/HTTPRoute" = "jsonpath={.status.parents[0].conditions[?(@.type==\"Accepted\")].status}=True"
  }

  awaited = {
    for key, document in local.documents : key => {
      wave      = document.wave
      kind      = document.object.kind
      condition = lookup(local.conditions, "${split("/", document.object.apiVersion)[0]}/${document.object.kind}", null)
      # KIND.VERSION.GROUP/NAME, as kubectl takes it: Service alone would be the core one.
      rest = join(" ", [
        try(document.object.metadata.namespace, "-"),
        "${lower(document.object.kind)}.${try(split("/", document.object.apiVersion)[1], "")}.${split("/", document.object.apiVersion)[0]}/${document.object.metadata.name}",
      ])
    }
  }

  waits = { for wave in keys(local.waves) : wave => [
    for object in values(local.awaited) : "${object.condition} ${object.rest}" if object.wave == wave && object.condition != null
  ] }

  # When all is there: the bindings have found their subjects.
  bound = [for object in values(local.awaited) : "condition=Ready ${object.rest}" if object.kind == "SinkBinding"]

  cluster = { kubeconfig = var.kubeconfig, kube_context = var.kube_context, timeout_s = var.timeout_s }
}

module "namespaces" {
  source = "./wave"

  documents = local.waves["0"]
  waits     = [for secret in local.secrets : "create ${local.namespace} secret/${secret}"]
  cluster   = merge(local.cluster, { timeout_s = 5 })
  hint      = "Make the Secrets ${join(", ", local.secrets)} in namespace ${local.namespace} first: docs/operations/secrets.md has the commands. Then apply again; nothing but the namespace was made."
}

# A ConfigMap's name ends in a hash of its content. The old one stays until nothing reads it any
# more: functions that wake up and gateways that start again while the waves are under way still do.
# That is what create_before_destroy gives, and why these stand apart: it would spread to the Job,
# which cannot be made a second time under its name.
resource "kubectl_manifest" "settings" {
  for_each = local.waves["settings"]

  yaml_body         = each.value
  server_side_apply = true
  wait              = true

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [module.namespaces]
}

module "topics_and_policies" {
  source = "./wave"

  documents = local.waves["1"]
  waits     = local.waits["1"]
  cluster   = local.cluster
  hint      = "A KafkaTopic that is not Ready: is its label strimzi.io/cluster the name of a Kafka in the same namespace, and does that have as many brokers as the topic has replicas?"

  depends_on = [kubectl_manifest.settings]
}

module "sinks" {
  source = "./wave"

  documents = local.waves["2"]
  waits     = local.waits["2"]
  cluster   = local.cluster
  hint      = "A KafkaSink that is not Ready: does deployment/kafka-sink-receiver in knative-eventing run (the Knative operator does not bundle it), and do its Secret's keys fit its listener?"

  depends_on = [module.topics_and_policies]
}

module "bindings_and_migration" {
  source = "./wave"

  documents = local.waves["3"]
  waits     = local.waits["3"]
  cluster   = local.cluster
  hint      = "kubectl -n ${local.namespace} logs job/migrate says which store could not be migrated."

  depends_on = [module.sinks]
}

module "functions_and_gateways" {
  source = "./wave"

  documents = local.waves["4"]
  waits     = local.waits["4"]
  cluster   = local.cluster
  hint      = "kubectl -n ${local.namespace} get pods, and logs of one that is not ready: its /readyz names what it misses."

  depends_on = [module.bindings_and_migration]
}

module "sources" {
  source = "./wave"

  documents = local.waves["5"]
  waits     = concat(local.waits["5"], local.bound)
  cluster   = local.cluster
  hint      = "A KafkaSource is Ready after its topic, its function and the KafkaSink dead-letters are. kn chat doctor looks further."

  depends_on = [module.functions_and_gateways]
}

locals {
  # Where the functions are, and the Secrets that they need. kn-chat-tls is not among them:
  # cert-manager makes it.
  namespace = coalesce(one(distinct([for document in local.decoded : document.object.metadata.namespace if document.object.kind == "StatefulSet"])), "chat")
  secrets   = sort(distinct(regexall("\\bkn-chat-(?:keys|stores|kafka(?:-functions|-gateway)?)\\b", join("\n", data.kubectl_kustomize_documents.overlay.documents))))
}
