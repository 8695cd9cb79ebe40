package inherittest

// System call numbers for the probe.
const (
	getMempolicy      = "239"
	keyctl            = "250"
	ioprioGet         = "252"
	schedGetscheduler = "145"
)
