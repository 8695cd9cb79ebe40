package netrunner

import (
	"context"
	"slices"
	"testing"
	"time"
)

// Giving up costs each that waits about the same, however many they are: eight times
// as many take some ten times as long, where they once took sixty-four times.
func TestAQueueThatGivesUpIsLinear(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	givingUp := func(jobs int) time.Duration {
		group := &Group{Limit: 1}
		m := group.open()
		m.taken = 1
		var places []*place
		for range jobs {
			p, err := m.enter(ctx, Command("true"), false)
			if err != nil {
				t.Fatal(err)
			}
			places = append(places, p)
		}
		begin := time.Now()
		for _, p := range slices.Backward(places) {
			if p.wait() == nil {
				t.Fatal("a place that was given up may be started")
			}
		}
		took := time.Since(begin)
		if stats := group.Stats(); stats.Waiting != 0 {
			t.Fatalf("%d still wait", stats.Waiting)
		}
		return took
	}
	var few, many time.Duration
	for range 3 { // the machine may be busy with something else at times
		few, many = givingUp(5_000), givingUp(40_000)
		if many < 24*few {
			return
		}
	}
	t.Errorf("5 000 jobs gave up within %v, 40 000 within %v", few, many)
}
