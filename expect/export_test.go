package expect

// Draw returns what becomes of output that comes in pieces. Before each of the
// looked-at pieces somebody looks at the screen.
func Draw(rows, cols, undrawn int, pieces [][]byte, looked func(piece int) bool) (screen *Screen, text string, broken error) {
	out := &output{emulator: newEmulator(rows, cols)}
	if undrawn > 0 {
		out.emulator.most = undrawn
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 4<<10); ; {
			if _, err := out.emulator.Read(b); err != nil {
				return
			}
		}
	}()
	var d decoder
	for i, piece := range pieces {
		if looked(i) {
			out.emulator.draw()
		}
		d.decode(piece, out)
	}
	d.end(out)
	out.unmatched.end()
	screen = out.emulator.snapshot()
	out.emulator.closeReplies()
	<-done
	return screen, string(out.unmatched.bytes), out.emulator.broken
}

// BreakEmulator lets the emulator panic.
func (s *Session) BreakEmulator() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.emulator.safely(func() { panic("told to") })
	s.announce()
}
