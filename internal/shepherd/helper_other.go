//go:build !amd64 && !arm64

package shepherd

var helper []byte
