package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"time"
)

// The plot's size, and the field inside it that the axes enclose.
const (
	plotWidth, plotHeight = 720, 440
	fieldLeft, fieldRight = 80, 560
	fieldTop, fieldBottom = 50, 380
)

// plotCleanUps writes an SVG of what cleanUp has measured, both axes
// logarithmic. It has a background of its own, for readers in the dark.
func plotCleanUps(path string, measured []cleanedUp) error {
	if len(measured) < 2 {
		return errors.New("nothing to plot: two sizes of a tree are needed at least")
	}
	first, last := measured[0], measured[len(measured)-1]
	shortest, longest := math.Inf(1), 0.0
	for _, m := range measured {
		shortest = min(shortest, m.netrunner.Seconds(), m.bareC.Seconds())
		longest = max(longest, m.netrunner.Seconds(), m.bareC.Seconds())
	}
	low, high := math.Floor(math.Log10(shortest)), math.Ceil(math.Log10(longest))
	x := func(processes int) float64 {
		part := math.Log(float64(processes)/float64(first.processes)) / math.Log(float64(last.processes)/float64(first.processes))
		return fieldLeft + part*(fieldRight-fieldLeft)
	}
	y := func(seconds float64) float64 {
		return fieldBottom - (math.Log10(seconds)-low)/(high-low)*(fieldBottom-fieldTop)
	}

	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="14" fill="#24292f">
<title>From the owner's SIGKILL to its tree being gone, beside a bare C program that kills as many</title>
<rect width="100%%" height="100%%" fill="#ffffff"/>
<text x="%d" y="28" font-size="16">From the owner's SIGKILL to the tree being gone</text>
`, plotWidth, plotHeight, fieldLeft)
	for exponent := low; exponent <= high; exponent++ {
		at := y(math.Pow(10, exponent))
		fmt.Fprintf(&svg, `<path d="M%d %.1fH%d" stroke="#d0d7de"/><text x="%d" y="%.1f" text-anchor="end">%v</text>`+"\n",
			fieldLeft, at, fieldRight, fieldLeft-8, at+5, time.Duration(math.Round(math.Pow(10, exponent+9))))
	}
	for _, m := range measured {
		fmt.Fprintf(&svg, `<path d="M%.1f %dV%d" stroke="#d0d7de"/><text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n",
			x(m.processes), fieldTop, fieldBottom, x(m.processes), fieldBottom+22, m.processes)
	}
	fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="middle">processes in the tree</text>`+"\n", (fieldLeft+fieldRight)/2, fieldBottom+46)
	for _, line := range []struct {
		label, color string
		lower        int // of the label, for the ends of the lines are close to each other
		time         func(cleanedUp) time.Duration
	}{
		{"netrunner", "#0550ae", -4, func(m cleanedUp) time.Duration { return m.netrunner }},
		{"bare C, without an owner", "#bc4c00", 14, func(m cleanedUp) time.Duration { return m.bareC }},
	} {
		var points, dots bytes.Buffer
		for _, m := range measured {
			px, py := x(m.processes), y(line.time(m).Seconds())
			fmt.Fprintf(&points, "%.1f,%.1f ", px, py)
			fmt.Fprintf(&dots, `<circle cx="%.1f" cy="%.1f" r="4"/>`, px, py)
		}
		fmt.Fprintf(&svg, `<g fill=%q><polyline points=%q fill="none" stroke=%q stroke-width="2"/>%s<text x="%d" y="%.1f">%s</text></g>`+"\n",
			line.color, bytes.TrimSpace(points.Bytes()), line.color, dots.Bytes(),
			fieldRight+10, y(line.time(last).Seconds())+float64(line.lower), line.label)
	}
	svg.WriteString("</svg>\n")
	return os.WriteFile(path, svg.Bytes(), 0o644)
}
