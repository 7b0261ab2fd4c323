/* What check finds, and what a repair makes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/formats/vhd/vhd_images.h"

#define SIZE 40960 /* ten blocks of 4 KiB, each full of its number plus one */

static struct pl_storage *numbered(void)
{
    struct rig rig = rig_of(new_vhd("block_size=4k", SIZE, NULL));
    uint8_t bytes[4096];

    OK(rig_open(&rig, &e));
    for (int i = 0; i < SIZE / 4096; i++) {
        memset(bytes, i + 1, sizeof bytes);
        OK(rig_write(&rig, (uint64_t)i * 4096, bytes, sizeof bytes, &e));
    }
    OK(pl_vhd.flush(rig.layer.state, &e));
    rig_close(&rig);
    return rig.st;
}

static uint64_t entry(struct pl_storage *st, unsigned i)
{
    uint8_t raw[4];

    OK(pl_storage_read(st, BAT_AT + 4 * i, raw, 4, &e));
    return load_be32(raw);
}

/* ---- damages ---- */

static void nothing(struct pl_storage *st)
{
    (void)st;
}

static void footer_gone(struct pl_storage *st)
{
    OK(pl_storage_resize(st, pl_storage_size(st) - 512, &e));
}

static void footer_checksum(struct pl_storage *st)
{
    poke(st, pl_storage_size(st) - 512 + VHD_CHECKSUM_AT, 4, 1);
}

static void both_checksums(struct pl_storage *st)
{
    footer_checksum(st);
    poke(st, VHD_CHECKSUM_AT, 4, 1);
}

static void copy_gone(struct pl_storage *st)
{
    poke(st, 0, 4, 0);
}

static void copy_stale(struct pl_storage *st)
{
    poke(st, 24, 4, 77);
    seal(st, 0, VHD_FOOTER_BYTES, VHD_CHECKSUM_AT);
}

static void reserved_bytes_in_copy(struct pl_storage *st)
{
    poke(st, 300, 4, 77);
    seal(st, 0, VHD_FOOTER_BYTES, VHD_CHECKSUM_AT);
    footer_gone(st);
}

static void header_checksum(struct pl_storage *st)
{
    poke(st, HEADER_AT + VHD_HEADER_CHECKSUM_AT, 4, 1);
}

static void past_the_end(struct pl_storage *st)
{
    poke(st, BAT_AT + 4 * 3, 4, 1 << 20);
}

static void over_the_bat(struct pl_storage *st)
{
    poke(st, BAT_AT + 4 * 3, 4, BAT_AT / 512);
}

static void twice(struct pl_storage *st)
{
    poke(st, BAT_AT + 4 * 3, 4, entry(st, 5));
}

static void cut_off(struct pl_storage *st)
{
    OK(pl_storage_resize(st, pl_storage_size(st) - 512 - 1024, &e));
}

static void block_lost(struct pl_storage *st)
{
    poke(st, BAT_AT + 4 * 3, 4, VHD_UNUSED);
}

static const struct row {
    const char *name;
    void (*damage)(struct pl_storage *st);
    unsigned corruptions, leaks;
    int third; /* what block 3 has after the repair */
} rows[] = {
    { "a sound image", nothing, 0, 0, 4 },
    { "a lost footer", footer_gone, 1, 0, 4 },
    { "a footer with a wrong checksum", footer_checksum, 1, 0, 4 },
    { "both footers with wrong checksums", both_checksums, 2, 0, 4 },
    { "a lost copy of the footer", copy_gone, 1, 0, 4 },
    { "a stale copy of the footer", copy_stale, 1, 0, 4 },
    { "a lost footer, and bytes in the copy that nobody knows", reserved_bytes_in_copy, 1, 0, 4 },
    { "a header with a wrong checksum", header_checksum, 1, 0, 4 },
    { "an entry past the end", past_the_end, 1, 1, 0 },
    { "an entry over the BAT", over_the_bat, 1, 1, 0 },
    { "two entries for one place", twice, 1, 1, 6 },
    { "the last block cut off", cut_off, 2, 0, 4 },
    { "a block without an entry", block_lost, 0, 1, 0 },
};

static void check(struct pl_storage *st, enum pl_repair repair, struct pl_check_result *result)
{
    struct rig rig = rig_of(st);

    rig.check_only = true;
    OK(rig_open(&rig, &e));
    OK(rig_check(&rig, repair, result, &e));
    OK(pl_vhd.flush(rig.layer.state, &e));
    rig_close(&rig);
}

/* All blocks but the third and the last have what they had. */
static void check_content(struct pl_storage *st, int third)
{
    struct rig rig = rig_of(st);
    uint8_t bytes[SIZE];

    OK(rig_open(&rig, &e));
    OK(rig_read(&rig, 0, bytes, sizeof bytes, &e));
    for (int i = 0; i < SIZE / 4096 - 1; i++)
        assert_int_equal(bytes[i * 4096 + 4095], i == 3 ? third : i + 1);
    assert_int_equal(bytes[SIZE - 4096], SIZE / 4096);
    OK(rig_write(&rig, 0, bytes, sizeof bytes, &e)); /* it can be written to again */
    rig_close(&rig);
}

static void finds_and_mends(void **state)
{
    const struct row *row = *state;
    struct pl_storage *st = numbered();
    struct pl_check_result result;

    row->damage(st);
    check(st, PL_REPAIR_NONE, &result);
    assert_int_equal(result.corruptions, row->corruptions);
    assert_int_equal(result.leaks, row->leaks);
    assert_int_equal(result.check_errors, 0);
    check(st, PL_REPAIR_ALL, &result);
    assert_int_equal(result.corruptions, 0);
    assert_int_equal(result.leaks, 0);
    assert_int_equal(result.corruptions_fixed, row->corruptions);
    check(st, PL_REPAIR_NONE, &result);
    assert_int_equal(result.corruptions + result.leaks, 0);
    check_content(st, row->third);
    pl_storage_close(st, NULL);
}

static void a_repair_of_leaks_leaves_corruptions_alone(void **state)
{
    struct pl_storage *st = numbered();
    struct pl_check_result result;

    (void)state;
    past_the_end(st);
    check(st, PL_REPAIR_LEAKS, &result);
    assert_int_equal(result.corruptions, 1);
    assert_int_equal(entry(st, 3), 1 << 20);
    pl_storage_close(st, NULL);
}

static void counts_what_is_allocated(void **state)
{
    struct pl_storage *st = numbered();
    struct pl_check_result result;

    (void)state;
    block_lost(st);
    check(st, PL_REPAIR_NONE, &result);
    assert_true(result.has_allocation);
    assert_int_equal(result.total_clusters, 10);
    assert_int_equal(result.allocated_clusters, 9);
    assert_int_equal(result.image_end_offset, pl_storage_size(st) - 512);
    pl_storage_close(st, NULL);
}

/* A small file full of entries for one place must not become a huge one. */
static void nonsense_is_not_copied_a_million_times(void **state)
{
    struct rig rig = rig_of(new_vhd("", 4 * PL_GIB, NULL));
    struct pl_check_result result;
    uint8_t byte = 1;

    (void)state;
    OK(pl_storage_write(rig.st, 32 << 20, &byte, 1, &e));
    rig.check_only = true;
    for (uint64_t at = BAT_AT; at < BAT_AT + 4 * 1000; at += 4)
        poke(rig.st, at, 4, 16384);
    OK(rig_open(&rig, &e));
    FAILS(PL_E_CORRUPT, "blocks in a file of", rig_check(&rig, PL_REPAIR_ALL, &result, &e));
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void a_fixed_disk_has_a_footer_to_check(void **state)
{
    struct pl_storage *st = full_vhd("subformat=fixed", 8192, 3);
    struct pl_check_result result;

    (void)state;
    check(st, PL_REPAIR_NONE, &result);
    assert_int_equal(result.corruptions, 0);
    footer_checksum(st);
    check(st, PL_REPAIR_NONE, &result);
    assert_int_equal(result.corruptions, 1);
    check(st, PL_REPAIR_ALL, &result);
    assert_int_equal(result.corruptions, 0);
    assert_int_equal(result.corruptions_fixed, 1);
    pl_storage_close(st, NULL);
}

int main(void)
{
    const struct CMUnitTest fixed[] = {
        cmocka_unit_test(a_repair_of_leaks_leaves_corruptions_alone),
        cmocka_unit_test(counts_what_is_allocated),
        cmocka_unit_test(nonsense_is_not_copied_a_million_times),
        cmocka_unit_test(a_fixed_disk_has_a_footer_to_check),
    };
    struct CMUnitTest tests[PL_COUNT(rows)];
    int failed = cmocka_run_group_tests_name("vhd check", fixed, NULL, NULL);

    for (size_t i = 0; i < PL_COUNT(rows); i++)
        tests[i] = (struct CMUnitTest){ .name = rows[i].name,
                                        .test_func = finds_and_mends,
                                        .initial_state = (void *)&rows[i] };
    failed += _cmocka_run_group_tests("vhd repairs", tests, PL_COUNT(tests), NULL, NULL);
    return failed;
}
