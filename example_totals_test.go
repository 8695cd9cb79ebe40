package netrunner_test

import (
	"context"
	"encoding/json"
	"expvar"
	"fmt"
	"log"

	"github.com/netrunner-go/netrunner"
)

func init() {
	// From here on http://…/debug/vars has the figures.
	expvar.Publish("netrunner", expvar.Func(func() any { return netrunner.Totals() }))
}

func ExampleTotals() {
	before := netrunner.Totals()
	if err := netrunner.Command("true").Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	var after netrunner.TotalStats
	if err := json.Unmarshal([]byte(expvar.Get("netrunner").String()), &after); err != nil {
		log.Fatal(err)
	}
	fmt.Println("started:", after.Started-before.Started)
	fmt.Println("failed:", after.Failed-before.Failed)
	// Output:
	// started: 1
	// failed: 0
}
