// Modules that bring resource definitions; nothing is built from them.
module kn-chat/definitions

go 1.24.0

require (
	knative.dev/serving v0.51.0
	sigs.k8s.io/gateway-api v1.4.1
)
