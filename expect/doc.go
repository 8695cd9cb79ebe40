// Package expect drives programs on a terminal: it types what a user would type,
// and waits for what a user would wait for.
//
//	s, err := expect.New(terminal, expect.Options{Rows: 24, Cols: 80})
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	if err := s.Expect(ctx, "login: "); err != nil {
//		return err // and it shows the screen
//	}
//	if err := s.SendLine("guest"); err != nil {
//		return err
//	}
//	return s.ExpectOnScreen(ctx, "Welcome")
//
// # Two things to wait for
//
// The text is what the program has written since the last match, in its order.
// [Session.Expect], [Session.ExpectRegexp], [Session.ExpectAny] and
// [Session.ExpectEOF] wait for it, and what has been matched is used up. This is
// for programs that write line by line: shells, prompts, logs. In the text there
// are no escape sequences, so that colors do not matter, and "\r\n" is "\n".
// Of the other control characters there are "\t", "\b" and a "\r" by itself. What
// is not UTF-8 is U+FFFD.
//
// The screen is what a user would see now. [Session.ExpectOnScreen] and
// [Session.ExpectScreen] wait for it, and use up nothing. This is for programs
// that draw: editors, pagers, menus. They move the cursor instead of writing
// spaces, and write only what has changed, so that their text makes little sense.
//
// # What happens meanwhile
//
// A goroutine reads whatever the program writes, so that it never waits for a
// reader. Of the text that nothing has matched the last MiB is kept. While
// somebody waits for text, all of it is looked at: the program may then have to
// wait, and a match that is not longer than 256 KiB is never missed.
//
// What the program asks its terminal, like where the cursor is, is answered. The
// screen is that of an xterm-256color: this is what TERM should say.
package expect
