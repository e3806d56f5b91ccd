//go:build tools

// Package tools names the programs that are built from this module, so that its checksums are locked.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
)
