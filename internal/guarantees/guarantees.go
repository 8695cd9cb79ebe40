// Package guarantees proves what docs/guarantees.md promises: every event, with
// every tree of processes, is a test, and the page's tables are made from the
// same tables as the tests. There is nothing in it but tests.
package guarantees
