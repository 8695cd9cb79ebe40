package shepherd

import _ "embed"

//go:embed bin/shepherd-linux-arm64
var helper []byte
