package guarantees_test

import "fmt"

// tree is something that a command has started when its end comes. The command
// is a shell that runs the script and then waits for its standard input to end.
// In the script $0 is the marker, by which all of it is found, $1 a set-uid
// copy of sleep, and $4 one of setpriv.
type tree struct {
	name, about string
	script      string
	sleepers    int  // processes called sleep that are there when all of it is
	stopped     int  // processes that stand still by then
	forkers     int  // at least so many processes called perl
	setuid      bool // the owner is an ordinary user, and $1 and $4 root's
	terminal    bool // the command has one
}

// forker is a chain of processes, each of which lives only until it has forked
// the next one: what a look has found is gone when the signal comes.
func forker(each string) string {
	return fmt.Sprintf(`perl -e 'use POSIX; $SIG{CHLD} = "IGNORE"; while (1) { if (fork) { POSIX::_exit(0) } %s }' $0 </dev/null >/dev/null 2>&1 & `, each)
}

// forkersOn are chains in one group, whose leader is gone. They end by themselves, after a minute.
const forkersOn = `setsid perl -e 'use POSIX; $end = time + 60; $SIG{CHLD} = "IGNORE";
	for (1 .. 12) { if (!fork) { while (time < $end) { if (fork) { POSIX::_exit(0) } } POSIX::_exit(0) } }' $0 </dev/null >/dev/null 2>&1 & `

var trees = []tree{
	{name: "alone", about: "the command itself, nothing else"},
	{name: "same group", about: "children and grandchildren in its process group", script: `sleep $0 & (sleep $0 & sleep $0) &`, sleepers: 3},
	{name: "ignores", about: "it and its children ignore SIGTERM, and SIGHUP, SIGINT and SIGQUIT too", script: `trap '' TERM HUP INT QUIT; sleep $0 & (sleep $0 & sleep $0) &`, sleepers: 3},
	{name: "new group", about: "a child in a process group of its own", script: `perl -e 'setpgrp; exec "sleep", @ARGV' $0 &`, sleepers: 1},
	{name: "new session", about: "a child in a session of its own, with a child", script: `setsid sh -c 'sleep $0 & exec sleep $0' $0 &`, sleepers: 2},
	{name: "daemon", about: "forked twice, in a session of its own, with closed descriptors and an empty environment", script: `(env -i setsid sh -c 'cd /; exec sleep $0' $0 <&- >&- 2>&- &)`, sleepers: 1},
	{name: "nohup", about: "a child under `nohup`", script: `nohup sleep $0 >/dev/null 2>&1 &`, sleepers: 1},
	{name: "stopped", about: "children that SIGSTOP has stopped, in its group and in a session of their own", script: `sleep $0 & kill -STOP $!; setsid sh -c 'sleep $0 & kill -STOP $! $$' $0 &`, stopped: 3},
	{name: "forks", about: "chains of processes that each live only until they have forked the next: in its group, and in a new session every time", script: forker("") + forker("POSIX::setsid();"), forkers: 2},
	{name: "forks on", about: "chains of processes in one group, in a session of their own, whose leader is gone", script: forkersOn, forkers: 2},
	{name: "holds the pipe", about: "children that keep its standard output open, in its group and in a session of their own", script: `sleep $0 & setsid sleep $0 &`, sleepers: 2},
	{name: "set-uid", about: "a program that runs as another user, whom the kernel's own death signal does not reach", script: `$1 $0 & setsid $1 $0 &`, sleepers: 2, setuid: true},
	{
		name: "below", about: "a program that another user has become, who may not be killed, and below it a process that may; it ends when that has",
		script: fmt.Sprintf(`$4 --reuid=0 sh -c 'setsid setpriv --reuid=%d sleep $0 & wait' $0 &`, ordinary), sleepers: 1, setuid: true,
	},
	{name: "terminal", about: "a command on a terminal, with a job in a process group of its own, a child under `nohup`, and one in a session of its own", script: `set -m; sleep $0 & set +m; nohup sleep $0 >/dev/null 2>&1 & setsid sleep $0 &`, sleepers: 3, terminal: true},
}
