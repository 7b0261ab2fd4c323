#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/graph/image.h"
#include "formats/qcow2/tables.h"
#include "tests/support/env.h"
#include "tests/support/images.h"

/* Clusters of 4 KiB: L1 table at 0x3000; the snapshot table and what it names are put behind. */
#define TABLE 0x4000
#define SNAPSHOT_L1 0x6000
#define SIZE (2 * PL_MIB)

/* Writes an entry at `at` and returns where the next one goes. */
static uint64_t put_entry(struct pl_storage *st, uint64_t at, const char *id, const char *name,
                          uint32_t extra)
{
    const size_t id_len = strlen(id), name_len = strlen(name);

    poke(st, at, 8, SNAPSHOT_L1);
    poke(st, at + 8, 4, 1);
    poke(st, at + 12, 2, id_len);
    poke(st, at + 14, 2, name_len);
    poke(st, at + 16, 4, 1700000000);
    poke(st, at + 20, 4, 5);
    poke(st, at + 24, 8, 77);
    poke(st, at + 32, 4, 1000);
    poke(st, at + 36, 4, extra);
    if (extra >= 8)
        poke(st, at + 40, 8, UINT64_C(5) << 32);
    if (extra >= 16)
        poke(st, at + 48, 8, PL_MIB);
    if (extra >= 24)
        poke(st, at + 56, 8, 9);
    at += 40 + extra;
    OK(pl_storage_write(st, at, id, id_len, &e));
    OK(pl_storage_write(st, at + id_len, name, name_len, &e));
    return pl_round_up(at + id_len + name_len, 8);
}

static struct pl_storage *with_snapshots(void)
{
    struct pl_storage *st = new_image(&pl_qcow2, "cluster_size=4k", SIZE, NULL);
    uint64_t at = TABLE;

    OK(pl_storage_resize(st, 0x10000, &e));
    at = put_entry(st, at, "1", "first", 0);
    at = put_entry(st, at, "2", "1", 16);
    put_entry(st, at, "3", "third", 40);
    poke(st, 60, 4, 3);
    poke(st, 64, 8, TABLE);
    return st;
}

static int open_snapshot(struct pl_storage *st, const char *snapshot, struct pl_layer *layer,
                         struct pl_err *e)
{
    return pl_qcow2.open(&(struct pl_open_args){ .file = st, .snapshot = snapshot }, layer, e);
}

static void entries_of_any_age_are_listed(void **state)
{
    struct pl_storage *st = with_snapshots();
    struct pl_snapshot *list;
    struct pl_layer layer;
    size_t count;

    (void)state;
    OK(open_snapshot(st, NULL, &layer, &e));
    OK(pl_qcow2.snapshots(layer.state, &list, &count, &e));
    assert_int_equal(count, 3);
    assert_string_equal(list[0].name, "first");
    assert_int_equal(list[0].vm_state_size, 1000);
    assert_int_equal(list[0].disk_size, SIZE);
    assert_true(list[0].icount == UINT64_MAX);
    assert_int_equal(list[1].disk_size, PL_MIB);
    assert_true(list[1].icount == UINT64_MAX);
    assert_int_equal(list[2].vm_state_size, UINT64_C(5) << 32);
    assert_int_equal(list[2].icount, 9);
    assert_int_equal(list[2].date_sec, 1700000000);
    assert_int_equal(list[2].vm_clock_nsec, 77);
    assert_string_equal(list[2].id, "3");
    free(list);
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static void an_id_goes_before_a_name(void **state)
{
    struct pl_storage *st = with_snapshots();
    struct pl_layer layer;

    (void)state;
    OK(open_snapshot(st, "1", &layer, &e));
    assert_int_equal(layer.size, SIZE);
    close_layer(&pl_qcow2, &layer);
    OK(open_snapshot(st, "third", &layer, &e));
    assert_int_equal(layer.size, PL_MIB);
    close_layer(&pl_qcow2, &layer);
    FAILS(PL_E_NOT_FOUND, "'fourth'", open_snapshot(st, "fourth", &layer, &e));
    pl_storage_close(st, NULL);
}

static const struct damage {
    const char *name;
    uint64_t at;
    unsigned width;
    uint64_t value;
    enum pl_kind kind;
    const char *text;
} damages[] = {
    { "too much extra data", TABLE + 36, 4, 1025, PL_E_LIMIT, "extra data" },
    { "extra data without end", TABLE + 36, 4, UINT32_MAX, PL_E_LIMIT, "extra data" },
    { "an entry that leaves the file", TABLE + 12, 2, 0xffff, PL_E_CORRUPT, "ends inside" },
    { "a table on the header", 64, 8, 0, PL_E_CORRUPT, "header" },
    { "a table that is not aligned", 64, 8, TABLE + 8, PL_E_CORRUPT, "aligned" },
    { "a table past the end", 64, 8, 0x10000, PL_E_CORRUPT, "past the end" },
    { "more entries than the file can hold", 60, 4, 65536, PL_E_CORRUPT, "past the end" },
    { "an L1 table that is not aligned", TABLE, 8, SNAPSHOT_L1 + 1, PL_E_CORRUPT, "L1 table" },
    { "an L1 table past the end", TABLE, 8, 0x10000, PL_E_CORRUPT, "past the end" },
    { "an L1 table over its limit", TABLE + 8, 4, UINT32_MAX, PL_E_LIMIT, "L1 table" },
    { "an L1 table that is too small", TABLE + 8, 4, 0, PL_E_CORRUPT, "too small" },
};

static void damage_is_named(void **state)
{
    const struct damage *d = *state;
    struct pl_storage *st = with_snapshots();
    struct pl_layer layer;

    poke(st, d->at, d->width, d->value);
    FAILS(d->kind, d->text, open_snapshot(st, "first", &layer, &e));
    pl_storage_close(st, NULL);
}

/* ---- bitmaps: directory at 0x4000, bitmap table at 0x5000, bits at 0x6000 ---- */
static struct pl_storage *with_bitmap(void)
{
    struct pl_storage *st = new_image(&pl_qcow2, "cluster_size=4k", 64 * PL_MIB, NULL);

    OK(pl_storage_resize(st, 0x10000, &e));
    poke(st, 88, 8, QCOW2_AUTOCLEAR_BITMAPS);
    poke(st, 112, 8, (uint64_t)QCOW2_EXT_BITMAPS << 32 | 24); /* over the names of features */
    poke(st, 120, 4, 1);
    poke(st, 124, 4, 0);
    poke(st, 128, 8, 32);
    poke(st, 136, 8, 0x4000);
    poke(st, 144, 8, 0);
    poke(st, 0x4000, 8, 0x5000);
    poke(st, 0x4008, 4, 4); /* 64 MiB in steps of 512: 131072 bits, four clusters */
    poke(st, 0x400c, 4, QCOW2_BITMAP_AUTO);
    poke(st, 0x4010, 4, 0x01090004);
    poke(st, 0x4014, 4, 0);
    OK(pl_storage_write(st, 0x4018, "dirt", 4, &e));
    poke(st, 0x5000, 8, 0x6000);
    poke(st, 0x5008, 8, QCOW2_BITMAP_ALL_ONES);
    poke(st, 0x6000, 8, UINT64_C(0x0102030405060708));
    return st;
}

#define BITS (131072 / 8)

static int load(struct pl_storage *st, const char *name, size_t len, uint8_t *bits,
                struct pl_err *e)
{
    struct pl_layer layer;
    int result;

    if (open_snapshot(st, NULL, &layer, e) < 0)
        return -1;
    result = pl_qcow2.bitmap_load(layer.state, name, bits, len, e);
    close_layer(&pl_qcow2, &layer);
    return result;
}

static void bits_come_from_clusters_and_from_flags(void **state)
{
    struct pl_storage *st = with_bitmap();
    uint8_t *bits = malloc(BITS);

    (void)state;
    OK(load(st, "dirt", BITS, bits, &e));
    assert_int_equal(load_be64(bits), UINT64_C(0x0102030405060708));
    assert_int_equal(bits[4095], 0);
    assert_int_equal(bits[4096], 0xff);
    assert_int_equal(bits[8191], 0xff);
    assert_int_equal(bits[8192], 0);
    FAILS(PL_E_INVALID, "instead of", load(st, "dirt", BITS - 1, bits, &e));
    FAILS(PL_E_NOT_FOUND, "'dust'", load(st, "dust", BITS, bits, &e));
    free(bits);
    pl_storage_close(st, NULL);
}

static void bits_past_the_end_are_zero(void **state)
{
    struct pl_storage *st = with_bitmap();
    uint8_t bits[2];

    (void)state;
    poke(st, 24, 8, 512 * 11); /* a smaller disk: eleven bits */
    poke(st, 0x4008, 4, 1);
    poke(st, 0x5000, 8, QCOW2_BITMAP_ALL_ONES);
    OK(load(st, "dirt", 2, bits, &e));
    assert_int_equal(bits[0], 0xff);
    assert_int_equal(bits[1], 0x07);
    pl_storage_close(st, NULL);
}

static void stale_bitmaps_are_not_listed(void **state)
{
    struct pl_storage *st = with_bitmap();
    struct pl_bitmap *list;
    struct pl_layer layer;
    size_t count;

    (void)state;
    OK(open_snapshot(st, NULL, &layer, &e));
    OK(pl_qcow2.bitmaps(layer.state, &list, &count, &e));
    assert_int_equal(count, 1);
    assert_string_equal(list->name, "dirt");
    assert_int_equal(list->granularity, 512);
    assert_true(list->enabled && !list->in_use);
    free(list);
    close_layer(&pl_qcow2, &layer);
    poke(st, 88, 8, 0);
    OK(open_snapshot(st, NULL, &layer, &e));
    OK(pl_qcow2.bitmaps(layer.state, &list, &count, &e));
    assert_int_equal(count, 0);
    assert_null(list);
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static const struct damage bitmap_damages[] = {
    { "an extension of another length", 116, 4, 16, PL_E_CORRUPT, "16 bytes" },
    { "no bitmaps", 120, 4, 0, PL_E_CORRUPT, "no bitmaps" },
    { "more bitmaps than allowed", 120, 4, 65536, PL_E_LIMIT, "65536" },
    { "more bitmaps than the directory holds", 120, 4, 2, PL_E_CORRUPT, "directory" },
    { "a directory of 2^64 - 8 bytes", 128, 8, UINT64_MAX - 7, PL_E_LIMIT, "directory" },
    { "a directory past the end", 136, 8, 0x10000, PL_E_CORRUPT, "past the end" },
    { "a directory that is not aligned", 136, 8, 0x4008, PL_E_CORRUPT, "aligned" },
    { "reserved flags", 0x400c, 4, 8, PL_E_CORRUPT, "reserved" },
    { "a bitmap in use", 0x400c, 4, 1, PL_E_CORRUPT, "not written back" },
    { "another type", 0x4010, 1, 2, PL_E_UNSUPPORTED, "not supported" },
    { "a granularity of 2^64", 0x4011, 1, 64, PL_E_CORRUPT, "granularity_bits" },
    { "a granularity of one byte", 0x4011, 1, 0, PL_E_UNSUPPORTED, "not supported" },
    { "no name", 0x4012, 2, 0, PL_E_LIMIT, "name" },
    { "a name of 1024 bytes", 0x4012, 2, 1024, PL_E_LIMIT, "name" },
    { "a name past the directory", 0x4012, 2, 9, PL_E_CORRUPT, "ends inside" },
    { "extra data past the directory", 0x4014, 4, UINT32_MAX, PL_E_CORRUPT, "ends inside" },
    { "a table over its limit", 0x4008, 4, UINT32_MAX, PL_E_LIMIT, "table" },
    { "a table of another size", 0x4008, 4, 3, PL_E_UNSUPPORTED, "not supported" },
    { "a table that is not aligned", 0x4000, 8, 0x5001, PL_E_CORRUPT, "aligned" },
    { "a table entry that is not aligned", 0x5000, 8, 0x6200, PL_E_CORRUPT, "malformed" },
    { "a table entry with reserved bits", 0x5000, 8, 0x6002, PL_E_CORRUPT, "malformed" },
    { "ones that have a place", 0x5000, 8, 0x6001, PL_E_CORRUPT, "malformed" },
    { "bits past the end", 0x5000, 8, 0x10000, PL_E_CORRUPT, "past the end" },
};

static void bitmap_damage_is_named(void **state)
{
    const struct damage *d = *state;
    struct pl_storage *st = with_bitmap();
    uint8_t *bits = malloc(BITS);

    poke(st, d->at, d->width, d->value);
    FAILS(d->kind, d->text, load(st, "dirt", BITS, bits, &e));
    free(bits);
    pl_storage_close(st, NULL);
}

/* ---- an image by qemu-img ---- */
static void qemu_img_s_snapshots_and_bitmaps_are_found(void **state)
{
    char *path = test_tmp("made.qcow2");
    const struct pl_open_options options = { .snapshot = "one" };
    struct pl_image *img;
    struct pl_snapshot *snapshots;
    struct pl_bitmap *bitmaps;
    uint8_t byte;
    size_t count;

    (void)state;
    if (!has_program("qemu-img") || !has_program("qemu-io"))
        TEST_SKIP("qemu-img or qemu-io is not installed");
    assert_int_equal(run_quietly("qemu-img create -f qcow2 '%s' 1M && "
                                 "qemu-io -f qcow2 -c 'write -P 17 0 64k' '%s' && "
                                 "qemu-img snapshot -c one '%s' && "
                                 "qemu-img bitmap --add -g 128k '%s' b && "
                                 "qemu-io -f qcow2 -c 'write -P 34 0 64k' '%s'",
                                 path, path, path, path, path),
                     0);
    OK(pl_open(path, &options, &img, &e));
    OK(pl_read(img, 0, &byte, 1, &e));
    assert_int_equal(byte, 17);
    OK(pl_close(img, &e));
    OK(pl_open(path, NULL, &img, &e));
    OK(pl_read(img, 0, &byte, 1, &e));
    assert_int_equal(byte, 34);
    OK(pl_snapshots(img, &snapshots, &count, &e));
    assert_int_equal(count, 1);
    assert_string_equal(snapshots->name, "one");
    assert_int_equal(snapshots->disk_size, PL_MIB);
    OK(pl_bitmaps(img, &bitmaps, &count, &e));
    assert_int_equal(count, 1);
    assert_int_equal(bitmaps->granularity, 128 * PL_KIB);
    free(snapshots);
    free(bitmaps);
    OK(pl_close(img, &e));
    free(path);
}

int main(void)
{
    const struct CMUnitTest others[] = {
        cmocka_unit_test(entries_of_any_age_are_listed),
        cmocka_unit_test(an_id_goes_before_a_name),
        cmocka_unit_test(bits_come_from_clusters_and_from_flags),
        cmocka_unit_test(bits_past_the_end_are_zero),
        cmocka_unit_test(stale_bitmaps_are_not_listed),
        cmocka_unit_test(qemu_img_s_snapshots_and_bitmaps_are_found),
    };
    struct CMUnitTest tests[PL_COUNT(damages) + PL_COUNT(bitmap_damages) + PL_COUNT(others)];
    struct CMUnitTest *t = tests;

    for (size_t i = 0; i < PL_COUNT(damages); i++)
        *t++ = (struct CMUnitTest){ damages[i].name, damage_is_named, NULL, NULL,
                                    (void *)&damages[i] };
    for (size_t i = 0; i < PL_COUNT(bitmap_damages); i++)
        *t++ = (struct CMUnitTest){ bitmap_damages[i].name, bitmap_damage_is_named, NULL, NULL,
                                    (void *)&bitmap_damages[i] };
    memcpy(t, others, sizeof others);
    return cmocka_run_group_tests_name("qcow2 snapshots and bitmaps", tests, NULL, NULL);
}
