package main

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

var errSize = errors.New("want a number of bytes, 1 or more, with K, M, G or T after it if need be")

// size is a flag's value in bytes. The units are powers of 1024.
type size int64

// Set parses 4096, 512K, 10M, 1G or 1T.
func (s *size) Set(text string) error {
	digits, factor := text, int64(1)
	if text != "" {
		if unit := strings.IndexByte("KMGT", text[len(text)-1]&^0x20); unit >= 0 {
			digits, factor = text[:len(text)-1], 1<<(10*(unit+1))
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n == 0 || int64(n) > math.MaxInt64/factor {
		return errSize
	}
	*s = size(int64(n) * factor)
	return nil
}

// String returns the number of bytes, or nothing when none was set.
func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*s), 10)
}

// Type is what the help calls the value.
func (s *size) Type() string { return "size" }
