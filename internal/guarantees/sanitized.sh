#!/usr/bin/env bash
# The whole matrix with a helper that AddressSanitizer and UBSan look at: the
# embedded binary is replaced in the compiler's view of the source, and nowhere else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
csrc=../shepherd/csrc
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 777 "$work" # the helper reports as whatever user its owner is

# The helper has an empty environment and no standard error, so its options and its reports' place are compiled in.
cat >"$work/options.c" <<EOF
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0:log_path=$work/report"; }
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void) { return "print_stacktrace=1:log_path=$work/report"; }
EOF
gcc -std=c99 -D_GNU_SOURCE -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
	-o "$work/helper" "$csrc"/{main,watcher,shepherd,command,tree,channel}.c "$work/options.c"
binary=$(realpath "../shepherd/bin/shepherd-linux-$(go env GOARCH)")
printf '{"Replace": {"%s": "%s"}}' "$binary" "$work/helper" >"$work/overlay.json"
status=0
go test -count=1 -overlay "$work/overlay.json" -run 'TestMatrix' "$@" . || status=$?

# AddressSanitizer also warns of what is no error: that a child has another stack than it thinks.
shopt -s nullglob
for report in "$work"/report*; do
	if grep -q -e 'ERROR: ' -e 'runtime error: ' "$report"; then
		cat "$report"
		status=1
	fi
done
exit "$status"
