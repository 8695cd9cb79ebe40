package expect

import (
	"fmt"
	imagecolor "image/color"

	"github.com/charmbracelet/x/ansi"
)

// Color is the color of a cell: the terminal's default, which is the zero value,
// one of its palette of 256, or one by its red, green and blue. Two that were
// asked for in the same way are equal, whatever they look like.
type Color struct {
	kind    colorKind
	r, g, b uint8 // or r is the index
}

type colorKind uint8

const (
	defaultColor colorKind = iota
	paletteColor
	rgbColor
)

// Palette returns a color by its index in the terminal's palette. The first eight
// are those of "\x1b[30m" to "\x1b[37m": black, red, green, yellow, blue, magenta,
// cyan, white. The next eight are the bright ones of them.
func Palette(index uint8) Color { return Color{kind: paletteColor, r: index} }

// RGB returns a color by its parts.
func RGB(red, green, blue uint8) Color { return Color{rgbColor, red, green, blue} }

var colorNames = [...]string{"black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"}

// String returns a name: "default", "red", "bright red", "palette 208", "#ff8700".
func (c Color) String() string {
	switch {
	case c.kind == defaultColor:
		return "default"
	case c.kind == rgbColor:
		return fmt.Sprintf("#%02x%02x%02x", c.r, c.g, c.b)
	case int(c.r) < len(colorNames):
		return colorNames[c.r]
	case int(c.r) < 2*len(colorNames):
		return "bright " + colorNames[int(c.r)-len(colorNames)]
	}
	return fmt.Sprintf("palette %d", c.r)
}

// colorOf returns the emulator's color as ours.
func colorOf(c imagecolor.Color) Color {
	switch c := c.(type) {
	case nil:
		return Color{}
	case ansi.BasicColor:
		return Palette(uint8(c))
	case ansi.IndexedColor:
		return Palette(uint8(c))
	}
	r, g, b, _ := c.RGBA()
	return RGB(uint8(r>>8), uint8(g>>8), uint8(b>>8))
}
