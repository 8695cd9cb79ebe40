package netrunner_test

import (
	"context"
	"testing"
	"time"

	"github.com/netrunner-go/netrunner"
)

// Giving up costs each that waits the same, however many they are: four times as
// many take some four times as long, where they once took sixteen times.
func TestAQueueThatGivesUpIsLinear(t *testing.T) {
	leaveNothing(t)
	givingUp := func(jobs int) time.Duration {
		group := &netrunner.Group{Limit: 1}
		mark := marker()
		group.Go(t.Context(), endless(mark))
		ctx, cancel := context.WithCancel(t.Context())
		for range jobs {
			group.Go(ctx, netrunner.Command("true"))
		}
		begin := time.Now()
		cancel()
		for group.Stats().Waiting > 0 {
			time.Sleep(time.Millisecond)
		}
		took := time.Since(begin)
		check(t, group.Close())
		return took
	}
	var few, many time.Duration
	for range 5 { // the machine may be busy with something else at times
		few, many = givingUp(8_000), givingUp(32_000)
		if many < 8*few {
			return
		}
	}
	t.Errorf("8 000 jobs gave up within %v, 32 000 within %v", few, many)
}
