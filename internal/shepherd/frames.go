package shepherd

import (
	"encoding/binary"
	"errors"
	"fmt"
)

//go:generate go run ./genprotocol -table protocol.txt -go frames_gen.go -c csrc/frames.h -doc ../../docs/protocol.md
//go:generate ./build.sh bin

// headSize is the size of what every frame begins with: its length and its kind.
const headSize = 8

// largestEvent bounds what a peer can make us read.
const largestEvent = 256

// Both ends are on one machine, so integers travel in its own byte order.
var order = binary.NativeEndian

// errMalformed is what is wrong with a frame that no helper of ours would send.
var errMalformed = errors.New("malformed frame")

// requestHead is what a request needs besides its fields.
type requestHead struct {
	trailing uint32 // bytes that follow the frame
	kind     uint32
}

func appendFrame(b []byte, head requestHead, fields any) []byte {
	length := headSize + binary.Size(fields)
	b = order.AppendUint32(b, uint32(length)+head.trailing)
	b = order.AppendUint32(b, head.kind)
	b, err := binary.Append(b, order, fields)
	if err != nil {
		panic(err) // only for a type of variable size, and the generator makes none
	}
	return b
}

// event is one frame from a helper.
type event struct {
	kind   uint32
	fields []byte
}

// cutEvent takes the first whole event off b. Without one it returns ok false;
// bytes that can't be the beginning of an event are an error.
func cutEvent(b []byte) (ev event, rest []byte, ok bool, err error) {
	if len(b) < headSize {
		return event{}, b, false, nil
	}
	length, kind := order.Uint32(b), order.Uint32(b[4:])
	if size := eventSize(kind); size == 0 || int(length) != size {
		return event{}, b, false, fmt.Errorf("%w: event %d of %d bytes", errMalformed, kind, length)
	}
	if len(b) < int(length) {
		return event{}, b, false, nil
	}
	return event{kind, b[headSize:length]}, b[length:], true, nil
}

// decode fills a structure of frames_gen.go from an event of its kind.
func decode[T any](ev event) (fields T, err error) {
	if _, err = binary.Decode(ev.fields, order, &fields); err != nil {
		return fields, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return fields, nil
}
