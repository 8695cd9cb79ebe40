package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/netrunner-go/netrunner"
)

// signals are those that netrunner passes on.
type signals struct {
	caught chan os.Signal
	first  atomic.Int32 // its number, once there was one
}

// catchSignals begins to catch them, for relay to pass on.
//
// A command in the foreground is in netrunner's own process group, and gets
// Ctrl-C and Ctrl-\ from the terminal. It decides what they mean, so netrunner
// ignores them. Ctrl-Z stops both, since nothing is said of it here.
func catchSignals(foreground bool) *signals {
	stopping := []os.Signal{syscall.SIGTERM, syscall.SIGHUP}
	if foreground {
		signal.Ignore(syscall.SIGINT, syscall.SIGQUIT)
	} else {
		stopping = append(stopping, syscall.SIGINT, syscall.SIGQUIT)
	}
	s := &signals{caught: make(chan os.Signal, len(stopping))}
	for _, number := range stopping {
		// nohup(1), and the shell for its background jobs, have them ignored for a reason.
		if !signal.Ignored(number) {
			signal.Notify(s.caught, number)
		}
	}
	return s
}

// relay stops the process at the first signal, and kills it at the second. What
// came before the process was there has waited.
func (s *signals) relay(process *netrunner.Process) {
	go func() {
		first, _ := (<-s.caught).(syscall.Signal)
		s.first.Store(int32(first))
		go process.Stop(context.Background()) //nolint:errcheck // it is over when Wait says so
		<-s.caught
		_ = process.Kill() // it may have ended
	}()
}

// reason says which signal has stopped the process; empty without one.
func (s *signals) reason() string {
	if first := s.first.Load(); first != 0 {
		return "got " + signalName(syscall.Signal(first))
	}
	return ""
}

// ignoreBrokenPipe keeps netrunner alive, to wait for its command, when nobody
// reads its output any more. The command has the signal's default all the same.
func ignoreBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }
