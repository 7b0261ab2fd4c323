/* edit.h - new images in memory, and changes of their structures with the checksums made right.
 * cmocka.h comes first. */
#ifndef TESTS_UNIT_FORMATS_VHDX_EDIT_H
#define TESTS_UNIT_FORMATS_VHDX_EDIT_H

#include "core/base/checked.h"
#include "core/base/crc32c.h"
#include "formats/vhdx/layout.h"
#include "tests/support/images.h"
#include "tests/support/rig.h"

/* Where create.c puts things: log, metadata, BAT, blocks. */
#define LOG_AT PL_MIB
#define METADATA_AT (2 * PL_MIB)
#define BAT_AT (3 * PL_MIB)
#define DATA_AT (4 * PL_MIB)

/* What the parent of a differencing disk is known by in these tests. */
#define VHDX_PARENT "uuid:83ed0ec3-24c8-49a6-a959-5e4bf1288bfb"

static inline void poke_le(struct pl_storage *st, uint64_t at, unsigned width, uint64_t value)
{
    uint8_t bytes[8];

    store_le64(bytes, value);
    OK(pl_storage_write(st, at, bytes, width, &e));
}

static inline uint64_t peek_le(struct pl_storage *st, uint64_t at, unsigned width)
{
    uint8_t bytes[8] = { 0 };

    OK(pl_storage_read(st, at, bytes, width, &e));
    return load_le64(bytes);
}

/* Makes the checksum at `at` + 4 that of the `len` bytes from `at` on. */
static inline void sum_again(struct pl_storage *st, uint64_t at, size_t len)
{
    uint8_t *raw = malloc(len);

    OK(pl_storage_read(st, at, raw, len, &e));
    memset(raw + VHDX_CHECKSUM_AT, 0, 4);
    poke_le(st, at + VHDX_CHECKSUM_AT, 4, pl_crc32c(0, raw, len));
    free(raw);
}

static inline void sum_all(struct pl_storage *st)
{
    for (unsigned i = 0; i < 2; i++) {
        sum_again(st, VHDX_HEADER_AT(i), VHDX_HEADER_BYTES);
        sum_again(st, VHDX_REGION_TABLE_AT(i), VHDX_REGION_TABLE_BYTES);
    }
}

/* A field of both headers, or of both region tables. */
static inline void poke_headers(struct pl_storage *st, uint64_t at, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < 2; i++)
        poke_le(st, VHDX_HEADER_AT(i) + at, width, value);
    sum_all(st);
}

static inline void poke_regions(struct pl_storage *st, uint64_t at, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < 2; i++)
        poke_le(st, VHDX_REGION_TABLE_AT(i) + at, width, value);
    sum_all(st);
}

/* A new image in memory. */
static inline struct rig new_rig(const char *options, uint64_t size, const uint8_t *parent,
                                 uint64_t parent_len)
{
    struct rig rig = { .driver = &pl_vhdx,
                       .st = memory(),
                       .parent = parent,
                       .parent_len = parent_len,
                       .parent_identity = VHDX_PARENT };

    OK(rig_create(&rig, options, size, &e));
    return rig;
}

/* Opens and closes; what opening says. */
static inline int try_open(struct pl_storage *st, bool writable, struct pl_err *e)
{
    struct rig rig = { .driver = &pl_vhdx, .st = st, .read_only = !writable };

    if (rig_open(&rig, e) < 0)
        return -1;
    rig_close(&rig);
    return 0;
}

/* The header that counts. */
static inline unsigned newer_header(struct pl_storage *st)
{
    return peek_le(st, VHDX_HEADER_AT(1) + 8, 8) > peek_le(st, VHDX_HEADER_AT(0) + 8, 8);
}

#endif
