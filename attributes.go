package netrunner

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/shepherd"
)

// unsupportedError is errors.ErrUnsupported with its reason.
type unsupportedError struct{ reason string }

func (e unsupportedError) Error() string { return "not supported: " + e.reason }
func (e unsupportedError) Unwrap() error { return errors.ErrUnsupported }

var (
	errCttyForeground = errors.New("and Foreground exclude each other")
	errSessionGroup   = fmt.Errorf("%w: the leader of a session can't change its group", syscall.EPERM)
	errNoCtty         = errors.New("is no descriptor of the command's")
	errNoTTY          = errors.New("is no descriptor")
	errOwnTerminal    = errors.New("contradicts Terminal, which comes with a session of its own")
	errOwnGroup       = errors.New("contradicts SysProcAttr, which takes the command out of the owner's process group")
)

// checkAttributes refuses what a shepherd can't do for its command.
func (c *Cmd) checkAttributes(refuse func(subject string, err error) error) error {
	sys := c.SysProcAttr
	if c.Terminal != nil && c.Foreground {
		return refuse("Foreground", errOwnTerminal)
	}
	if sys == nil {
		return nil
	}
	namespaces := unsupportedError{"a command has the namespaces that its owner had"}
	for _, field := range []struct {
		name string
		set  bool
		err  error
	}{
		{"Ptrace", sys.Ptrace, unsupportedError{"the command's parent is its shepherd, and only a parent can trace like this"}},
		{"Cloneflags", sys.Cloneflags != 0, namespaces},
		{"Unshareflags", sys.Unshareflags != 0, namespaces},
		{"UidMappings", sys.UidMappings != nil, namespaces},
		{"GidMappings", sys.GidMappings != nil, namespaces},
		{"AmbientCaps", len(sys.AmbientCaps) > 0, unsupportedError{"a command has the capabilities that its owner had"}},
		{"UseCgroupFD", sys.UseCgroupFD, unsupportedError{"a command has the cgroup that its owner had"}},
		{"Pdeathsig", sys.Pdeathsig < 0 || sys.Pdeathsig > maxSignal, errNoSignal},
		{"Setctty", sys.Setctty && sys.Foreground, errCttyForeground},
		{"Ctty", sys.Setctty && (sys.Ctty < 0 || sys.Ctty >= 3+len(c.ExtraFiles)), errNoCtty},
		{"Ctty", sys.Foreground && sys.Ctty < 0, errNoTTY},
		{"Setsid", c.Terminal != nil && sys.Setsid, errOwnTerminal},
		{"Setctty", c.Terminal != nil && sys.Setctty, errOwnTerminal},
		{"Setpgid", c.Terminal != nil && sys.Setpgid, errOwnTerminal},
		{"Noctty", c.Terminal != nil && sys.Noctty, errOwnTerminal},
		{"Foreground", c.Terminal != nil && sys.Foreground, errOwnTerminal},
		{"Setpgid", sys.Setsid && (sys.Setpgid || sys.Foreground), errSessionGroup},
		{"Foreground", sys.Foreground && len(c.ExtraFiles) >= shepherd.MaxDescriptors-3, errTooMany},
	} {
		if field.set {
			return refuse("SysProcAttr."+field.name, field.err)
		}
	}
	if _, err := unix.ByteSliceFromString(sys.Chroot); err != nil {
		return refuse("SysProcAttr.Chroot", errNUL)
	}
	if c.Foreground && (sys.Setsid || sys.Setpgid || sys.Foreground) {
		return refuse("Foreground", errOwnGroup)
	}
	return nil
}

// attributes turns the fields into what a shepherd knows.
func (c *Cmd) attributes() (a shepherd.Attributes) {
	if c.Foreground {
		a.Group = unix.Getpgrp()
	}
	for i, file := range c.ExtraFiles {
		if file == nil {
			a.Closed = append(a.Closed, 3+i)
		}
	}
	a.Session, a.Terminal = c.Terminal != nil, c.Terminal != nil // which is its descriptor 0
	sys := c.SysProcAttr
	if sys == nil {
		return a
	}
	a.Root = sys.Chroot
	a.Credential = sys.Credential
	if c.Terminal != nil {
		return a // no other of these goes with it
	}
	a.Session = sys.Setsid
	if sys.Setpgid || sys.Foreground {
		a.Group = sys.Pgid
	}
	a.Terminal, a.Controlling = sys.Setctty, sys.Ctty
	a.Detach = sys.Noctty
	a.Foreground, a.Foremost = sys.Foreground, sys.Ctty
	return a
}

// deathSignal is what the command gets first when its owner dies; zero when nobody has said.
func (c *Cmd) deathSignal() syscall.Signal {
	if c.SysProcAttr == nil {
		return 0
	}
	return c.SysProcAttr.Pdeathsig
}
