package expect

import (
	"context"
	"errors"
	"fmt"

	"github.com/netrunner-go/netrunner"
)

var errNotPiped = errors.New("the session has its Stdin and Stdout: leave them nil")

// Start starts a command on a terminal of its own, and drives it. The template is
// left as it is. Its Terminal may say modes, a recording and the size, unless the
// options do; TERM is what the screen is like, unless Terminal.Type says otherwise.
// Stdin and Stdout must be nil.
//
// Close hangs up, and SIGHUP ends the command unless it ignores that. When the
// context ends, the command is stopped. How it ended the Process says.
func Start(ctx context.Context, cmd *netrunner.Cmd, options Options) (*Session, *netrunner.Process, error) {
	if cmd.Stdin != nil || cmd.Stdout != nil {
		return nil, nil, fmt.Errorf("drive %q: %w", cmd.String(), errNotPiped)
	}
	driven := *cmd
	driven.Stdin, driven.Stdout = netrunner.Pipe, netrunner.Pipe
	var terminal netrunner.Terminal
	if cmd.Terminal != nil {
		terminal = *cmd.Terminal
	}
	if terminal.Type == "" {
		terminal.Type = netrunner.DefaultTERM
	}
	if options.Rows == 0 {
		options.Rows = int(terminal.Size.Rows)
	}
	if options.Cols == 0 {
		options.Cols = int(terminal.Size.Cols)
	}
	if err := checkSize(max(options.Rows, 1), max(options.Cols, 1)); err != nil {
		return nil, nil, fmt.Errorf("drive %q: %w", cmd.String(), err)
	}
	terminal.Size.Rows, terminal.Size.Cols = uint16(options.Rows), uint16(options.Cols)
	driven.Terminal = &terminal
	p, err := driven.Start(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := New(processTerminal{p}, options)
	if err != nil {
		_ = p.Kill() // it was not told anything yet
		_, _ = p.Wait()
		return nil, nil, errors.Join(err, p.HangUp())
	}
	return s, p, nil
}

// processTerminal is the terminal of a command.
type processTerminal struct{ process *netrunner.Process }

func (t processTerminal) Read(b []byte) (int, error)  { return t.process.Stdout().Read(b) }
func (t processTerminal) Write(b []byte) (int, error) { return t.process.Stdin().Write(b) }
func (t processTerminal) Close() error                { return t.process.HangUp() }

func (t processTerminal) Resize(rows, cols int) error {
	return t.process.Resize(netrunner.WindowSize{Rows: uint16(rows), Cols: uint16(cols)})
}
