package main

import (
	"errors"
	"math"
	"strconv"
	"time"
)

var errDuration = errors.New("want a time such as 500ms, 90s, 1m30s or 2h, or plain seconds")

// duration is a flag's value. Plain numbers are seconds, as in timeout(1).
type duration time.Duration

// Set parses a time that is not negative.
func (d *duration) Set(text string) error {
	value, err := time.ParseDuration(text)
	if err != nil {
		seconds, err := strconv.ParseFloat(text, 64)
		// The negation refuses NaN too.
		if err != nil || !(math.Abs(seconds) < math.MaxInt64/float64(time.Second)) {
			return errDuration
		}
		value = time.Duration(seconds * float64(time.Second))
	}
	if value < 0 {
		return errDuration
	}
	*d = duration(value)
	return nil
}

// String returns the time, or nothing when none was set.
func (d *duration) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

// Type is what the help calls the value.
func (d *duration) Type() string { return "duration" }
