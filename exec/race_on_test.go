//go:build race

package exec_test

// raceDetector reports whether it watches the tests.
const raceDetector = true
