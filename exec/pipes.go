package exec

import (
	"errors"
	"io"
	"os"
)

// StdinPipe returns a pipe that is the command's standard input when it is
// started. Wait closes it; close it earlier for a command that reads to the end.
func (c *Cmd) StdinPipe() (io.WriteCloser, error) {
	theirs, ours, err := c.pipe("Stdin", c.Stdin != nil)
	if err != nil {
		return nil, err
	}
	c.Stdin = theirs
	return c.keep(theirs, ours), nil
}

// StdoutPipe returns a pipe that is the command's standard output when it is
// started. Wait closes it, so read all of it before you call Wait; do not call Run.
func (c *Cmd) StdoutPipe() (io.ReadCloser, error) {
	ours, theirs, err := c.pipe("Stdout", c.Stdout != nil)
	if err != nil {
		return nil, err
	}
	c.Stdout = theirs
	return c.keep(theirs, ours), nil
}

// StderrPipe is like StdoutPipe for standard error.
func (c *Cmd) StderrPipe() (io.ReadCloser, error) {
	ours, theirs, err := c.pipe("Stderr", c.Stderr != nil)
	if err != nil {
		return nil, err
	}
	c.Stderr = theirs
	return c.keep(theirs, ours), nil
}

// pipe makes a pipe of os, since callers may know that what they get is an *os.File.
func (c *Cmd) pipe(field string, isSet bool) (reader, writer *os.File, err error) {
	if isSet {
		return nil, nil, errors.New("exec: " + field + " already set")
	}
	if c.Process != nil {
		return nil, nil, errors.New("exec: " + field + "Pipe after process started")
	}
	return os.Pipe()
}

func (c *Cmd) keep(theirs, ours *os.File) *os.File {
	c.theirs, c.ours = append(c.theirs, theirs), append(c.ours, ours)
	return ours
}

func closeAll(files *[]io.Closer) {
	for _, file := range *files {
		_ = file.Close() // a pipe has nothing left to say
	}
	*files = nil
}
