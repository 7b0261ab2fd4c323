/* extents.h - what the tests of sparse extents share: extents in memory, little-endian pokes.
 * cmocka.h comes first. */
#ifndef TESTS_UNIT_FORMATS_VMDK_EXTENTS_H
#define TESTS_UNIT_FORMATS_VMDK_EXTENTS_H

#include "core/base/checked.h"
#include "formats/vmdk/layout.h"
#include "tests/support/images.h"
#include "tests/support/extent_driver.h"

#define GRAIN 4096
#define SPAN (512 * GRAIN) /* of a hosted grain table */

/* Where a new hosted extent of one grain table without a descriptor has what. */
#define RGD 512
#define RGT 1024
#define GD 3072
#define GT 3584
#define DATA 8192

/* Where a new COWD extent has its directory, and its first table. */
#define COWD_GD 2048
#define COWD_GT 2560

static inline struct pl_storage *new_extent(struct vmdk_sparse_new what)
{
    struct pl_storage *st = memory();

    OK(vmdk_sparse_create(st, &what, &e));
    return st;
}

static inline struct pl_storage *new_hosted(uint64_t size)
{
    return new_extent((struct vmdk_sparse_new){ .size = size, .grain_size = GRAIN });
}

static inline struct pl_storage *new_cowd(uint64_t size, uint64_t grain_size)
{
    return new_extent(
        (struct vmdk_sparse_new){ .size = size, .grain_size = grain_size, .cowd = true });
}

/* Overwrites `width` bytes at `at` with a little-endian number. */
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

/* Opens, maps [at, at + len), closes. */
static inline int map_once(struct pl_storage *st, uint64_t at, uint64_t len, struct pl_extent *x,
                           struct pl_err *e)
{
    struct rig rig = { .driver = &extent_driver, .st = st, .read_only = true };
    int r = rig_open(&rig, e);

    if (r == 0) {
        r = extent_driver.map(rig.layer.state, at, len, x, e);
        rig_close(&rig);
    }
    return r;
}

/* Fills a buffer with bytes that depend on `seed` and the place. */
static inline void noise(uint8_t *buf, uint64_t len, uint64_t seed)
{
    for (uint64_t i = 0; i < len; i++)
        buf[i] = (uint8_t)((i + seed * 977) * UINT64_C(0x9e3779b97f4a7c15) >> 56 | 1);
}

static inline void write_noise(struct rig *rig, uint64_t at, uint64_t len, uint64_t seed)
{
    uint8_t *buf = malloc(len);

    noise(buf, len, seed);
    OK(rig_write(rig, at, buf, len, &e));
    free(buf);
}

static inline void has_noise(struct rig *rig, uint64_t at, uint64_t len, uint64_t seed)
{
    uint8_t *want = malloc(len), *got = malloc(len);

    noise(want, len, seed);
    OK(rig_read(rig, at, got, len, &e));
    assert_memory_equal(want, got, len);
    free(want);
    free(got);
}

static inline void has_zeros(struct rig *rig, uint64_t at, uint64_t len)
{
    uint8_t *want = calloc(1, len), *got = malloc(len);

    OK(rig_read(rig, at, got, len, &e));
    assert_memory_equal(want, got, len);
    free(want);
    free(got);
}

static inline void flush_extent(struct rig *rig)
{
    OK(extent_driver.flush(rig->layer.state, &e));
}

/* Flushes, closes, opens again. */
static inline void reopen(struct rig *rig)
{
    flush_extent(rig);
    rig_close(rig);
    OK(rig_open(rig, &e));
}

static inline struct pl_check_result checked(struct rig *rig, enum pl_repair repair)
{
    struct pl_check_result result;

    OK(rig_check(rig, repair, &result, &e));
    return result;
}

/* Nothing is wrong and nothing is lost. */
static inline void is_sound(struct rig *rig)
{
    struct pl_check_result r = checked(rig, PL_REPAIR_NONE);

    assert_int_equal(r.corruptions, 0);
    assert_int_equal(r.check_errors, 0);
    assert_int_equal(r.leaks, 0);
}

#endif
