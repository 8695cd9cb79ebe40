package inherittest

// System call numbers for the probe.
const (
	getMempolicy      = "236"
	keyctl            = "219"
	ioprioGet         = "31"
	schedGetscheduler = "120"
)
