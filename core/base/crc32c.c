/* crc32c.c - the processor's own instruction (SSE4.2) where there is one, else four bits at a time.
 */
#include "core/base/crc32c.h"

#include <string.h>

/* The remainder of each half byte, polynomial 0x1edc6f41 with its bits reversed. */
static const uint32_t nibbles[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

static uint32_t sum_plain(uint32_t sum, const uint8_t *p, size_t len)
{
    for (; len > 0; len--) {
        sum ^= *p++;
        sum = nibbles[sum & 15] ^ sum >> 4;
        sum = nibbles[sum & 15] ^ sum >> 4;
    }
    return sum;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t sum_sse42(uint32_t sum, const uint8_t *p,
                                                            size_t len)
{
    uint64_t wide = sum;

    for (; len >= 8; len -= 8, p += 8) {
        uint64_t word;

        memcpy(&word, p, sizeof word);
        wide = _mm_crc32_u64(wide, word);
    }
    return sum_plain((uint32_t)wide, p, len);
}

static uint32_t sum_of(uint32_t sum, const uint8_t *p, size_t len)
{
    return __builtin_cpu_supports("sse4.2") ? sum_sse42(sum, p, len) : sum_plain(sum, p, len);
}
#else
static uint32_t sum_of(uint32_t sum, const uint8_t *p, size_t len)
{
    return sum_plain(sum, p, len);
}
#endif

uint32_t pl_crc32c(uint32_t before, const void *bytes, size_t len)
{
    return ~sum_of(~before, bytes, len);
}
