package exec

import (
	"bytes"
	"context"
	"errors"

	"github.com/netrunner-go/netrunner"
)

// Run starts the command and waits for its end, with the errors of Start and Wait.
// Process may be set, and the end of the context may reach the command, as late as
// 30 ms after the start: who only waits is told late, which makes a small command
// cheaper.
func (c *Cmd) Run() error {
	err := c.begin(func(cmd *netrunner.Cmd) error {
		cmd.Observer = &netrunner.Observer{Started: func(_ context.Context, info netrunner.StartedInfo) context.Context {
			c.started(info.Process)
			closeAll(&c.theirs) // or its own copies of pipes would never end
			return nil
		}}
		return cmd.Run(context.Background())
	})
	if c.Process == nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns its standard output. If Stderr is nil, an
// [*ExitError] has what the command wrote to standard error.
func (c *Cmd) Output() ([]byte, error) {
	if c.Stdout != nil {
		return nil, errors.New("exec: Stdout already set")
	}
	var stdout bytes.Buffer
	c.Stdout = &stdout
	c.captures = c.Stderr == nil
	err := c.Run()
	return stdout.Bytes(), err
}

// CombinedOutput runs the command and returns its standard output and error in
// the order in which they were written.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil {
		return nil, errors.New("exec: Stdout already set")
	}
	if c.Stderr != nil {
		return nil, errors.New("exec: Stderr already set")
	}
	var output bytes.Buffer
	c.Stdout, c.Stderr = &output, &output
	err := c.Run()
	return output.Bytes(), err
}
