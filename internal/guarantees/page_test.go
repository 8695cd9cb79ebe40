package guarantees_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	page  = "../../docs/guarantees.md"
	first = "<!-- Made by `go test ./internal/guarantees -run Page -update` from the tables of its tests. -->\n"
	last  = "<!-- End of what is made. -->\n"
)

var update = flag.Bool("update", false, "write "+page+" instead of comparing it")

// TestPage makes sure that docs/guarantees.md says what TestMatrix tests, and nothing else.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), first)
	_, after, foundEnd := strings.Cut(rest, last)
	if !found || !foundEnd {
		t.Fatalf("%s has no place for the tables", page)
	}
	want := before + first + tables() + last + after
	switch {
	case want == string(text):
	case *update:
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is not what the tests test; `go test ./internal/guarantees -run Page -update` makes it", page)
	}
}

// TestNamedTests makes sure that every test which the page names exists.
func TestNamedTests(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	for _, pattern := range []string{"../../*_test.go", "../*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(source, -1) {
				declared[string(match[1])] = true
			}
		}
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(text, -1)
	if len(named) == 0 {
		t.Error("the page names no test")
	}
	for _, match := range named {
		if name := string(match[1]); !declared[name] {
			t.Errorf("there is no test %s", name)
		}
	}
}

func tables() string {
	var b strings.Builder
	b.WriteString("\n### What happens\n\n| what happens | layer | the command and all that it has started | what the owner is told |\n|---|---|---|---|\n")
	for _, e := range events {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", e.name, e.layer, e.becomes(), e.tells())
	}
	b.WriteString("\n### To what it happens\n\n| tree | what it is |\n|---|---|\n")
	for _, tree := range trees {
		fmt.Fprintf(&b, "| %s | %s |\n", tree.name, tree.about)
	}
	b.WriteString("\n### Every cell\n\nThe number is the layer that covers it. ✗ is not covered: the command itself is gone, what it has started is not.\n\n| |")
	for _, tree := range trees {
		b.WriteString(" " + tree.name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(trees)) + "\n")
	for _, e := range events {
		b.WriteString("| " + e.name + " |")
		for _, tree := range trees {
			covered := e.layer
			if e.leaves(&tree) {
				covered = "✗"
			}
			b.WriteString(" " + covered + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	return b.String()
}

func (e *event) becomes() string {
	switch {
	case e.uncovered:
		return "the command at once; **what it has started lives on**"
	case e.goesOn:
		return "goes on, guarded by its shepherd"
	case e.graceful:
		return "stopped"
	default:
		return "killed at once"
	}
}

func (e *event) tells() string {
	switch {
	case e.told != nil:
		return e.told.text
	case e.drops:
		return "nothing: it has asked for nothing"
	default:
		return "–"
	}
}
