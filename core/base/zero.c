#include "core/base/zero.h"

#include <stdint.h>
#include <string.h>

#define AVX2_CHUNK 256 /* bytes a round: eight registers, so that loads, not tests, set the pace */
#define PLAIN_CHUNK 64

static inline uint64_t word_at(const uint8_t *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof word);
    return word;
}

static bool is_zero_bytes(const uint8_t *p, size_t len)
{
    uint8_t all = 0;

    for (size_t i = 0; i < len; i++)
        all |= p[i];
    return !all;
}

/* One chunk; the compiler makes SSE2 (or its like) of it. */
static inline bool is_zero_plain_chunk(const uint8_t *p)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < PLAIN_CHUNK; i += 8)
        all |= word_at(p + i);
    return !all;
}

/* len >= PLAIN_CHUNK.  The last chunk overlaps the one before it instead of a slow tail. */
static bool is_zero_plain(const uint8_t *p, size_t len)
{
    const uint8_t *last = p + len - PLAIN_CHUNK;

    for (; p < last; p += PLAIN_CHUNK)
        if (!is_zero_plain_chunk(p))
            return false;
    return is_zero_plain_chunk(last);
}

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx2"))) static inline bool is_zero_avx2_chunk(const uint8_t *p)
{
    const __m256i *v = (const __m256i *)p; /* loaded unaligned */
    __m256i a = _mm256_or_si256(_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1));
    __m256i b = _mm256_or_si256(_mm256_loadu_si256(v + 2), _mm256_loadu_si256(v + 3));
    __m256i c = _mm256_or_si256(_mm256_loadu_si256(v + 4), _mm256_loadu_si256(v + 5));
    __m256i d = _mm256_or_si256(_mm256_loadu_si256(v + 6), _mm256_loadu_si256(v + 7));

    a = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
    return _mm256_testz_si256(a, a);
}

/* len >= AVX2_CHUNK */
__attribute__((target("avx2"))) static bool is_zero_avx2(const uint8_t *p, size_t len)
{
    const uint8_t *last = p + len - AVX2_CHUNK;

    for (; p < last; p += AVX2_CHUNK)
        if (!is_zero_avx2_chunk(p))
            return false;
    return is_zero_avx2_chunk(last);
}

static inline bool have_avx2(void)
{
    return __builtin_cpu_supports("avx2"); /* a load and a test: nothing to cache */
}
#else
static bool is_zero_avx2(const uint8_t *p, size_t len)
{
    return is_zero_plain(p, len);
}

static inline bool have_avx2(void)
{
    return false;
}
#endif

/* len >= 8.  Data seldom has a zero word at all three places, so most data ends here and costs one
 * cache line. */
static inline bool is_zero_sampled(const uint8_t *p, size_t len)
{
    return !word_at(p) && !word_at(p + (len - 8) / 2) && !word_at(p + len - 8);
}

bool pl_is_zero(const void *buf, size_t len)
{
    const uint8_t *p = buf;

    if (len < PLAIN_CHUNK)
        return is_zero_bytes(p, len);
    if (!is_zero_sampled(p, len))
        return false;
    return len >= AVX2_CHUNK && have_avx2() ? is_zero_avx2(p, len) : is_zero_plain(p, len);
}

size_t pl_zero_run(const void *buf, size_t len, size_t piece, bool *zero)
{
    const uint8_t *p = buf;
    size_t run = piece < len ? piece : len;
    size_t step;

    *zero = pl_is_zero(p, run);
    while (run < len) {
        step = piece < len - run ? piece : len - run;
        if (pl_is_zero(p + run, step) != *zero)
            break;
        run += step;
    }
    return run;
}
