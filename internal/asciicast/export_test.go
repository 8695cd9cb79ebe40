package asciicast

import "time"

// MaxLine is the length at which an event is ended.
const MaxLine = maxLine

// SetClock replaces the time since the beginning.
func (r *Recorder) SetClock(now func() time.Duration) { r.now = now }
