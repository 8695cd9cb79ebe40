package netrunner

import (
	"testing"
	"time"
)

// ShortenCopyPatience is for tests with a Writer that does not return.
func ShortenCopyPatience(t *testing.T, d time.Duration) {
	before := copyPatience.Swap(int64(d))
	t.Cleanup(func() { copyPatience.Store(before) })
}
