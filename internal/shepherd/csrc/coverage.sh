#!/bin/sh
# Which lines of the C source the package's tests reach: the summary of gcov, and
# every line that none of them has run.
# Packages: gcc, and those of the tests.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 000 # some tests run the helper as another user, who counts too
chmod 777 "$work"
sources='main.c watcher.c shepherd.c command.c tree.c channel.c'

# The counts are written when a process ends as a C program does. The helper's
# processes don't: they call _exit or execve, and the child of a shepherd shares
# its memory and has a small stack.
cat >"$work/coverage.h" <<'C'
void coverage_exit(int status) __attribute__((noreturn));
long coverage_execve(const char *path, char *const arguments[], char *const environment[]);
C
cat >"$work/coverage.c" <<'C'
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <unistd.h>

void __gcov_dump(void);
void __gcov_reset(void);
void coverage_exit(int status) __attribute__((noreturn));
long coverage_execve(const char *path, char *const arguments[], char *const environment[]);
int coverage_clone(int (*function)(void *), void *stack, int flags, void *argument, ...);

static void dump(void)
{
	/* Tests set these low; here is need for files and memory. */
	const int lowered[] = {RLIMIT_NOFILE, RLIMIT_AS};
	for (int i = 0; i < 2; i++) {
		struct rlimit limit;
		(void)getrlimit(lowered[i], &limit);
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(lowered[i], &limit);
	}
	__gcov_dump();
	__gcov_reset();
}

void coverage_exit(int status)
{
	for (int descriptor = 3; descriptor < 300; descriptor++)
		(void)close(descriptor);
	dump();
	_exit(status);
}

long coverage_execve(const char *path, char *const arguments[], char *const environment[])
{
	struct rlimit limits[2];
	(void)getrlimit(RLIMIT_NOFILE, &limits[0]);
	(void)getrlimit(RLIMIT_AS, &limits[1]);
	dump();
	(void)setrlimit(RLIMIT_NOFILE, &limits[0]);
	(void)setrlimit(RLIMIT_AS, &limits[1]);
	(void)execve(path, arguments, environment);
	return -errno;
}

int coverage_clone(int (*function)(void *), void *stack, int flags, void *argument, ...)
{
	static char large[1 << 18] __attribute__((aligned(16)));
	va_list more;
	(void)stack;
	va_start(more, argument);
	int *pidfd = (flags & CLONE_PIDFD) != 0 ? va_arg(more, int *) : NULL;
	va_end(more);
	return clone(function, large + sizeof large, flags & ~CLONE_VM, argument, pidfd);
}
C
gcc -std=c99 -D_GNU_SOURCE -c -o "$work/coverage.o" "$work/coverage.c"
for source in $sources; do
	gcc -std=c99 -D_GNU_SOURCE -O0 -g --coverage -fprofile-abs-path \
		-D_exit=coverage_exit -Draw_exit=coverage_exit -Draw_execve=coverage_execve -Dclone=coverage_clone \
		-include "$work/coverage.h" \
		-c -o "$work/${source%.c}.o" "$source"
done
gcc --coverage -o "$work/shepherd" "$work"/*.o

(cd .. && NETRUNNER_TEST_HELPER=$work/shepherd go test -count=1 -run '^Test' . >"$work/log" 2>&1) || cat "$work/log"

mkdir "$work/gcov"
cd "$work/gcov"
for source in $sources; do
	gcov --object-directory "$work" "${source%.c}" 2>/dev/null | sed -n '/^File.*csrc\/[a-z]*\.c/{N;s/File .*csrc\/\(.*\)'"'"'\n/\1: /;p}'
done
echo
echo 'Lines that no test has run:'
grep -H '#####:' ./*.c.gcov >uncovered || echo none
sed 's/^\.\/\(.*\)\.gcov: *#####: */\1:/' uncovered
