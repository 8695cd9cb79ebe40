/*
 * libFuzzer target: command_split takes any strings and any counts; it stays
 * within both, and what it accepts is what it was given. See check.sh.
 */
#include <stdlib.h>

#include "shepherd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	const uint32_t arguments = data[0];
	const uint32_t environment = data[1];
	const size_t length = size - 2;
	const size_t slots = (size_t)arguments + environment + 3;
	/* Exactly as large as in command.c, so that the sanitizer sees a byte too many. */
	char *strings = malloc(length + 1);
	char **vector = malloc(slots * sizeof *vector);
	if (strings == NULL || vector == NULL)
		abort();
	memcpy(strings, data + 2, length);
	if (command_split(strings, length, arguments, environment, vector)) {
		size_t total = strlen(vector[0]) + 1;
		for (uint32_t i = 0; i < arguments; i++)
			total += strlen(vector[1 + i]) + 1;
		for (uint32_t i = 0; i < environment; i++)
			total += strlen(vector[2 + arguments + i]) + 1;
		if (total != length || vector[1 + arguments] != NULL || vector[slots - 1] != NULL)
			abort();
	}
	free(strings);
	free((void *)vector);
	return 0;
}
