#!/bin/sh
# Builds the helper for every architecture that is embedded, the same bytes on
# every machine with the same toolchain (Debian 12: gcc 12.2.0-14, binutils
# 2.40-2, musl 1.2.3-1). Packages: musl-tools gcc-aarch64-linux-gnu.
#
# usage: build.sh OUTPUT-DIRECTORY
set -eu
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/csrc"
sources='main.c watcher.c shepherd.c command.c tree.c channel.c'
flags='-std=c99 -D_GNU_SOURCE -Os -static -Wall -Wextra -Werror -pedantic -s
	-Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noseparate-code'

# shellcheck disable=SC2086 # the lists are words
musl-gcc $flags -o "$out/shepherd-linux-amd64" $sources

# There is no musl-gcc for another architecture; its headers and libc are in
# that architecture's own package, which is unpacked, not installed.
musl=$(mktemp -d)
trap 'rm -rf "$musl"' EXIT
mkdir -p "$musl/lists/partial"
foreign="-oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oDir::State::Lists=$musl/lists -oDebug::NoLocking=1"
(
	cd "$musl"
	# shellcheck disable=SC2086
	apt-get -qq $foreign update
	# shellcheck disable=SC2086
	apt-get -qq $foreign download musl-dev
	dpkg -x musl-dev_*.deb root
) >"$musl/log" 2>&1 || { cat "$musl/log" >&2; exit 1; }
include=$musl/root/usr/include/aarch64-linux-musl
lib=$musl/root/usr/lib/aarch64-linux-musl
# shellcheck disable=SC2086
aarch64-linux-gnu-gcc $flags -mno-outline-atomics -nostdinc -isystem "$include" \
	-isystem "$(aarch64-linux-gnu-gcc -print-file-name=include)" -nostdlib \
	-o "$out/shepherd-linux-arm64" "$lib/crt1.o" "$lib/crti.o" $sources "$lib/libc.a" \
	"$(aarch64-linux-gnu-gcc -print-libgcc-file-name)" "$lib/crtn.o"
