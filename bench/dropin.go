package main

import (
	"context"
	osexec "os/exec"
	"time"

	"github.com/netrunner-go/netrunner/exec"
)

// As the standard library's BenchmarkExecHostname, by either package.
func hostnameDropIn(context.Context) error { return exec.Command("hostname").Run() }
func hostnameExec(context.Context) error   { return osexec.Command("hostname").Run() }

// The same with a context that can end, so that Start is waited for.
func contextDropIn(ctx context.Context) error { return exec.CommandContext(ctx, "hostname").Run() }

func contextExec(ctx context.Context) error { return osexec.CommandContext(ctx, "hostname").Run() }

// dropIn compares the median time of one run.
func dropIn(ours, theirs func(context.Context) error) func(context.Context, time.Duration) (result, error) {
	return func(ctx context.Context, length time.Duration) (result, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		return byTurns(ctx, length, ours, theirs, 1.10)
	}
}
