#!/usr/bin/env bash
# The whole matrix with a helper that AddressSanitizer and UBSan look at: the
# embedded binary is replaced in the compiler's view of the source, and nowhere else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
csrc=../shepherd/csrc
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
touch "$work/reports"
chmod 755 "$work"
chmod 666 "$work/reports" # the helper reports as whatever user its owner is

# The helper has an empty environment and no standard error to report to, so both are compiled in.
cat >"$work/reports.c" <<EOF
#include <fcntl.h>
#include <unistd.h>

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

__attribute__((constructor)) static void report(void)
{
	const int file = open("$work/reports", O_WRONLY | O_APPEND);
	if (dup2(file, STDERR_FILENO) != STDERR_FILENO || close(file) != 0)
		_exit(125);
}
EOF
gcc -std=c99 -D_GNU_SOURCE -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
	-o "$work/helper" "$csrc"/{main,watcher,shepherd,command,tree,channel}.c "$work/reports.c"
binary=$(realpath "../shepherd/bin/shepherd-linux-$(go env GOARCH)")
printf '{"Replace": {"%s": "%s"}}' "$binary" "$work/helper" >"$work/overlay.json"
status=0
go test -count=1 -overlay "$work/overlay.json" -run 'TestMatrix' "$@" . || status=$?

# AddressSanitizer also warns of what is no error: that a child has another stack than it thinks.
if grep -A 20 -e 'ERROR: ' -e 'runtime error: ' "$work/reports"; then
	status=1
fi
exit "$status"
