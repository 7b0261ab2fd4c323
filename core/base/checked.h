/* checked.h - arithmetic on numbers that came from a file: nothing wraps unseen. */
#ifndef PL_CORE_BASE_CHECKED_H
#define PL_CORE_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

/* They look at an argument twice: no calls that change something. */
#define PL_MIN(a, b) ((a) < (b) ? (a) : (b))
#define PL_MAX(a, b) ((a) > (b) ? (a) : (b))
#define PL_COUNT(array) (sizeof(array) / sizeof *(array))

#define PL_KIB UINT64_C(1024)
#define PL_MIB (1024 * PL_KIB)
#define PL_GIB (1024 * PL_MIB)
#define PL_TIB (1024 * PL_GIB)

/* The largest file offset the host can express; every size and offset stays at or below it. */
#define PL_OFFSET_MAX INT64_MAX

/* *sum = a + b; false when that is too big. */
static inline PL_CHECK bool pl_add(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

/* *product = a * b; false when that is too big. */
static inline PL_CHECK bool pl_mul(uint64_t a, uint64_t b, uint64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* Whether [off, off + len) lies within [0, limit); cannot wrap. */
static inline PL_CHECK bool pl_inside(uint64_t off, uint64_t len, uint64_t limit)
{
    return off <= limit && len <= limit - off;
}

static inline bool pl_is_pow2(uint64_t n)
{
    return n && !(n & (n - 1));
}

/* The exponent of a power of two. */
static inline unsigned pl_log2(uint64_t n)
{
    return (unsigned)__builtin_ctzll(n);
}

/* Rounds down to a multiple of `unit`, which need not be a power of two. */
static inline uint64_t pl_round_down(uint64_t n, uint64_t unit)
{
    return n - n % unit;
}

/* Rounds up; the caller knows that n + unit does not wrap (n <= PL_OFFSET_MAX, unit < 2^62). */
static inline uint64_t pl_round_up(uint64_t n, uint64_t unit)
{
    return pl_round_down(n + unit - 1, unit);
}

/* n / unit rounded up, for any n. */
static inline uint64_t pl_div_up(uint64_t n, uint64_t unit)
{
    return n / unit + (n % unit != 0);
}

#endif
