package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/netrunner-go/netrunner"
)

// stoppedError is why a command was stopped: netrunner got a signal.
type stoppedError struct{ signal syscall.Signal }

func (e *stoppedError) Error() string { return "got " + signalName(e.signal) }

// signals are those that netrunner passes on.
type signals struct {
	first  context.Context // ends with the first
	caught chan os.Signal
}

// catchSignals returns a context that ends with the first signal, which stops a
// command that was started with it.
//
// A command in the foreground is in netrunner's own process group, and gets
// Ctrl-C and Ctrl-\ from the terminal. It decides what they mean, so netrunner
// ignores them. Ctrl-Z stops both, since nothing is said of it here.
func catchSignals(foreground bool) (context.Context, *signals) {
	stopping := []os.Signal{syscall.SIGTERM}
	if foreground {
		signal.Ignore(syscall.SIGINT, syscall.SIGQUIT)
	} else {
		stopping = append(stopping, syscall.SIGINT, syscall.SIGQUIT)
	}
	stopping = append(stopping, syscall.SIGHUP)
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &signals{first: ctx, caught: make(chan os.Signal, len(stopping))}
	for _, number := range stopping {
		// nohup(1), and the shell for its background jobs, have them ignored for a reason.
		if !signal.Ignored(number) {
			signal.Notify(s.caught, number)
		}
	}
	go func() { cancel(&stoppedError{(<-s.caught).(syscall.Signal)}) }()
	return ctx, s
}

// killOnSecond kills the command at the next signal after the first.
func (s *signals) killOnSecond(process *netrunner.Process) {
	go func() {
		<-s.first.Done()
		<-s.caught
		_ = process.Kill() // it may have ended
	}()
}

// ignoreBrokenPipe keeps netrunner alive, to wait for its command, when nobody
// reads its output any more. The command has the signal's default all the same.
func ignoreBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }
