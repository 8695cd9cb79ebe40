#!/bin/sh
# Checks the C source: two compilers, cppcheck, clang-tidy, and the fuzz targets
# with AddressSanitizer and UBSan for FUZZ_SECONDS (10) each. The tests of the
# package run a sanitized build of the whole helper besides.
# Packages: gcc clang cppcheck clang-tidy libclang-rt-14-dev
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sources='main.c watcher.c shepherd.c command.c tree.c channel.c'
flags='-std=c99 -D_GNU_SOURCE -Wall -Wextra -Werror -pedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla'

for compiler in gcc clang; do
	echo "$compiler"
	# shellcheck disable=SC2086 # the lists are words
	$compiler $flags -O2 -o "$work/shepherd" $sources
done

echo cppcheck
# shellcheck disable=SC2086
cppcheck --quiet --std=c99 -D_GNU_SOURCE -D__x86_64__ --enable=warning,performance,portability --inline-suppr \
	--error-exitcode=1 $sources

echo clang-tidy
# shellcheck disable=SC2086
clang-tidy --quiet $sources -- -std=c99 -D_GNU_SOURCE

fuzz() {
	echo "fuzz $1"
	target=$1
	shift
	# shellcheck disable=SC2086
	clang $flags -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
		-o "$work/$target" "$target.c" "$@"
	mkdir "$work/$target.corpus"
	if ! "$work/$target" -max_total_time="${FUZZ_SECONDS:-10}" -max_len=4096 -timeout=10 \
		-artifact_prefix="$work/" "$work/$target.corpus" </dev/null >"$work/$target.log" 2>&1; then
		tail -n 40 "$work/$target.log"
		exit 1
	fi
	tail -n 1 "$work/$target.log"
}
fuzz fuzz_channel channel.c
fuzz fuzz_split command.c channel.c
