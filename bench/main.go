// Command bench measures netrunner beside os/exec, or bare C, in one run, and prints the
// table of docs/benchmarks.md. Figures are ratios: absolute ones say more about
// the machine.
//
//	go run . [-time 5s] [-run regexp] [-plot clean-up.svg]
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"regexp"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// measurement is one row of the table.
type measurement struct {
	name    string
	bar     string
	measure func(ctx context.Context, length time.Duration) (result, error)
}

type result struct {
	netrunner, other string // what was measured; other is empty where there is nothing to compare with
	value            string // what the bar is for
	met              bool
}

var measurements = []measurement{
	{"run /bin/true, one after the other, p50", "≤ 1.10 × os/exec", oneAfterTheOther},
	{"run /bin/true from 8 goroutines, commands/s", "≥ 1.05 × os/exec", eightAtOnce},
	{"first command of a process", "≤ 3 × os/exec", firstCommand},
	{"package exec: hostname, p50", "≤ 1.10 × os/exec", dropIn(hostnameDropIn, hostnameExec)},
	{"package exec: hostname with a context, p50", "≤ 1.10 × os/exec", dropIn(contextDropIn, contextExec)},
	{"terminal: run /bin/true, p50", "≤ 1.10 × creack/pty", terminalStart},
	{"terminal: output", "≥ 1.0 × creack/pty", terminalOutput},
	{"private memory of a shepherd while its command runs", "≤ 32 kB", shepherdMemory},
	{"owner's heap and goroutines a running command", "≤ 16 kB, ≤ 2", ownerMemory},
	{"1 000 commands at once: threads of the owner", "≤ 40", thousandAtOnce},
	{"read blocks of 1 MiB with a buffer of 32 KiB", "≥ 1.0 × os/exec", reading(32 << 10)},
	{"read blocks of 1 MiB with a buffer of 256 KiB", "≥ 1.0 × os/exec", reading(256 << 10)},
	{"read blocks of 1 MiB with a buffer of 1 MiB", "≥ 1.0 × os/exec", reading(1 << 20)},
	{"output to a file", "≥ 1.5 × copying", sized(toFile, 0)},
	{"output to a socket", "≥ 1.5 × copying", sized(toSocket, 0)},
	{"output to a file, PipeSize of 1 MiB", "≥ 1.5 × copying", sized(toFile, 1<<20)},
	{"output to a socket, PipeSize of 1 MiB", "≥ 1.5 × copying", sized(toSocket, 1<<20)},
	{"lines of a log of 1 GiB", "≥ 1.0 × bufio.Scanner on os/exec", logLines},
	{"1 000 commands streaming: threads, memory and goroutines a command", "≤ 40, ≤ 16 kB, ≤ 2", thousandStreaming},
	{"killed owner, tree of 1 process gone", "≤ 1.3 × bare C", cleanUp(1)},
	{"killed owner, tree of 10 processes gone", "≤ 1.3 × bare C", cleanUp(10)},
	{"killed owner, tree of 100 processes gone", "≤ 1.3 × bare C", cleanUp(100)},
	{"killed owner, tree of 1 000 processes gone", "≤ 1.3 × bare C", cleanUp(1000)},
}

func main() {
	log.SetFlags(0)
	if len(os.Args) == 3 && os.Args[1] == firstFlag {
		first(os.Args[2])
		return
	}
	if len(os.Args) > 2 && os.Args[1] == ownerFlag {
		log.Fatal(own(os.Args[2:]))
	}
	length := flag.Duration("time", 5*time.Second, "how long to measure each of the two sides")
	only := flag.String("run", "", "measure only what matches")
	plot := flag.String("plot", "", "draw the times of cleaning up into this SVG `file`")
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, %d CPUs, Linux %s, %s each\n\n", runtime.Version(), runtime.NumCPU(), kernel(), *length)
	fmt.Print("| what | bar | netrunner | beside it | result |\n|---|---|---|---|---|\n")
	missed := false
	for _, m := range measurements {
		if !pattern.MatchString(m.name) {
			continue
		}
		r, err := m.measure(context.Background(), *length)
		if err != nil {
			log.Fatalf("%s: %v", m.name, err)
		}
		verdict := "met"
		if !r.met {
			verdict, missed = "**missed**", true
		}
		fmt.Printf("| %s | %s | %s | %s | %s, %s |\n", m.name, m.bar, r.netrunner, r.other, r.value, verdict)
	}
	if *plot != "" {
		if err := plotCleanUps(*plot, cleanedUps); err != nil {
			log.Fatal(err)
		}
	}
	if missed {
		os.Exit(1)
	}
}

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}
