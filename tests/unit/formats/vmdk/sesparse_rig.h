/* sesparse_rig.h - small seSparse extents in memory.  cmocka.h comes first. */
#ifndef TESTS_UNIT_FORMATS_VMDK_SESPARSE_RIG_H
#define TESTS_UNIT_FORMATS_VMDK_SESPARSE_RIG_H

#include "core/base/checked.h"
#include "formats/vmdk/extent.h"
#include "formats/vmdk/sesparse_layout.h"
#include "tests/support/images.h"

/* Where things are, in bytes.  Tables start off the 4 KiB that the cache keeps at once. */
#define SE_DIRECTORY 1024
#define SE_TABLES (3 * 512)
#define SE_GRAIN 4096
#define SE_SPAN (4096 * SE_GRAIN) /* of one table */

struct se_rig {
    struct pl_storage *file;
    uint64_t tables, grains; /* room for so many in the file */
    uint64_t grains_at;      /* byte offset of the first grain */
};

static inline void se_poke(const struct se_rig *r, uint64_t at, uint64_t value)
{
    uint8_t bytes[8];

    store_le64(bytes, value);
    OK(pl_storage_write(r->file, at, bytes, sizeof bytes, &e));
}

/* A disk of `size` bytes that says nothing, with room for tables and grains. */
static inline struct se_rig se_make(uint64_t size, uint64_t tables, uint64_t grains)
{
    struct se_rig r = { memory(), tables, grains, SE_TABLES + tables * SESPARSE_TABLE };
    const uint64_t header[] = { 0xcafebabe, 0x200000001, size / 512, 8, 64, 0, 0, 0, 0, 0, 1, 1 };

    OK(pl_storage_resize(r.file, r.grains_at + grains * SE_GRAIN, &e));
    for (unsigned i = 0; i < PL_COUNT(header); i++)
        se_poke(&r, 8 * i, header[i]);
    se_poke(&r, 128, SE_DIRECTORY / 512);
    se_poke(&r, 136, 1);
    se_poke(&r, 144, SE_TABLES / 512);
    se_poke(&r, 152, 64 * tables);
    se_poke(&r, 192, r.grains_at / 512);
    se_poke(&r, 200, 8 * grains);
    se_poke(&r, 512, 0xcafecafe);
    return r;
}

/* Directory entry `i` points at table `table`. */
static inline void se_set_table(const struct se_rig *r, uint64_t i, uint64_t table)
{
    se_poke(r, SE_DIRECTORY + 8 * i, UINT64_C(1) << 60 | table);
}

/* Entry `index` of table `table`. */
static inline void se_set_entry(const struct se_rig *r, uint64_t table, uint64_t index,
                                uint64_t entry)
{
    se_poke(r, SE_TABLES + table * SESPARSE_TABLE + 8 * index, entry);
}

/* The entry of grain number `grain` of the file. */
static inline uint64_t se_allocated(uint64_t grain)
{
    return UINT64_C(3) << 60 | (grain & 0xfff) << 48 | grain >> 12;
}

static inline struct vmdk_extent se_open(const struct se_rig *r, uint32_t cache_bytes)
{
    const struct vmdk_extent_args args = { .file = r->file, .cache_bytes = cache_bytes };
    struct vmdk_extent x;

    OK(vmdk_sesparse_open(&args, &x, &e));
    return x;
}

#endif
