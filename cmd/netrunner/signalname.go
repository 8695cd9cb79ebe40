package main

import (
	"errors"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSignal is the largest signal number of the kernel (man 7 signal).
const maxSignal = 64

var errUnknownSignal = errors.New("no such signal")

// stopSignal is a flag's value: TERM, SIGTERM or 15.
type stopSignal syscall.Signal

// Set parses a signal's name or number.
func (s *stopSignal) Set(text string) error {
	number, err := parseSignal(text)
	if err != nil {
		return err
	}
	*s = stopSignal(number)
	return nil
}

// String returns the name without SIG, as kill -l lists it.
func (s *stopSignal) String() string {
	return strings.TrimPrefix(signalName(syscall.Signal(*s)), "SIG")
}

// Type is what the help calls the value.
func (s *stopSignal) Type() string { return "signal" }

func parseSignal(text string) (syscall.Signal, error) {
	if number, err := strconv.Atoi(text); err == nil {
		if number < 1 || number > maxSignal {
			return 0, errUnknownSignal
		}
		return syscall.Signal(number), nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if number := unix.SignalNum(name); number != 0 {
		return number, nil
	}
	return 0, errUnknownSignal
}

// signalName returns SIGTERM for 15; a real-time signal has only its number.
func signalName(number syscall.Signal) string {
	if name := unix.SignalName(number); name != "" {
		return name
	}
	return strconv.Itoa(int(number))
}

// signalNames lists all signals that have a name.
func signalNames() (names []string) {
	for number := syscall.Signal(1); number <= maxSignal; number++ {
		if name := unix.SignalName(number); name != "" {
			names = append(names, strings.TrimPrefix(name, "SIG"))
		}
	}
	return names
}
