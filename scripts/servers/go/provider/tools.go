//go:build tools

// Package tools names the program that is built from this module, so that its checksums are locked.
package tools

import _ "github.com/gavinbunney/terraform-provider-kubectl"
