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
// disregards them. Ctrl-Z stops both, since nothing is said of it here.
func catchSignals(foreground bool) *signals {
	stopping := []os.Signal{syscall.SIGTERM, syscall.SIGHUP}
	if foreground {
		disregard(syscall.SIGINT, syscall.SIGQUIT)
	} else {
		stopping = append(stopping, syscall.SIGINT, syscall.SIGQUIT)
	}
	s := &signals{caught: make(chan os.Signal, len(stopping))}
	catch(s.caught, stopping...)
	return s
}

// catch begins to catch signals, but for those that are ignored: nohup(1), and the
// shell for its background jobs, have them so for a reason. Go's runtime leaves only
// SIGHUP and SIGINT as they were (os/signal, "Default behavior of signals").
func catch(caught chan<- os.Signal, numbers ...os.Signal) {
	for _, number := range numbers {
		if !signal.Ignored(number) {
			signal.Notify(caught, number)
		}
	}
}

// disregard makes signals do nothing. They are caught, and not ignored: what is
// ignored a child inherits (man 7 signal), and the command is to have its own.
func disregard(numbers ...os.Signal) { catch(make(chan os.Signal), numbers...) }

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
// reads its output any more.
func ignoreBrokenPipe() { disregard(syscall.SIGPIPE) }
