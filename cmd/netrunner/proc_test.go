package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/netrunner-go/netrunner/internal/proctest"
)

// program finds a process by the base name of its program.
func program(among []proctest.Process, name string) (p proctest.Process, ok bool) {
	for _, p := range among {
		if len(p.Args) > 0 && filepath.Base(p.Args[0]) == name {
			return p, true
		}
	}
	return proctest.Process{}, false
}

// watch returns what waits until all of them are dead, and fails the test when
// one is not in time. Call it while they live.
func watch(t *testing.T, all []proctest.Process) (await func(within time.Duration)) {
	t.Helper()
	deaths := make([]func(time.Duration) bool, len(all))
	for i, p := range all {
		deaths[i] = proctest.Watch(t, p.PID)
	}
	return func(within time.Duration) {
		t.Helper()
		deadline := time.Now().Add(within)
		for i, death := range deaths {
			if !death(time.Until(deadline)) {
				t.Errorf("still alive after %v: %v", within, all[i])
			}
		}
	}
}

// eventually ends the test when what gives no event does not come.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	if !proctest.Eventually(t, what, happened) {
		t.FailNow()
	}
}
