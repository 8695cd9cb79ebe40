# The tests that take longer. Everything else is plain `go test`: see CONTRIBUTING.md.

DEATHS ?= 1000
SEED ?= 0

.PHONY: chaos matrix matrix-sanitized sbom

# Random commands, trees and deaths; SEED repeats a run.
chaos:
	go test -run 'Chaos' -count=1 -timeout 60m -v . -chaos.time=0 -chaos.deaths=$(DEATHS) -chaos.seed=$(SEED)

# Every cell of docs/guarantees.md, 20 times, while both of two processors are busy.
matrix:
	internal/guarantees/busy.sh go test -run 'Matrix|Control' -count=20 -timeout 60m ./internal/guarantees

# The same once, with a helper that AddressSanitizer and UBSan look at.
matrix-sanitized:
	internal/guarantees/sanitized.sh

# What all of it is made of, as CycloneDX: sbom.json.
sbom:
	.ci/sbom sbom.json
