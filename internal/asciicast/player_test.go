package asciicast_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/internal/asciicast"
)

// asciinema itself prints what was recorded.
func TestThePlayerPrintsTheSameBytes(t *testing.T) {
	player := lookForPlayer(t)
	tty := openTerminal(t)
	path := filepath.Join(t.TempDir(), "session.cast")
	file, err := os.Create(path)
	check(t, err)
	defer file.Close()
	r, err := asciicast.New(file, asciicast.Header{
		Width: 100, Height: 30, IdleTimeLimit: 1, Command: "sh", Title: "\"\u2028\x1b\xff",
		Env: map[string]string{"SHELL": "/bin/sh", "TERM": "xterm"},
	})
	check(t, err)
	pieces := []string{
		"$ ls --color\r\n\x1b[01;34mbin\x1b[0m  \x1b[01;32mrun\x1b[0m\r\n",
		"\"quotes\" and \\back\\slashes\\ </script> %s\t\a\b\v\f\x00\x7f",
		"é € 漢字 😀 👩\u200d🚀 \ue0b0 \u0085\u2028\u2029\ufeff\U0010ffff",
		"torn: \xe2", "\x82", "\xac \xf0\x9f", "\x98\x80",
		strings.Repeat("much at once \x1b[7m漢\r\n", 10_000),
	}
	for i, piece := range pieces {
		check(t, r.Output([]byte(piece)))
		check(t, r.Input([]byte("typed")))
		check(t, r.Resize(100+i, 30))
	}
	check(t, r.Output([]byte("not text: \xff\xe2\x82")))
	check(t, r.Close())

	printed, complaints, err := play(t, player, tty, path)
	if err != nil {
		t.Fatalf("%s cat: %v: %s", player, err, complaints)
	}
	if want := strings.Join(pieces, "") + "not text: \ufffd\ufffd\ufffd"; printed != want {
		t.Errorf("printed %d bytes, want %d:\n%+.500q", len(printed), len(want), printed)
	}
}

// A file that was cut off is printed up to its last whole line.
func TestThePlayerPrintsTheWholeLinesOfATornFile(t *testing.T) {
	player := lookForPlayer(t)
	tty := openTerminal(t)
	var file bytes.Buffer
	r, err := asciicast.New(&file, asciicast.Header{})
	check(t, err)
	check(t, r.Output([]byte("whole\r\n")))
	check(t, r.Output([]byte("torn\r\n")))
	check(t, r.Close())
	path := filepath.Join(t.TempDir(), "torn.cast")
	check(t, os.WriteFile(path, file.Bytes()[:file.Len()-3], 0o600))
	if printed, complaints, _ := play(t, player, tty, path); printed != "whole\r\n" {
		t.Errorf("printed %q: %s", printed, complaints)
	}
}

func lookForPlayer(t *testing.T) string {
	t.Helper()
	player, err := exec.LookPath("asciinema")
	if err != nil {
		t.Skip("asciinema is not in the PATH (Debian: apt-get install asciinema)")
	}
	cmd := exec.Command(player, "--version")
	cmd.Env = playerEnv(t)
	version, err := cmd.Output()
	if err != nil || !strings.HasPrefix(string(version), "asciinema 2.") {
		t.Skipf("%s --version: %q, %v: the cat of asciinema 2 is wanted, later ones join recordings", player, version, err)
	}
	return player
}

// openTerminal opens a terminal: the player has to have one, even if it prints elsewhere.
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("cannot open a terminal: %v", err)
	}
	t.Cleanup(func() { check(t, master.Close()) })
	fd := int(master.Fd())
	check(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	check(t, err)
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("cannot open a terminal: %v", err)
	}
	t.Cleanup(func() { check(t, tty.Close()) })
	return tty
}

func play(t *testing.T, player string, tty *os.File, path string) (printed, complaints string, err error) {
	t.Helper()
	cmd := exec.Command(player, "cat", path)
	cmd.Env = playerEnv(t)
	cmd.Stdin = tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	return stdout.String(), stderr.String(), err
}

// playerEnv is for a program that wants a locale of UTF-8, and writes a configuration.
func playerEnv(t *testing.T) []string {
	t.Helper()
	return append(os.Environ(), "LC_ALL=C.UTF-8", "ASCIINEMA_CONFIG_HOME="+t.TempDir())
}
