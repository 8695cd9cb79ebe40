package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// reapsNobody is a first process that waits for its own children alone, as many in
// containers do. It prints which zombies it has in the end.
const reapsNobody = `
for my $i (1..5) {
	for my $run ([qw(run -- true)], [qw(run -- false)], [qw(run --timeout 50ms --grace 10ms -- sleep 1000)], [qw(run -- sh -c), "setsid sleep 1000 & exit 3"],
			[qw(run --max-output 10 -- yes)], [qw(run -- /nonexistent)], [qw(run --log -- echo x)]) {
		my $pid = fork() // die;
		if (!$pid) { open(STDOUT, ">", "/dev/null"); open(STDERR, ">", "/dev/null"); exec("netrunner", @$run); die }
		waitpid($pid, 0);
	}
}
for my $stat (glob("/proc/[0-9]*/stat")) {
	open(my $h, "<", $stat) or next;
	my $line = <$h> // next;
	print $line if $line =~ /\) Z /;
}
print "done\n";`

func TestNoZombieUnderAFirstProcessThatReapsNobody(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make a PID namespace here")
	}
	out, err := command(t, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "perl", "-e", reapsNobody).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if zombies, ok := strings.CutSuffix(string(out), "done\n"); !ok || zombies != "" {
		t.Errorf("there are %d zombies:\n%s", bytes.Count(out, []byte(" Z ")), out)
	}
}
