/* units.h - what the codec tests pack: units of several kinds, the same on every run. */
#ifndef TESTS_UNIT_CODEC_UNITS_H
#define TESTS_UNIT_CODEC_UNITS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static const size_t unit_sizes[] = { 512, 4096, 32768, 65536, 262144, 2097152 };

enum unit_kind { UNIT_ZEROS, UNIT_TEXT, UNIT_RECORDS, UNIT_FAR, UNIT_NOISE, UNIT_KINDS };

static inline uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static inline void fill_noise(uint8_t *to, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)(next_random(&seed) >> 32);
}

/* Few words in random order. */
static inline void fill_text(uint8_t *to, size_t len, uint64_t seed)
{
    static const char words[][8] = { "cluster", "grain  ", "block\n ", "sector ",
                                     "header ", "footer ", "extent ",  "parent " };

    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)words[i % 7 ? seed % 8 : next_random(&seed) % 8][i % 7];
}

/* Eight bytes that count, eight that jump. */
static inline void fill_records(uint8_t *to, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++)
        to[i] = i % 16 < 8 ? (uint8_t)(i >> (i % 8)) : (uint8_t)(next_random(&seed) >> 40);
}

/* Noise that repeats itself from far away: each 512 bytes come again up to 32 KiB later. */
static inline void fill_far(uint8_t *to, size_t len, uint64_t seed)
{
    static const size_t back[] = { 4096, 5000, 8192, 20000, 31000, 32768 };

    fill_noise(to, len, seed);
    for (size_t at = 512; at + 512 <= len; at += 512) {
        size_t distance = back[next_random(&seed) % 6];

        if (distance <= at && next_random(&seed) % 8)
            memcpy(to + at, to + at - distance, 512);
    }
}

static inline void fill_unit(uint8_t *to, size_t len, enum unit_kind kind, uint64_t seed)
{
    switch (kind) {
    case UNIT_TEXT:
        fill_text(to, len, seed);
        break;
    case UNIT_RECORDS:
        fill_records(to, len, seed);
        break;
    case UNIT_FAR:
        fill_far(to, len, seed);
        break;
    case UNIT_NOISE:
        fill_noise(to, len, seed);
        break;
    default:
        memset(to, 0, len);
    }
}

#endif
