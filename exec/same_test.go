package exec_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	osexec "os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netrunner-go/netrunner/exec"
	"github.com/netrunner-go/netrunner/internal/proctest"
)

// What is the same as in os/exec, found by asking both.

// exported lists the exported names of a package's source: functions, types,
// methods, variables.
func exported(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	check(t, err)
	for _, path := range files {
		name := filepath.Base(path)
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "read3") ||
			strings.HasSuffix(name, "_windows.go") || strings.HasSuffix(name, "_plan9.go") || strings.HasSuffix(name, "_wasm.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		check(t, err)
		for _, declaration := range file.Decls {
			names = append(names, declared(declaration)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func declared(declaration ast.Decl) (names []string) {
	add := func(prefix string, name *ast.Ident) {
		if name.IsExported() {
			names = append(names, prefix+name.Name)
		}
	}
	switch d := declaration.(type) {
	case *ast.FuncDecl:
		prefix := ""
		if d.Recv != nil {
			receiver := d.Recv.List[0].Type
			if star, ok := receiver.(*ast.StarExpr); ok {
				receiver = star.X
			}
			name, ok := receiver.(*ast.Ident)
			if !ok || !name.IsExported() {
				return nil
			}
			prefix = name.Name + "."
		}
		add(prefix, d.Name)
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				add("", s.Name)
			case *ast.ValueSpec:
				for _, name := range s.Names {
					add("", name)
				}
			}
		}
	}
	return names
}

func TestWholeInterface(t *testing.T) {
	ours := exported(t, ".")
	for _, name := range exported(t, filepath.Join(goroot(t), "src", "os", "exec")) {
		if strings.HasPrefix(name, "Error.") { // an alias has the methods of the type
			continue
		}
		if !slices.Contains(ours, name) {
			t.Errorf("there is no %s", name)
		}
	}
}

// Fields and methods have the same types, but for the types that are ours.
func TestSameTypes(t *testing.T) {
	same := strings.NewReplacer("*os.ProcessState", "*exec.ProcessState", "*os.Process", "*exec.Process")
	for _, pair := range []struct{ theirs, ours reflect.Type }{
		{reflect.TypeFor[osexec.Cmd](), reflect.TypeFor[exec.Cmd]()},
		{reflect.TypeFor[osexec.ExitError](), reflect.TypeFor[exec.ExitError]()},
		{reflect.TypeFor[os.Process](), reflect.TypeFor[exec.Process]()},
		{reflect.TypeFor[os.ProcessState](), reflect.TypeFor[exec.ProcessState]()},
	} {
		for _, theirs := range reflect.VisibleFields(pair.theirs) {
			if !theirs.IsExported() {
				continue
			}
			ours, ok := pair.ours.FieldByName(theirs.Name)
			if want := same.Replace(theirs.Type.String()); !ok || ours.Type.String() != want {
				t.Errorf("%v.%s is %v, not %s", pair.ours, theirs.Name, ours.Type, want)
			}
		}
		theirs, ours := reflect.PointerTo(pair.theirs), reflect.PointerTo(pair.ours)
		for i := range theirs.NumMethod() {
			method := theirs.Method(i)
			got, ok := ours.MethodByName(method.Name)
			if want := signature(method); !ok || signature(got) != same.Replace(want) {
				t.Errorf("%v.%s is %s, not %s", ours, method.Name, signature(got), want)
			}
		}
	}
}

// signature is a method's without its receiver.
func signature(m reflect.Method) string {
	if m.Type == nil {
		return "missing"
	}
	var in, out []string
	for i := 1; i < m.Type.NumIn(); i++ {
		in = append(in, m.Type.In(i).String())
	}
	for i := range m.Type.NumOut() {
		out = append(out, m.Type.Out(i).String())
	}
	return fmt.Sprint(in, out, m.Type.IsVariadic())
}

// both makes the same command of both packages.
func both(change func(c *settings)) (theirs *osexec.Cmd, ours *exec.Cmd) {
	s := &settings{name: "true"}
	change(s)
	theirs, ours = osexec.Command(s.name, s.args...), exec.Command(s.name, s.args...)
	theirs.Dir, ours.Dir = s.dir, s.dir
	theirs.Env, ours.Env = s.env, s.env
	theirs.SysProcAttr, ours.SysProcAttr = s.sys, s.sys
	theirs.ExtraFiles, ours.ExtraFiles = s.files, s.files
	if s.stdout != nil {
		theirs.Stdout, ours.Stdout = s.stdout, s.stdout
	}
	return theirs, ours
}

type settings struct {
	name   string
	args   []string
	dir    string
	env    []string
	sys    *syscall.SysProcAttr
	files  []*os.File
	stdout *os.File
}

// The errors have the same text, and are the same for errors.Is, and for those who
// look at what is inside.
func TestSameErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	forbidden := write("forbidden", "#!/bin/sh\n", 0o644)
	plain := write("plain", "echo\n", 0o755)
	orphan := write("orphan", "#!/no/such/interpreter\n", 0o755)
	missing := filepath.Join(dir, "missing")
	closed, err := os.Open(os.DevNull)
	check(t, err)
	check(t, closed.Close())

	for _, test := range []struct {
		name   string
		change func(*settings)
		is     error // where the texts differ
	}{
		{"not in PATH", func(s *settings) { s.name = "no-such-program" }, nil},
		{"empty name", func(s *settings) { s.name = "" }, nil},
		{"no such file", func(s *settings) { s.name = missing }, nil},
		{"no permission", func(s *settings) { s.name = forbidden }, nil},
		{"a directory", func(s *settings) { s.name = dir }, nil},
		{"no format", func(s *settings) { s.name = plain }, nil},
		{"missing interpreter", func(s *settings) { s.name = orphan }, nil},
		{"missing directory", func(s *settings) { s.dir = missing }, nil},
		{"a file as directory", func(s *settings) { s.dir = plain }, syscall.ENOTDIR},
		{"too long", func(s *settings) { s.args = []string{strings.Repeat("x", 3<<20)} }, nil},
		{"a closed file", func(s *settings) { s.stdout = closed }, errors.ErrUnsupported},
		{"group that is not there", func(s *settings) { s.sys = &syscall.SysProcAttr{Setpgid: true, Pgid: 1 << 22} }, nil},
		{"group of a leader", func(s *settings) { s.sys = &syscall.SysProcAttr{Setsid: true, Setpgid: true} }, syscall.EPERM},
		{"no terminal", func(s *settings) { s.sys = &syscall.SysProcAttr{Setsid: true, Setctty: true} }, nil},
		{"a missing root", func(s *settings) { s.sys = &syscall.SysProcAttr{Chroot: missing} }, nil},
		{"exit status", func(s *settings) { s.name, s.args = "sh", []string{"-c", "exit 3"} }, nil},
		{"signal", func(s *settings) { s.name, s.args = "sh", []string{"-c", "kill -9 $$"} }, nil},
		{"core", func(s *settings) { s.name, s.args = "sh", []string{"-c", "ulimit -c 0; kill -ABRT $$"} }, nil},
		{"success", func(*settings) {}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			theirs, ours := both(test.change)
			want, got := theirs.Run(), ours.Run()
			if test.is == errors.ErrUnsupported { // os/exec runs it with a descriptor that is closed
				if !errors.Is(got, os.ErrClosed) {
					t.Error(got)
				}
				return
			}
			if test.is != nil {
				if !errors.Is(got, test.is) || !errors.Is(want, test.is) {
					t.Errorf("%v, not %v", got, want)
				}
				return
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v, not %v", got, want)
			}
			for _, is := range []error{
				fs.ErrNotExist, fs.ErrPermission, exec.ErrNotFound, exec.ErrDot,
				syscall.ENOENT, syscall.EACCES, syscall.ENOEXEC, syscall.E2BIG, syscall.EPERM, syscall.ENOTTY,
			} {
				if errors.Is(got, is) != errors.Is(want, is) {
					t.Errorf("errors.Is(%v, %v) differs", got, is)
				}
			}
			if os.IsNotExist(got) != os.IsNotExist(want) || os.IsPermission(got) != os.IsPermission(want) {
				t.Error("os.IsNotExist or os.IsPermission differs")
			}
			theirPath, ok := errors.AsType[*fs.PathError](want)
			if ourPath, ours := errors.AsType[*fs.PathError](got); ok != ours || ok && (*ourPath != *theirPath) {
				t.Errorf("%#v, not %#v", ourPath, theirPath)
			}
			if theirs.ProcessState.ExitCode() != ours.ProcessState.ExitCode() {
				t.Errorf("exit code %d, not %d", ours.ProcessState.ExitCode(), theirs.ProcessState.ExitCode())
			}
		})
	}
}

// Calls in the wrong order fail in the same words.
func TestSameMisuse(t *testing.T) {
	for _, test := range []struct {
		name   string
		misuse func(of string) error
	}{
		{"Wait before Start", func(of string) error { return command(of, []string{"true"}).Wait() }},
		{"Wait twice", func(of string) error {
			cmd := command(of, []string{"true"})
			return errors.Join(cmd.Run(), cmd.Wait())
		}},
		{"Start twice", func(of string) error {
			cmd := command(of, []string{"true"})
			return errors.Join(cmd.Start(), cmd.Start(), cmd.Wait())
		}},
		{"Run after a start that failed", func(of string) error {
			cmd := command(of, []string{"/no/such/program"})
			return errors.Join(cmd.Start(), cmd.Run())
		}},
		{"pipe after the start", func(of string) error {
			if of == "exec" {
				cmd := exec.Command("true")
				check(t, cmd.Run())
				_, err := cmd.StdoutPipe()
				return err
			}
			cmd := osexec.Command("true")
			check(t, cmd.Run())
			_, err := cmd.StdoutPipe()
			return err
		}},
		{"Output with Stdout", func(of string) error {
			if of == "exec" {
				_, err := (&exec.Cmd{Path: "/bin/true", Stdout: os.Stdout}).Output()
				return err
			}
			_, err := (&osexec.Cmd{Path: "/bin/true", Stdout: os.Stdout}).Output()
			return err
		}},
		{"Cancel without a context", func(of string) error {
			if of == "exec" {
				return (&exec.Cmd{Path: "/bin/true", Cancel: func() error { return nil }}).Run()
			}
			return (&osexec.Cmd{Path: "/bin/true", Cancel: func() error { return nil }}).Run()
		}},
		{"a context that is over", func(of string) error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if of == "exec" {
				return exec.CommandContext(ctx, "true").Run()
			}
			return osexec.CommandContext(ctx, "true").Run()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want, got := test.misuse("os/exec"), test.misuse("exec")
			if want == nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v, not %v", got, want)
			}
		})
	}
}

// What a command finds itself to be is the same, whoever has started it.
func TestSameAttributes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("another identity and another root are root's to give")
	}
	dir := t.TempDir()
	check(t, os.Chmod(dir, 0o755))
	file, err := os.Open(os.DevNull)
	check(t, err)
	defer file.Close()
	for _, test := range []struct {
		name   string
		change func(*settings)
	}{
		{"nothing", func(*settings) {}},
		{"directory", func(s *settings) { s.dir = "/usr" }},
		{"Setsid", func(s *settings) { s.sys = &syscall.SysProcAttr{Setsid: true} }},
		{"Setpgid", func(s *settings) { s.sys = &syscall.SysProcAttr{Setpgid: true} }},
		{"Pgid", func(s *settings) { s.sys = &syscall.SysProcAttr{Setpgid: true, Pgid: unix.Getpgrp()} }},
		{"Credential", func(s *settings) {
			s.sys = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54322, Groups: []uint32{7, 8}}}
			s.dir = "/"
		}},
		{"no groups", func(s *settings) {
			s.sys = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54322}}
			s.dir = "/"
		}},
		{"NoSetGroups", func(s *settings) {
			s.sys = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 0, Gid: 54322, NoSetGroups: true}}
		}},
		{"Chroot", func(s *settings) { s.sys, s.dir = &syscall.SysProcAttr{Chroot: "/"}, "/usr/bin" }},
		{"extra files", func(s *settings) { s.files = []*os.File{file, nil, file, nil} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			program := self()
			if strings.Contains(test.name, "groups") || test.name == "Credential" {
				program = publicCopy(t)
			}
			theirs, ours := both(func(s *settings) {
				s.name = program
				s.env = append(asProgram("report"), fmt.Sprintf("GROUP=%d", unix.Getpgrp()))
				test.change(s)
				if s.dir != "" {
					s.env = append(s.env, "PWD="+s.dir)
				}
			})
			want, err := theirs.Output()
			check(t, err)
			got, err := ours.Output()
			if string(got) != string(want) || err != nil {
				t.Errorf("%v\n%s\nnot\n%s", err, got, want)
			}
		})
	}
}

// publicCopy is this program where everybody may run it.
func publicCopy(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "public")
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "program")
	proctest.CopyProgram(t, self(), path, 0o755)
	return path
}

func TestRefusedAttributes(t *testing.T) {
	for _, test := range []struct {
		field string
		sys   syscall.SysProcAttr
	}{
		{"Ptrace", syscall.SysProcAttr{Ptrace: true}},
		{"Cloneflags", syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS}},
		{"Unshareflags", syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWUTS}},
		{"UidMappings", syscall.SysProcAttr{UidMappings: []syscall.SysProcIDMap{{Size: 1}}}},
		{"GidMappings", syscall.SysProcAttr{GidMappings: []syscall.SysProcIDMap{{Size: 1}}}},
		{"AmbientCaps", syscall.SysProcAttr{AmbientCaps: []uintptr{1}}},
		{"UseCgroupFD", syscall.SysProcAttr{UseCgroupFD: true}},
	} {
		cmd := exec.Command("true")
		cmd.SysProcAttr = &test.sys
		err := cmd.Start()
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), "SysProcAttr."+test.field) {
			t.Errorf("%s: %v", test.field, err)
		}
	}
	// Every field is one of them, or in another test, or without an effect by itself.
	for field := range reflect.TypeFor[syscall.SysProcAttr]().Fields() {
		text, err := os.ReadFile("doc.go")
		check(t, err)
		if !strings.Contains(string(text), field.Name) {
			t.Errorf("the package's comment does not say what becomes of %s", field.Name)
		}
	}
}

func TestPidFD(t *testing.T) {
	fd := -1
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	check(t, cmd.Start())
	check(t, unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0))
	if err := cmd.Wait(); fmt.Sprint(err) != "signal: terminated" {
		t.Error(err)
	}
	check(t, unix.Close(fd))
}

func TestProcess(t *testing.T) {
	cmd := exec.Command("sh", "-c", "exit 7")
	check(t, cmd.Start())
	state, err := cmd.Process.Wait()
	check(t, err)
	if state.ExitCode() != 7 || !state.Exited() || state.Success() || state.Pid() != cmd.Process.Pid ||
		state.String() != "exit status 7" || state.Sys().(syscall.WaitStatus).ExitStatus() != 7 {
		t.Errorf("%v", state)
	}
	if usage := state.SysUsage().(*syscall.Rusage); usage.Maxrss <= 0 || usage.Minflt <= 0 {
		t.Errorf("%+v", usage)
	}
	check(t, cmd.Process.Release())
	for what, call := range map[string]func() error{
		"Kill":       cmd.Process.Kill,
		"Release":    cmd.Process.Release,
		"Signal":     func() error { return cmd.Process.Signal(os.Interrupt) },
		"WithHandle": func() error { return cmd.Process.WithHandle(func(uintptr) {}) },
		"Wait":       func() error { _, err := cmd.Process.Wait(); return err },
	} {
		if err := call(); err == nil {
			t.Errorf("%s after Release is no error", what)
		}
	}
	if err := new(exec.Process).Kill(); err == nil {
		t.Error("a Process that was not started can be killed")
	}
	if s := (*exec.ProcessState)(nil); s.String() != "<nil>" || s.ExitCode() != -1 {
		t.Errorf("%s %d", s, s.ExitCode())
	}
}
