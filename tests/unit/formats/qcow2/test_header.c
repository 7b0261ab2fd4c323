#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "formats/qcow2/qcow2.h"
#include "tests/support/images.h"

#define SIZE PL_MIB

/* Version 3, clusters of 4 KiB: header 0, refcount table 0x1000, refcount block 0x2000, L1 table
 * 0x3000. */
static struct pl_storage *good(void)
{
    return new_image(&pl_qcow2, "cluster_size=4k", SIZE, "parent.raw");
}

static int try_open(struct pl_storage *st, bool writable, bool check_only, struct pl_err *e)
{
    const struct pl_open_args args = { .file = st, .writable = writable, .check_only = check_only };
    struct pl_layer layer = { 0 };

    if (pl_qcow2.open(&args, &layer, e) < 0)
        return -1;
    close_layer(&pl_qcow2, &layer);
    return 0;
}

/* One field of a good header with another value. */
static const struct damage {
    const char *name;
    uint64_t at;
    unsigned width;
    uint64_t value;
    enum pl_kind kind; /* PL_OK: it opens */
    const char *text;  /* part of the message */
} damages[] = {
    { "another magic is another format", 0, 4, 0x514649fa, PL_E_FORMAT, "magic" },
    { "version 1 is qcow", 4, 4, 1, PL_E_FORMAT, "version 1" },
    { "version 4 is not known", 4, 4, 4, PL_E_UNSUPPORTED, "version 4" },
    { "a backing file name inside the header", 8, 8, 64, PL_E_CORRUPT, "backing file name" },
    { "a backing file name past cluster 0", 8, 8, 4095, PL_E_CORRUPT, "backing file name" },
    { "a backing file name at 2^64 - 1", 8, 8, UINT64_MAX, PL_E_CORRUPT, "backing file name" },
    { "a backing file name of 1024 bytes", 16, 4, 1024, PL_E_LIMIT, "1024" },
    { "a backing file name of 4 GiB", 16, 4, UINT32_MAX, PL_E_LIMIT, "1023" },
    { "an empty backing file name is none", 16, 4, 0, PL_OK, "" },
    { "clusters of 256 bytes", 20, 4, 8, PL_E_CORRUPT, "cluster_bits 8" },
    { "clusters of 4 MiB", 20, 4, 22, PL_E_LIMIT, "cluster_bits 22" },
    { "cluster_bits that would shift too far", 20, 4, UINT32_MAX, PL_E_LIMIT, "cluster_bits" },
    { "a disk of 2^63 bytes", 24, 8, UINT64_C(1) << 63, PL_E_LIMIT, "too big" },
    { "a disk of 2^64 - 1 bytes", 24, 8, UINT64_MAX, PL_E_LIMIT, "too big" },
    { "a disk that the L1 table is too small for", 24, 8, 2 * SIZE + 1, PL_E_CORRUPT, "too small" },
    { "a disk of nothing", 24, 8, 0, PL_OK, "" },
    { "a disk that is no whole number of sectors", 24, 8, SIZE - 1, PL_OK, "" },
    { "AES", 32, 4, 1, PL_E_UNSUPPORTED, "is encrypted (AES)" },
    { "LUKS", 32, 4, 2, PL_E_UNSUPPORTED, "is encrypted (LUKS)" },
    { "an unknown encryption", 32, 4, 3, PL_E_UNSUPPORTED, "crypt_method 3" },
    { "no L1 entries", 36, 4, 0, PL_E_CORRUPT, "too small" },
    { "an L1 table over its limit", 36, 4, 4194305, PL_E_LIMIT, "l1_size" },
    { "an L1 table longer than the file", 36, 4, 4194304, PL_E_CORRUPT, "L1 table" },
    { "an L1 table that is not aligned", 40, 8, 0x3008, PL_E_CORRUPT, "not aligned" },
    { "an L1 table on the header", 40, 8, 0, PL_E_CORRUPT, "header" },
    { "an L1 table past the end", 40, 8, 0x4000, PL_E_CORRUPT, "past the end" },
    { "an L1 table at the end of all", 40, 8, UINT64_MAX << 12, PL_E_CORRUPT, "past the end" },
    { "a refcount table that is not aligned", 48, 8, 0x1200, PL_E_CORRUPT, "not aligned" },
    { "a refcount table past the end", 48, 8, UINT64_C(1) << 40, PL_E_CORRUPT, "past the end" },
    { "no refcount table", 56, 4, 0, PL_E_CORRUPT, "no refcount table" },
    { "a refcount table over its limit", 56, 4, 2049, PL_E_LIMIT, "refcount table" },
    { "a refcount table of 4 Gi clusters", 56, 4, UINT32_MAX, PL_E_LIMIT, "refcount table" },
    { "more snapshots than allowed", 60, 4, 65537, PL_E_LIMIT, "65537" },
    { "snapshots without a table", 60, 4, 1, PL_E_CORRUPT, "snapshot table" },
    { "an unknown incompatible feature", 72, 8, 0x20, PL_E_UNSUPPORTED, "feature bit 5" },
    { "the last incompatible feature", 72, 8, UINT64_C(1) << 63, PL_E_UNSUPPORTED, "bit 63" },
    { "a data file without a name", 72, 8, 4, PL_E_CORRUPT, "does not name it" },
    { "a compression bit without a type", 72, 8, 8, PL_E_CORRUPT, "compression_type 0" },
    { "extended L2 entries in clusters of 4 KiB", 72, 8, 16, PL_E_CORRUPT, "16 KiB" },
    { "the dirty bit stops no reader", 72, 8, 1, PL_OK, "" },
    { "the corrupt bit stops no reader", 72, 8, 2, PL_OK, "" },
    { "unknown compatible features are no matter", 80, 8, UINT64_MAX, PL_OK, "" },
    { "unknown autoclear features are no matter", 88, 8, UINT64_MAX & ~3, PL_OK, "" },
    { "reference counts of 128 bits", 96, 4, 7, PL_E_CORRUPT, "refcount_order 7" },
    { "a shift of 2^32 - 1", 96, 4, UINT32_MAX, PL_E_CORRUPT, "refcount_order" },
    { "a header of version 2's length", 100, 4, 72, PL_E_CORRUPT, "header_length 72" },
    { "a header of odd length", 100, 4, 105, PL_E_CORRUPT, "header_length 105" },
    { "a header longer than a cluster", 100, 4, 4104, PL_E_CORRUPT, "header_length 4104" },
    { "a header as long as all memory", 100, 4, 0xfffffff8, PL_E_CORRUPT, "header_length" },
    { "a compression type without its bit", 104, 1, 1, PL_E_CORRUPT, "compression_type 1" },
    { "an extension longer than the cluster", 116, 4, 4000, PL_E_CORRUPT, "do not fit" },
    { "an extension of 4 GiB", 116, 4, UINT32_MAX, PL_E_CORRUPT, "do not fit" },
};

static void damage_is_named(void **state)
{
    const struct damage *d = *state;
    struct pl_storage *st = good();

    poke(st, d->at, d->width, d->value);
    if (d->kind == PL_OK)
        OK(try_open(st, false, false, &e));
    else
        FAILS(d->kind, d->text, try_open(st, false, false, &e));
    pl_storage_close(st, NULL);
}

static void a_file_that_ends_early_is_refused(void **state)
{
    struct pl_storage *whole = good();
    const uint64_t size = pl_storage_size(whole);

    (void)state;
    for (uint64_t len = 0; len < size; len += len < 700 ? 1 : 512) {
        struct pl_storage *st = memory_copy(whole, len);
        struct pl_err e = { 0 };

        if (try_open(st, false, false, &e) == 0 && len < 0x3000 + 4)
            fail_msg("a file cut to %d bytes opens", (int)len);
        pl_storage_close(st, NULL);
    }
    pl_storage_close(whole, NULL);
}

static void any_byte_may_be_wrong(void **state)
{
    struct pl_storage *whole = good();

    (void)state;
    for (uint64_t at = 0; at < 512; at++)
        for (unsigned value = 0; value < 256; value += 51) {
            struct pl_storage *st = memory_copy(whole, pl_storage_size(whole));
            struct pl_err e = { 0 };

            poke(st, at, 1, value);
            if (try_open(st, false, false, &e) < 0)
                assert_true(e.msg[0] && e.kind != PL_OK);
            pl_storage_close(st, NULL);
        }
    pl_storage_close(whole, NULL);
}

static void version_2_has_a_short_header(void **state)
{
    struct pl_storage *st = new_image(&pl_qcow2, "compat=0.10,cluster_size=512", SIZE, NULL);
    struct pl_layer layer;
    const struct qcow2 *q;

    (void)state;
    poke(st, 80, 8, 0); /* behind the header: the end of the extensions */
    OK(pl_qcow2.open(&(struct pl_open_args){ .file = st }, &layer, &e));
    q = layer.state;
    assert_int_equal(q->header.header_length, 72);
    assert_int_equal(q->refcount_bits, 16);
    assert_int_equal(q->header.incompatible_features, 0);
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static void a_feature_has_the_name_that_the_image_gives_it(void **state)
{
    struct pl_storage *st = new_image(&pl_qcow2, "cluster_size=4k", SIZE, NULL);

    (void)state;
    poke(st, 120 + 1, 1, 9); /* the first row of the table: type 0, bit, name */
    OK(pl_storage_write(st, 122, "sparkling\033[1m", 14, &e));
    poke(st, 72, 8, 1 << 9);
    FAILS(PL_E_UNSUPPORTED, "\"sparkling?[1m\"", try_open(st, false, false, &e));
    pl_storage_close(st, NULL);
}

static void count_warning(void *ctx, const char *message)
{
    assert_non_null(strstr(message, "corrupt"));
    ++*(int *)ctx;
}

static void a_corrupt_image_can_be_read_but_not_written(void **state)
{
    struct pl_storage *st = new_image(&pl_qcow2, "cluster_size=4k", SIZE, NULL);
    int warnings = 0;
    const struct pl_report report = { .ctx = &warnings, .warn = count_warning };
    const struct pl_open_args args = { .file = st, .report = &report };
    struct pl_layer layer;
    struct pl_image_flags flags = { 0 };

    (void)state;
    poke(st, 72, 8, QCOW2_INCOMPAT_CORRUPT);
    FAILS(PL_E_CORRUPT, "marked corrupt", try_open(st, true, false, &e));
    OK(try_open(st, true, true, &e));
    OK(pl_qcow2.open(&args, &layer, &e));
    assert_int_equal(warnings, 1);
    pl_qcow2.flags(layer.state, &flags);
    assert_true(flags.corrupt && !flags.dirty);
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static void a_dirty_image_is_repaired_before_it_is_written(void **state)
{
    struct pl_storage *st = new_image(&pl_qcow2, "lazy_refcounts=on,cluster_size=4k", SIZE, NULL);
    uint8_t features[8];

    (void)state;
    poke(st, 72, 8, QCOW2_INCOMPAT_DIRTY);
    poke(st, 0x2000, 8, 0); /* the counts of the first four clusters */
    OK(try_open(st, false, false, &e));
    OK(pl_storage_read(st, 72, features, 8, &e));
    assert_int_equal(load_be64(features), QCOW2_INCOMPAT_DIRTY);
    OK(try_open(st, true, false, &e));
    OK(pl_storage_read(st, 72, features, 8, &e));
    assert_int_equal(load_be64(features), 0);
    pl_storage_close(st, NULL);
}

static void what_is_not_known_is_written_back(void **state)
{
    struct pl_storage *st = new_image(&pl_qcow2, "cluster_size=4k", SIZE, "parent.raw");
    struct pl_layer layer;
    uint8_t before[4096], after[4096];

    (void)state;
    poke(st, 100, 4, 128); /* a longer header; what lay there moves behind it */
    OK(pl_storage_write(st, 112, "unknown field....", 16, &e));
    poke(st, 128, 8, UINT64_C(0x1234567800000005));
    OK(pl_storage_write(st, 136, "five\377\0\0", 8, &e));
    poke(st, 144, 8, 0);
    OK(pl_storage_write(st, 152, "parent.raw", 10, &e));
    poke(st, 8, 8, 152);
    OK(pl_storage_zero(st, 162, 4096 - 162, &e));
    OK(pl_storage_read(st, 0, before, 4096, &e));
    OK(pl_qcow2.open(&(struct pl_open_args){ .file = st, .writable = true }, &layer, &e));
    assert_string_equal(layer.parent_name, "parent.raw");
    OK(qcow2_write_header(layer.state, &e));
    OK(pl_storage_read(st, 0, after, 4096, &e));
    assert_memory_equal(before, after, 4096);
    close_layer(&pl_qcow2, &layer);
    pl_storage_close(st, NULL);
}

static void the_layout_table_has_no_overlaps(void **state)
{
    (void)state;
    assert_true(pl_fields_apart(qcow2_header_fields));
    assert_true(pl_fields_apart(qcow2_snapshot_entry_fields));
    assert_true(pl_fields_apart(qcow2_bitmap_entry_fields));
    assert_true(pl_fields_apart(qcow2_bitmaps_ext_fields));
    assert_int_equal(pl_fields_end(qcow2_header_fields), 105);
    assert_int_equal(pl_fields_end(qcow2_snapshot_entry_fields), 64);
    assert_int_equal(pl_fields_end(qcow2_bitmap_entry_fields), 24);
    assert_int_equal(pl_fields_end(qcow2_bitmaps_ext_fields), 24);
}

static void the_probe_needs_the_magic_alone(void **state)
{
    static const uint8_t head[] = "QFI\xfb\0\0\0\x09";

    (void)state;
    assert_true(pl_qcow2.probe(&(struct pl_probe){ .head = head, .len = 8 }));
    assert_false(pl_qcow2.probe(&(struct pl_probe){ .head = head, .len = 7 }));
    assert_false(
        pl_qcow2.probe(&(struct pl_probe){ .head = (const uint8_t *)"QFI\xfb\0\0\0\1", .len = 8 }));
    assert_false(
        pl_qcow2.probe(&(struct pl_probe){ .head = (const uint8_t *)"QED\0\0\0\0\2", .len = 8 }));
}

int main(void)
{
    const struct CMUnitTest others[] = {
        cmocka_unit_test(a_file_that_ends_early_is_refused),
        cmocka_unit_test(any_byte_may_be_wrong),
        cmocka_unit_test(version_2_has_a_short_header),
        cmocka_unit_test(a_feature_has_the_name_that_the_image_gives_it),
        cmocka_unit_test(a_corrupt_image_can_be_read_but_not_written),
        cmocka_unit_test(a_dirty_image_is_repaired_before_it_is_written),
        cmocka_unit_test(what_is_not_known_is_written_back),
        cmocka_unit_test(the_layout_table_has_no_overlaps),
        cmocka_unit_test(the_probe_needs_the_magic_alone),
    };
    struct CMUnitTest tests[PL_COUNT(damages) + PL_COUNT(others)];

    for (size_t i = 0; i < PL_COUNT(damages); i++)
        tests[i] = (struct CMUnitTest){ .name = damages[i].name,
                                        .test_func = damage_is_named,
                                        .initial_state = (void *)&damages[i] };
    memcpy(tests + PL_COUNT(damages), others, sizeof others);
    return cmocka_run_group_tests_name("qcow2 header", tests, NULL, NULL);
}
