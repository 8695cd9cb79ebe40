package expect

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// Send types a text as it is. Like Press and SendLine it waits as long as the
// program has no room for more of it, which Close ends, and what is sent by one
// call comes in one piece.
func (s *Session) Send(text string) error { return s.send([]byte(text)) }

// SendLine types a text and presses Enter.
func (s *Session) SendLine(text string) error { return s.Send(text + string(Enter)) }

// Press presses keys one after the other. Cursor keys send what the program has
// asked for so far.
func (s *Session) Press(keys ...Key) error {
	s.mu.Lock()
	application := s.emulator.applicationCursor
	s.mu.Unlock()
	var text strings.Builder
	for _, key := range keys {
		text.WriteString(key.in(application))
	}
	return s.Send(text.String())
}

func (s *Session) send(b []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return fmt.Errorf("send: %w", os.ErrClosed)
	}
	if len(b) == 0 {
		return nil
	}
	if _, err := s.terminal.Write(b); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// takeReplies takes what the emulator has to say to the program. It must not wait
// for the program: the emulator waits for it, and then nobody would read what the
// program writes, for which the program may be waiting in turn.
func (s *Session) takeReplies() {
	defer close(s.replies)
	buffer := make([]byte, 4<<10)
	for {
		n, err := s.emulator.Read(buffer)
		if n > 0 {
			select {
			case s.replies <- bytes.Clone(buffer[:n]):
			default:
			}
		}
		if err != nil {
			return
		}
	}
}

func (s *Session) sendReplies() {
	for reply := range s.replies {
		_ = s.send(reply) // a program that is gone does not miss it
	}
}
