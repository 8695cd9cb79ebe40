package shepherd

import _ "embed"

//go:embed bin/shepherd-linux-amd64
var helper []byte
