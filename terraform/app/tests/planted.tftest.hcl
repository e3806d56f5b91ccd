# What an overlay may hold: planted objects, a mocked provider, plans only.

mock_provider "kubectl" {
  mock_data "kubectl_kustomize_documents" {
    defaults = {
      documents = ["apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: kn-chat\n  namespace: chat\n  annotations: {kn-chat.dev/wave: \"1\"}\n"]
    }
  }
}

variables {
  overlay    = "tests/overlay" # a folder that there is; the documents below take its place
  kubeconfig = "versions.tf"   # any file that is there: a plan does not read it
}

run "a_version_and_a_wave_each" {
  command = plan

  override_data {
    target = data.kubectl_kustomize_documents.overlay
    values = {
      documents = [
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: chat\n  annotations: {kn-chat.dev/wave: \"1\"}\n",
        "apiVersion: kafka.strimzi.io/v1\nkind: KafkaTopic\nmetadata:\n  name: chat-commands\n  namespace: kafka\n  annotations: {kn-chat.dev/wave: \"1\"}\n",
        "apiVersion: eventing.knative.dev/v1alpha1\nkind: KafkaSink\nmetadata:\n  name: commands\n  namespace: chat\n  annotations: {kn-chat.dev/wave: \"2\"}\n",
        "apiVersion: sources.knative.dev/v1\nkind: SinkBinding\nmetadata:\n  name: gateway\n  namespace: chat\n  annotations: {kn-chat.dev/wave: \"3\"}\n",
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: migrate\n  namespace: chat\n  annotations: {kn-chat.dev/wave: \"3\"}\nspec:\n  template:\n    spec:\n      containers:\n      - image: ghcr.io/kn-chat/functions:1.2.3\n        name: migrate\n",
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: send\n  namespace: chat\n  annotations: {kn-chat.dev/wave: \"4\"}\n",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: gateway\n  namespace: chat\n  annotations: {kn-chat.dev/wave: \"4\"}\n",
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: gateway\n  namespace: chat\n  annotations: {kn-chat.dev/wave: \"4\"}\n",
        "apiVersion: sources.knative.dev/v1\nkind: KafkaSource\nmetadata:\n  name: send\n  namespace: chat\n  annotations: {kn-chat.dev/wave: \"5\"}\n",
      ]
    }
  }

  assert {
    condition = jsonencode(output.waits) == jsonencode({
      "0"        = []
      "settings" = []
      "1"        = ["condition=Ready kafka kafkatopic.v1.kafka.strimzi.io/chat-commands"]
      "2"        = ["condition=Ready chat kafkasink.v1alpha1.eventing.knative.dev/commands"]
      "3"        = ["condition=Complete chat job.v1.batch/migrate", "condition=SinkProvided chat sinkbinding.v1.sources.knative.dev/gateway"]
      "4"        = ["condition=Ready chat service.v1.serving.knative.dev/send", "rollout chat statefulset.v1.apps/gateway"]
      "5"        = ["condition=Ready chat kafkasource.v1.sources.knative.dev/send"]
    })
    error_message = "Each wave waits for other things: ${jsonencode(output.waits)}"
  }

  assert {
    condition     = output.waves["0"] == ["Namespace chat"]
    error_message = "The namespace comes before what stands in it."
  }

  assert {
    condition     = jsonencode(output.images) == jsonencode(["ghcr.io/kn-chat/functions:1.2.3"])
    error_message = "Images: ${jsonencode(output.images)}"
  }
}

# Planted mistakes.

run "nothing_in_it" {
  command = plan
  override_data {
    target = data.kubectl_kustomize_documents.overlay
    values = { documents = [] }
  }
  expect_failures = [data.kubectl_kustomize_documents.overlay]
}

run "an_object_without_a_wave" {
  command = plan
  override_data {
    target = data.kubectl_kustomize_documents.overlay
    values = { documents = ["apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: kn-chat\n  namespace: chat\n"] }
  }
  expect_failures = [data.kubectl_kustomize_documents.overlay]
}

run "a_wave_that_there_is_not" {
  command = plan
  override_data {
    target = data.kubectl_kustomize_documents.overlay
    values = { documents = ["apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: kn-chat\n  namespace: chat\n  annotations: {kn-chat.dev/wave: \"6\"}\n"] }
  }
  expect_failures = [data.kubectl_kustomize_documents.overlay]
}

run "a_secret_in_the_tree" {
  command = plan
  override_data {
    target = data.kubectl_kustomize_documents.overlay
    values = { documents = ["apiVersion: v1\nkind: Secret\nmetadata:\n  name: kn-chat-keys\n  namespace: chat\n  annotations: {kn-chat.dev/wave: \"1\"}\n"] }
  }
  expect_failures = [data.kubectl_kustomize_documents.overlay]
}

run "an_image_called_latest" {
  command = plan
  override_data {
    target = data.kubectl_kustomize_documents.overlay
    values = { documents = ["apiVersion: v1\nkind: Pod\nmetadata:\n  name: one\n  namespace: chat\n  annotations: {kn-chat.dev/wave: \"4\"}\nspec:\n  containers:\n  - image: ghcr.io/kn-chat/functions:latest\n"] }
  }
  expect_failures = [data.kubectl_kustomize_documents.overlay]
}

run "an_image_without_a_version" {
  command = plan
  override_data {
    target = data.kubectl_kustomize_documents.overlay
    values = { documents = ["apiVersion: v1\nkind: Pod\nmetadata:\n  name: one\n  namespace: chat\n  annotations: {kn-chat.dev/wave: \"4\"}\nspec:\n  containers:\n  - name: one\n    image: ghcr.io/kn-chat/functions\n"] }
  }
  expect_failures = [data.kubectl_kustomize_documents.overlay]
}

run "no_overlay" {
  command = plan
  variables {
    overlay = "tests"
  }
  expect_failures = [var.overlay]
}

run "no_kubeconfig" {
  command = plan
  variables {
    kubeconfig = "/nowhere/kubeconfig"
  }
  expect_failures = [var.kubeconfig]
}

run "no_time_at_all" {
  command = plan
  variables {
    timeout_s = 1
  }
  expect_failures = [var.timeout_s]
}
