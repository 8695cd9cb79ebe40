package netrunner_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/netrunner-go/netrunner"
)

// Chains of processes, each of which lives only until it has forked the next:
// whoever kills them one by one is always late. In a PID namespace, so that a
// failure of this test is not the end of the machine.
func TestATreeThatForksWhileItIsKilledLoses(t *testing.T) {
	box := newBox(t)
	for _, chains := range []struct{ name, number, setsid string }{
		{"in one group", "60", "0"},
		{"in a new session at each link", "8", "1"},
	} {
		t.Run(chains.name, func(t *testing.T) {
			cmd := exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
				box.dir+"/test", chains.number, chains.setsid)
			cmd.Env = append(os.Environ(), helperVariable+"=fork-chains")
			out, err := cmd.Output()
			t.Logf("%s", out)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func init() {
	helperPrograms["fork-chains"] = func(args []string) {
		const script = `
for i in $(seq $0); do
	perl -e 'while (1) { exit if fork; syscall(112) if $ARGV[0] }' $1 & # 112 is setsid
done
echo ready; wait; sleep 1000`
		cmd := netrunner.Command("sh", "-c", script, args[0], args[1])
		cmd.Stdout = netrunner.Pipe
		p, err := cmd.Start(context.Background())
		if err != nil {
			panic(err)
		}
		if _, err := io.ReadFull(p.Stdout(), make([]byte, len("ready\n"))); err != nil {
			panic(err)
		}
		begin := time.Now()
		_ = p.Kill()
		select {
		case <-p.Done():
		case <-time.After(patience):
			fmt.Println("it is still there after", patience)
			os.Exit(1) // and with PID 1 everything
		}
		state, _ := p.Wait()
		fmt.Printf("%s chains are gone after %v, %d were killed", args[0], time.Since(begin).Round(time.Millisecond), state.Stats().Killed)
	}
}
