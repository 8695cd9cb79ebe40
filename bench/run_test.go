package main

import "testing"

func BenchmarkTrue(b *testing.B) {
	b.Run("netrunner", func(b *testing.B) {
		for b.Loop() {
			if err := runNetrunner(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("os-exec", func(b *testing.B) {
		for b.Loop() {
			if err := runExec(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
