package expect

import (
	"bytes"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// Pattern is something to be matched by the text.
type Pattern struct {
	kind patternKind
	text string
	re   *regexp.Regexp
}

type patternKind uint8

const (
	textPattern patternKind = iota
	regexpPattern
	eofPattern
)

// EOF matches the end of all output, and what there is before it.
var EOF = Pattern{kind: eofPattern}

// Text matches the text itself. An empty one matches at once.
func Text(text string) Pattern { return Pattern{text: text} }

// Regexp matches a regular expression. It is tried whenever something has come, so
// that one with an open end, like `\d+`, may match the first digit before the others
// are there: let it end with what follows. "^" is where the last match has ended;
// with (?m) it is also the start of a line.
func Regexp(re *regexp.Regexp) Pattern { return Pattern{kind: regexpPattern, re: re} }

// String returns what an [Error] says of it.
func (p Pattern) String() string {
	switch p.kind {
	case regexpPattern:
		if p.re == nil {
			return "no regular expression"
		}
		return "/" + p.re.String() + "/"
	case eofPattern:
		return "the end of the output"
	}
	return strconv.Quote(p.text)
}

// Match is what [Session.ExpectAny] has found.
type Match struct {
	Index  int      // of the pattern
	Before string   // the text between the last match and this one
	Groups []string // the text that has matched, and then its groups if there are any
}

// find returns where a pattern is in the text, and where its groups are, like
// [regexp.Regexp.FindSubmatchIndex].
func (p Pattern) find(text []byte, end error) []int {
	switch p.kind {
	case regexpPattern:
		return p.re.FindSubmatchIndex(text)
	case eofPattern:
		if end == io.EOF {
			return []int{len(text), len(text)}
		}
		return nil
	}
	if at := bytes.Index(text, []byte(p.text)); at >= 0 {
		return []int{at, at + len(p.text)}
	}
	return nil
}

// findFirst finds the pattern whose match ends first, and the first of these.
// That, unlike which one begins first, does not depend on how much has come.
func findFirst(patterns []Pattern, text []byte, end error) (m Match, length int, found bool) {
	var first []int
	for i, p := range patterns {
		at := p.find(text, end)
		if at == nil {
			continue
		}
		// The end comes after all text, and after a match that reaches to it.
		afterText := first != nil && patterns[m.Index].kind == eofPattern && p.kind != eofPattern
		if first == nil || at[1] < first[1] || afterText {
			first, m.Index = at, i
		}
	}
	if first == nil {
		return Match{Index: -1}, 0, false
	}
	m.Before = string(text[:first[0]])
	for i := 0; i < len(first); i += 2 {
		group := ""
		if first[i] >= 0 {
			group = string(text[first[i]:first[i+1]])
		}
		m.Groups = append(m.Groups, group)
	}
	return m, first[1], true
}

func describe(patterns []Pattern) string {
	if len(patterns) == 0 {
		return "nothing"
	}
	words := make([]string, len(patterns))
	for i, p := range patterns {
		words[i] = p.String()
	}
	return strings.Join(words, " or ")
}
