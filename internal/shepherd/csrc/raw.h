/*
 * System calls without libc's errno, which the child between fork and exec
 * shares with its shepherd, as all of its memory. A call that fails returns -errno.
 */
#ifndef RAW_H
#define RAW_H

#include <stdint.h>
#include <sys/syscall.h>

static inline long raw(long number, long first, long second, long third, long fourth)
{
#if defined(__x86_64__)
	register long last __asm__("r10") = fourth;
	__asm__ volatile("syscall" : "+a"(number) : "D"(first), "S"(second), "d"(third), "r"(last) : "rcx", "r11", "memory");
	return number;
#elif defined(__aarch64__)
	register long call __asm__("x8") = number;
	register long result __asm__("x0") = first;
	register long x1 __asm__("x1") = second;
	register long x2 __asm__("x2") = third;
	register long x3 __asm__("x3") = fourth;
	__asm__ volatile("svc 0" : "+r"(result) : "r"(call), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return result;
#else
#error "no system call is written for this architecture"
#endif
}

static inline long address(const void *pointer)
{
	return (long)(intptr_t)pointer;
}

#ifndef raw_exit /* coverage.sh has its own, which write down first what has run */
#define raw_exit(status) ((void)raw(SYS_exit_group, status, 0, 0, 0))
#define raw_execve(path, arguments, environment) raw(SYS_execve, address(path), address(arguments), address(environment), 0)
#endif

#endif
