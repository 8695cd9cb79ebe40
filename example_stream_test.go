package netrunner_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/netrunner-go/netrunner"
)

func ExampleCmd_Lines() {
	cmd := netrunner.Command("sh", "-c", "echo one; echo two; exit 3")
	for line, err := range cmd.Lines(context.Background()) {
		if err != nil {
			fmt.Println("error:", err)
			break
		}
		fmt.Printf("%s\n", line)
	}
	// Output:
	// one
	// two
	// error: "sh": exit status 3
}

// The loop is left at the first match. That ends the command, which would
// otherwise go on for ever, and all that it has started.
func ExampleCmd_Lines_leave() {
	for line, err := range netrunner.Command("seq", "1000000000000").Lines(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		if bytes.HasSuffix(line, []byte("77")) {
			fmt.Printf("found %s\n", line)
			break
		}
	}
	// Output: found 77
}

func ExampleCmd_Chunks() {
	total := 0
	for chunk, err := range netrunner.Command("head", "-c", "3000000", "/dev/zero").Chunks(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		total += len(chunk)
	}
	fmt.Println(total, "bytes, and never more than 64 KiB of them at once")
	// Output: 3000000 bytes, and never more than 64 KiB of them at once
}

func ExampleCmd_OutputLines() {
	cmd := netrunner.Command("sh", "-c", "echo progress >&2; sleep 0.1; echo result")
	for output, err := range cmd.OutputLines(context.Background(), netrunner.Stdout|netrunner.Stderr) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%v: %s\n", output.From, output.Data)
	}
	// Output:
	// stderr: progress
	// stdout: result
}

func ExampleInput() {
	cmd := netrunner.Command("sort", "-n")
	cmd.Stdin = netrunner.Input(func(yield func([]byte) bool) {
		for _, n := range []int{30, 4, 100} {
			if !yield(fmt.Appendln(nil, n)) {
				return
			}
		}
	})
	out, err := cmd.Output(context.Background())
	fmt.Printf("%s%v\n", out, err)
	// Output:
	// 4
	// 30
	// 100
	// <nil>
}

// The kernel moves the data from the command's pipe to the connection. None of
// it passes through this process, and it is counted all the same.
func ExamplePipeReader_WriteTo() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		cmd := netrunner.Command("seq", "100000")
		cmd.Stdout = netrunner.Pipe
		p, err := cmd.Start(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		if _, err := io.Copy(conn, p.Stdout()); err != nil {
			log.Fatal(err)
		}
		state, err := p.Wait()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(state.Stats().BytesOut, "bytes sent")
		_ = conn.Close()
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	n, err := io.Copy(io.Discard, conn)
	fmt.Println(n, "bytes received", err)
	_, _ = conn.Close(), listener.Close()
	// Output:
	// 588895 bytes sent
	// 588895 bytes received <nil>
}
