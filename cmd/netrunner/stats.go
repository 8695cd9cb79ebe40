package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/netrunner-go/netrunner"
)

// report is what --stats writes. Figures that are not known are absent.
type report struct {
	Command []string `json:"command"`

	// ExitCode is null when a signal ended the command, or it never ran.
	ExitCode *int   `json:"exit_code"`
	Signal   string `json:"signal,omitempty"`
	Reason   string `json:"reason,omitempty"` // why it was stopped or not started

	*figures
	*output
}

// figures are those of the whole tree, except for the times of day.
type figures struct {
	StartTime                  time.Time `json:"start_time"`
	DurationSeconds            float64   `json:"duration_seconds"`
	UserCPUSeconds             float64   `json:"user_cpu_seconds"`
	SystemCPUSeconds           float64   `json:"system_cpu_seconds"`
	MaxRSSBytes                int64     `json:"max_rss_bytes"` // of the largest process
	MinorPageFaults            int64     `json:"minor_page_faults"`
	MajorPageFaults            int64     `json:"major_page_faults"`
	VoluntaryContextSwitches   int64     `json:"voluntary_context_switches"`
	InvoluntaryContextSwitches int64     `json:"involuntary_context_switches"`
	KilledProcesses            int       `json:"killed_processes"` // to clear the command's tree
	LeftProcesses              int       `json:"left_processes"`
}

// output is counted when it passes through netrunner.
type output struct {
	BytesOut int64 `json:"bytes_out"`
	BytesErr int64 `json:"bytes_err"`
}

// addState tells how the command ended. The state is nil when its shepherd was
// lost, and the figures with it.
func (r *report) addState(state *netrunner.State) {
	if state == nil {
		return
	}
	if signal := state.Signal(); signal != 0 {
		r.Signal = signalName(signal)
	} else {
		code := state.ExitCode()
		r.ExitCode = &code
	}
	stats := state.Stats()
	r.figures = &figures{
		StartTime:                  stats.Start,
		DurationSeconds:            seconds(stats.Duration),
		UserCPUSeconds:             seconds(stats.UserTime),
		SystemCPUSeconds:           seconds(stats.SystemTime),
		MaxRSSBytes:                stats.MaxRSS,
		MinorPageFaults:            stats.MinorFaults,
		MajorPageFaults:            stats.MajorFaults,
		VoluntaryContextSwitches:   stats.VoluntarySwitches,
		InvoluntaryContextSwitches: stats.InvoluntarySwitches,
		KilledProcesses:            stats.Killed,
		LeftProcesses:              stats.Left,
	}
}

// addOutput is for output that has passed through netrunner.
func (r *report) addOutput(stats netrunner.Stats) {
	r.output = &output{stats.BytesOut, stats.BytesErr}
}

// reason says why a command was stopped; empty when it ended by itself.
func reason(err error) string {
	if exit, ok := errors.AsType[*netrunner.ExitError](err); ok {
		err = exit.Cause
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

// statsFile is where the report goes. Nil writes none.
type statsFile struct{ file *os.File }

// openStats opens the file before the command runs, so that a wrong path costs nothing.
func openStats(path string) (*statsFile, error) {
	switch path {
	case "":
		return nil, nil
	case "-":
		return &statsFile{os.Stderr}, nil
	}
	file, err := createPrivate(path)
	if err != nil {
		return nil, err
	}
	return &statsFile{file}, nil
}

// finish writes the report. It returns err, and its own failure beside it: a
// command that succeeded without its figures is a failure of netrunner's.
func (f *statsFile) finish(err error, r *report) error {
	if f == nil {
		return err
	}
	writeErr := f.write(r)
	switch {
	case writeErr == nil:
		return err
	case err == nil:
		return fmt.Errorf("stats: %w", writeErr)
	}
	status, message := explain(err)
	if message == "" {
		return &statusError{status, fmt.Errorf("stats: %w", writeErr)}
	}
	return &statusError{status, fmt.Errorf("%w; stats: %w", err, writeErr)}
}

func (f *statsFile) write(r *report) error {
	encoder := json.NewEncoder(f.file)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false) // a command line is easier to read so
	err := encoder.Encode(r)
	if f.file == os.Stderr {
		return err
	}
	if closeErr := f.file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// seconds are whole microseconds, so that no float shows more digits than were measured.
func seconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }
