module github.com/netrunner-go/netrunner/bench

go 1.26.0

require (
	github.com/netrunner-go/netrunner v0.0.0
	golang.org/x/sys v0.49.0
)

require github.com/creack/pty v1.1.24

replace github.com/netrunner-go/netrunner => ../
