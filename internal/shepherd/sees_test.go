package shepherd

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// What a command sees: its descriptors, signals, directory, environment and arguments.

func TestWhatACommandSees(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		// output runs a program and returns what it writes.
		output := func(change func(*Spec), argv ...string) string {
			t.Helper()
			spec := s.spec(argv...)
			r, w, err := os.Pipe()
			must(t, err)
			defer r.Close() //nolint:errcheck // only read
			spec.Descriptors[1] = int(w.Fd())
			if change != nil {
				change(spec)
			}
			s.start(spec)
			must(t, w.Close())
			out, err := io.ReadAll(r)
			must(t, err)
			s.endsWith("0")
			return string(out)
		}

		if got := strings.Fields(output(nil, "ls", "/proc/self/fd")); !slices.Equal(got, []string{"0", "1", "2", "3"}) {
			t.Errorf("its descriptors are %v; 0, 1, 2 were given, 3 is that of ls itself", got)
		}
		more := func(spec *Spec) {
			spec.Descriptors = append(spec.Descriptors, spec.Descriptors[0], spec.Descriptors[2])
		}
		if got := strings.Fields(output(more, "ls", "/proc/self/fd")); len(got) != 6 {
			t.Errorf("its descriptors are %v, and two more were given", got)
		}

		status := output(nil, "cat", "/proc/self/status")
		for _, signals := range []string{"SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"} {
			if !strings.Contains(status, signals+":\t0000000000000000\n") {
				t.Errorf("%s is not empty:\n%s", signals, status)
			}
		}

		signals := uint64(1<<(syscall.SIGHUP-1) | 1<<(syscall.SIGCHLD-1) | 1<<(syscall.SIGTSTP-1))
		if !o.build.emulated { // qemu's user mode keeps the last ones
			signals |= 1 << (64 - 1)
		}
		for field, change := range map[string]func(*Spec){
			"SigIgn": func(spec *Spec) { spec.Attributes.Ignored = signals },
			"SigBlk": func(spec *Spec) { spec.Attributes.Blocked = signals },
		} {
			want := fmt.Sprintf("%s:\t%016x\n", field, signals)
			if got := output(change, "cat", "/proc/self/status"); !strings.Contains(got, want) {
				t.Errorf("it should have %q:\n%s", want, got)
			}
		}
		// The next command has nothing of it.
		if status := output(nil, "cat", "/proc/self/status"); !strings.Contains(status, "SigIgn:\t0000000000000000\n") {
			t.Errorf("SigIgn is not empty:\n%s", status)
		}

		dir := t.TempDir()
		there := func(spec *Spec) { spec.Directory = int(openFile(t, dir).Fd()) }
		if got := output(there, "pwd", "-P"); got != dir+"\n" {
			t.Errorf("its directory is %q, not %q", got, dir)
		}

		must(t, os.Mkdir(filepath.Join(dir, "below"), 0o700))
		below := func(spec *Spec) {
			there(spec)
			spec.Attributes.Directory = "below"
		}
		if got := output(below, "pwd", "-P"); got != dir+"/below\n" {
			t.Errorf("its directory is %q, not the one below %q", got, dir)
		}
		path := func(spec *Spec) { spec.Directory, spec.Attributes.Directory = NullDevice, dir }
		if got := output(path, "pwd", "-P"); got != dir+"\n" {
			t.Errorf("its directory is %q, not %q, by its path alone", got, dir)
		}

		exactly := func(spec *Spec) { spec.Env = []string{"A=1", "A=2", "no equals sign", "B=", "M=" + o.marker} }
		if got, want := output(exactly, "cat", "/proc/self/environ"), "A=1\x00A=2\x00no equals sign\x00B=\x00M="+o.marker+"\x00"; got != want {
			t.Errorf("its environment is %q, not %q", got, want)
		}
		if got := output(func(spec *Spec) { spec.Env = nil }, "cat", "/proc/self/environ"); got != "" {
			t.Errorf("its environment is %q, and none was given", got)
		}
		if got := output(nil, "printf", "[%s]", "", "-", "a  b", "\xff"); got != "[][-][a  b][\xff]" {
			t.Errorf("its arguments are %q", got)
		}

		self, err := os.Executable()
		must(t, err)
		asked := func(spec *Spec) { spec.Env = append(spec.Env, programVariable+"=parent-death-signal") }
		if got := output(asked, self); got != "9\n" {
			t.Errorf("its parent-death signal is %q, not SIGKILL", got)
		}
	})
}

func TestEveryArgumentArrives(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		for _, count := range []int{0, 1, 50, 5_000, 45_000} { // the last are two thirds of what the kernel takes
			spec := s.spec(append([]string{"sh", "-c", `echo $#; eval echo \"\${$#}\"`, "sh"}, slices.Repeat([]string{"twelve bytes"}, count)...)...)
			r, w, err := os.Pipe()
			must(t, err)
			spec.Descriptors[1] = int(w.Fd())
			s.start(spec)
			must(t, w.Close())
			got, err := io.ReadAll(r)
			must(t, err)
			must(t, r.Close())
			last := "twelve bytes"
			if count == 0 {
				last = "sh"
			}
			if want := fmt.Sprintf("%d\n%s\n", count, last); string(got) != want {
				t.Errorf("of %d arguments it sees %q", count, got)
			}
			s.endsWith("0")
		}
	})
}

func TestDescriptorsInAnyOrder(t *testing.T) {
	conform(t, func(t *testing.T, o *owner) {
		s := o.shepherd()
		// As many as one message can carry, each a file of its own.
		spec := s.spec("sh", "-c", "cat <&0; cat <&3; cat <&9")
		r, w, err := os.Pipe()
		must(t, err)
		dir := t.TempDir()
		for i := range MaxDescriptors {
			path := filepath.Join(dir, strconv.Itoa(i))
			must(t, os.WriteFile(path, fmt.Appendf(nil, "%d\n", i), 0o600))
			fd := int(openFile(t, path).Fd())
			if i < 3 {
				spec.Descriptors[i] = fd
			} else {
				spec.Descriptors = append(spec.Descriptors, fd)
			}
		}
		spec.Descriptors[1] = int(w.Fd())
		s.start(spec)
		must(t, w.Close())
		got, err := io.ReadAll(r)
		must(t, err)
		must(t, r.Close())
		if string(got) != "0\n3\n9\n" {
			t.Errorf("descriptors 0, 3 and 9 say %q", got)
		}
		s.endsWith("0")
		s.goesOn()
	})
}
