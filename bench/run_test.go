package main

import (
	"context"
	"log"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

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

// Trees of 1 000 processes are left to the program: making one takes too long
// for a hundred of them.
func BenchmarkCleanUp(b *testing.B) {
	if _, err := exec.LookPath("cc"); err != nil {
		b.Skip(err)
	}
	k, err := newKiller(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := k.close(); err != nil {
			b.Error(err)
		}
	}()
	for _, processes := range []int{1, 10, 100} {
		for _, side := range []struct {
			name string
			kill func(context.Context, int) (time.Duration, error)
		}{{"netrunner", k.killOwner}, {"bare-c", k.killGroup}} {
			b.Run(side.name+"-"+strconv.Itoa(processes), func(b *testing.B) {
				var total time.Duration // without making the tree
				for b.Loop() {
					took, err := side.kill(b.Context(), processes)
					if err != nil {
						b.Fatal(err)
					}
					total += took
				}
				b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "kill-ns/op")
			})
		}
	}
}

// In a test binary, this is the owner.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == ownerFlag {
		log.Fatal(own(os.Args[2:]))
	}
	os.Exit(m.Run())
}
