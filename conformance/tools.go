//go:build tools

// Package conformance holds no code: it names what the programs built here are made of, so that `go mod tidy` keeps
// their dependencies. The programs crictl and ginkgo are `tool` lines in go.mod; critest is a test binary, whose
// package can't be a tool, so the packages that it links stand here.
package conformance

import (
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
