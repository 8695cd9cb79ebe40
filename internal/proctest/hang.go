package proctest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Hang is a file system that answers nothing (Documentation/filesystems/fuse.rst).
type Hang struct {
	Dir     string        // whatever is looked up in it hangs
	Reached chan struct{} // closed when somebody hangs in a way that even SIGKILL does not end

	device *os.File
	thaw   sync.Once
}

// NewHang mounts one, until the end of the test. Who is killed while it hangs
// dies once the request has been answered, and not before.
func NewHang(t testing.TB) *Hang {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
		t.Skip("this machine has no /dev/fuse for this user, so nothing here makes a file system hang: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	h := &Hang{Dir: filepath.Join(t.TempDir(), "hangs"), Reached: make(chan struct{})}
	if err := os.Mkdir(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,allow_other", fd, os.Getuid(), os.Getgid())
	if err := unix.Mount("hang", h.Dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = unix.Close(fd)
		t.Skip("this user may not mount, so nothing here makes a file system hang: ", err)
	}
	// Not earlier: only a device that is mounted can be polled, and closing it ends the read below.
	_ = unix.SetNonblock(fd, true)
	h.device = os.NewFile(uintptr(fd), "/dev/fuse")
	served := make(chan struct{})
	go func() {
		defer close(served)
		h.serve()
	}()
	t.Cleanup(func() {
		h.Thaw()
		<-served
	})
	return h
}

// Thaw ends it: whatever hangs gets an error.
func (h *Hang) Thaw() {
	h.thaw.Do(func() {
		_ = unix.Unmount(h.Dir, unix.MNT_DETACH)
		_ = h.device.Close()
	})
}

const (
	fuseInit    = 26
	fuseDestroy = 38
	fuseGetattr = 3
	fuseAccess  = 34
)

// serve answers how the directory itself looks, and nothing else.
func (h *Hang) serve() {
	request := make([]byte, 1<<17)
	for hung := false; ; {
		n, err := h.device.Read(request)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) { // the request was taken back
			continue
		}
		if err != nil || n < 40 {
			return
		}
		opcode, unique := binary.NativeEndian.Uint32(request[4:]), binary.NativeEndian.Uint64(request[8:])
		var body []byte
		switch opcode {
		case fuseInit:
			body = make([]byte, 64)
			binary.NativeEndian.PutUint32(body[0:], 7)
			binary.NativeEndian.PutUint32(body[4:], 31)
			binary.NativeEndian.PutUint32(body[20:], 4096) // max_write
		case fuseGetattr:
			body = make([]byte, 104)
			binary.NativeEndian.PutUint64(body[16:], 1)          // ino
			binary.NativeEndian.PutUint32(body[16+60:], 0o40755) // mode
			binary.NativeEndian.PutUint32(body[16+64:], 2)       // nlink
		case fuseAccess:
		default:
			if !hung && opcode != fuseDestroy {
				hung = true
				close(h.Reached)
			}
			continue
		}
		answer := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
		answer = binary.NativeEndian.AppendUint32(answer, 0)
		answer = append(binary.NativeEndian.AppendUint64(answer, unique), body...)
		if _, err := h.device.Write(answer); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, io.EOF) {
			return
		}
	}
}
