/* zero.h - finding zeros at memory speed (AVX2 where the CPU has it, chosen at run time). */
#ifndef PL_CORE_BASE_ZERO_H
#define PL_CORE_BASE_ZERO_H

#include <stdbool.h>
#include <stddef.h>

/* Whether all len bytes are zero.  len 0: true. */
bool pl_is_zero(const void *buf, size_t len);

/* The length of the leading run of whole pieces of `piece` bytes (the last may be short) that are
 * all zero or all not zero, and which (*zero).  len >= 1; the result is >= 1 and <= len. */
size_t pl_zero_run(const void *buf, size_t len, size_t piece, bool *zero);

#endif
