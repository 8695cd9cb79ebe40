package shepherd

import "testing"

// What a look costs is a part of each start.
func BenchmarkLook(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := takeLook(); err != nil {
			b.Fatal(err)
		}
	}
}
