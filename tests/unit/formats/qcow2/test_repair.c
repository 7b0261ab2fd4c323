/* Repairs of single defects: what they mend, and what they must leave alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "formats/qcow2/change.h"
#include "tests/support/env.h"
#include "tests/support/rig.h"

#define CLUSTER 4096u
#define SIZE (UINT64_C(1) << 20)
#define LIMIT (1 << 26)
#define INCOMPATIBLE_AT 72 /* of the header */

static void count_warning(void *ctx, const char *message)
{
    (void)message;
    ++*(unsigned *)ctx;
}

/* An image whose first half has bytes. */
static struct pl_storage *make_image(void)
{
    struct rig rig = { .driver = &pl_qcow2 };
    uint8_t *bytes = malloc(SIZE / 2);
    struct pl_err e;

    memset(bytes, 0x11, SIZE / 2);
    must(pl_memory_storage(NULL, 0, LIMIT, &rig.st, &e), &e);
    must(rig_create(&rig, "cluster_size=4k", SIZE, &e), &e);
    must(rig_open(&rig, &e), &e);
    must(rig_write(&rig, 0, bytes, SIZE / 2, &e), &e);
    must(pl_qcow2.flush(rig.layer.state, &e), &e);
    rig_close(&rig);
    free(bytes);
    return rig.st;
}

static uint64_t load_number(struct pl_storage *st, uint64_t at)
{
    uint8_t raw[8];
    struct pl_err e;

    must(pl_storage_read(st, at, raw, sizeof raw, &e), &e);
    return load_be64(raw);
}

static void store_number(struct pl_storage *st, uint64_t at, uint64_t value)
{
    uint8_t raw[8];
    struct pl_err e;

    store_be64(raw, value);
    must(pl_storage_write(st, at, raw, sizeof raw, &e), &e);
}

/* Sets the count of a cluster; the image has one refcount block. */
static void store_count(struct pl_storage *st, uint64_t cluster, uint16_t count)
{
    uint64_t block = load_number(st, load_number(st, 48));
    uint8_t raw[2];
    struct pl_err e;

    store_be16(raw, count);
    must(pl_storage_write(st, block + 2 * cluster, raw, sizeof raw, &e), &e);
}

static struct pl_check_result check(struct pl_storage *st, enum pl_repair repair)
{
    struct rig rig = { .driver = &pl_qcow2, .st = st, .check_only = true };
    struct pl_check_result result;
    struct pl_err e;

    must(rig_open(&rig, &e), &e);
    must(rig_check(&rig, repair, &result, &e), &e);
    rig_close(&rig);
    return result;
}

static void assert_content(struct pl_storage *st, uint64_t at, uint64_t len, int byte)
{
    struct rig rig = { .driver = &pl_qcow2, .st = st };
    uint8_t *bytes = malloc(len);
    struct pl_err e;

    must(rig_open(&rig, &e), &e);
    must(rig_read(&rig, at, bytes, len, &e), &e);
    for (uint64_t i = 0; i < len; i++)
        assert_int_equal(bytes[i], byte);
    rig_close(&rig);
    free(bytes);
}

static void leaks_alone_are_mended_by_leaks(void **state)
{
    struct pl_storage *st = make_image();
    uint64_t last = pl_storage_size(st) / CLUSTER - 1;
    struct pl_check_result result;

    (void)state;
    store_count(st, last, 0);
    store_count(st, 0, 3);
    result = check(st, PL_REPAIR_LEAKS);
    assert_int_equal(result.leaks_fixed, 1);
    assert_int_equal(result.leaks, 0);
    assert_true(result.corruptions > 0);
    result = check(st, PL_REPAIR_ALL);
    assert_int_equal(result.corruptions, 0);
    assert_true(result.corruptions_fixed > 0);
    assert_content(st, 0, SIZE / 2, 0x11);
    pl_storage_close(st, NULL);
}

static void a_corrupt_image_is_not_written_to_before_it_is_repaired(void **state)
{
    struct pl_storage *st = make_image();
    struct rig rig = { .driver = &pl_qcow2, .st = st };
    struct pl_err e;

    (void)state;
    store_number(st, INCOMPATIBLE_AT, QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DIRTY);
    assert_int_equal(rig_open(&rig, &e), -1);
    assert_int_equal(e.kind, PL_E_CORRUPT);
    check(st, PL_REPAIR_NONE);
    assert_int_equal(load_number(st, INCOMPATIBLE_AT),
                     QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DIRTY);
    check(st, PL_REPAIR_ALL);
    assert_int_equal(load_number(st, INCOMPATIBLE_AT), 0);
    assert_content(st, 0, SIZE / 2, 0x11);
    pl_storage_close(st, NULL);
}

static void counts_of_a_dirty_image_are_made_anew_by_opening_it(void **state)
{
    struct pl_storage *st = make_image();
    unsigned warnings = 0;
    const struct pl_report report = { .ctx = &warnings, .warn = count_warning };
    struct rig rig = { .driver = &pl_qcow2, .st = st, .report = &report };
    struct pl_check_result result;
    struct pl_err e;

    (void)state;
    store_number(st, INCOMPATIBLE_AT, QCOW2_INCOMPAT_DIRTY);
    for (uint64_t i = 5; i < 40; i++)
        store_count(st, i, 0);
    must(rig_open(&rig, &e), &e);
    assert_true(warnings > 0);
    must(rig_check(&rig, PL_REPAIR_NONE, &result, &e), &e);
    assert_int_equal(result.corruptions + result.leaks, 0);
    rig_close(&rig);
    assert_int_equal(load_number(st, INCOMPATIBLE_AT), 0);
    pl_storage_close(st, NULL);
}

static void a_refcount_table_that_is_gone_is_made_anew(void **state)
{
    static const uint64_t places[] = { 0x123456789000, 100, 0 };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(places); i++) {
        struct pl_storage *st = make_image();
        struct pl_check_result result;

        store_number(st, 48, places[i]);
        result = check(st, PL_REPAIR_NONE);
        assert_true(result.corruptions > 0);
        check(st, PL_REPAIR_ALL);
        result = check(st, PL_REPAIR_NONE);
        assert_int_equal(result.corruptions + result.leaks + result.check_errors, 0);
        assert_content(st, 0, SIZE / 2, 0x11);
        pl_storage_close(st, NULL);
    }
}

static void entries_past_the_end_become_zeros(void **state)
{
    struct pl_storage *st = make_image();
    uint64_t l2 = load_number(st, load_number(st, 40)) & QCOW2_OFFSET_MASK;
    struct pl_check_result result;

    (void)state;
    store_number(st, l2 + 8 * 3, UINT64_C(0x100000000000) | QCOW2_COPIED);
    result = check(st, PL_REPAIR_ALL);
    assert_int_equal(result.corruptions + result.leaks, 0);
    assert_content(st, 0, 3 * CLUSTER, 0x11);
    assert_content(st, 3 * CLUSTER, CLUSTER, 0);
    assert_content(st, 4 * CLUSTER, SIZE / 2 - 4 * CLUSTER, 0x11);
    pl_storage_close(st, NULL);
}

static void an_l1_entry_into_other_tables_harms_them_not(void **state)
{
    struct pl_storage *st = make_image();
    uint64_t l1 = load_number(st, 40), size = pl_storage_size(st);
    struct pl_check_result result;
    uint8_t *before = malloc(size), *after = malloc(size);
    struct pl_err e;

    (void)state;
    /* One table describes 2 MiB, so a longer L1 table has entries behind the disk's end. */
    must(pl_storage_read(st, 0, before, size, &e), &e);
    store_number(st, 36, (UINT64_C(2) << 32) | load_be32(before + 40));
    store_number(st, l1 + 8, l1 | QCOW2_COPIED);
    result = check(st, PL_REPAIR_NONE);
    assert_true(result.corruptions > 0);
    check(st, PL_REPAIR_ALL);
    result = check(st, PL_REPAIR_NONE);
    assert_int_equal(result.corruptions + result.leaks, 0);
    must(pl_storage_read(st, 0, after, size, &e), &e);
    assert_memory_equal(before + l1, after + l1, CLUSTER);
    assert_content(st, 0, SIZE / 2, 0x11);
    free(before);
    free(after);
    pl_storage_close(st, NULL);
}

static void what_cannot_be_followed_is_not_freed(void **state)
{
    struct pl_storage *st = make_image();
    struct pl_check_result before, after;
    uint64_t table;
    struct pl_err e;

    (void)state;
    if (!has_program("qemu-img"))
        TEST_SKIP("no qemu-img to take a snapshot with");
    must(rig_take_snapshot(&st, "one", LIMIT, &e), &e);
    /* The snapshot's L1 table is nowhere: its clusters look lost, but are not. */
    table = load_number(st, 64);
    store_number(st, table, UINT64_C(0x7f0000000000));
    before = check(st, PL_REPAIR_NONE);
    assert_true(before.corruptions > 0 && before.leaks > 0);
    after = check(st, PL_REPAIR_ALL);
    assert_int_equal(after.leaks, before.leaks);
    assert_int_equal(after.leaks_fixed, 0);
    assert_content(st, 0, SIZE / 2, 0x11);
    pl_storage_close(st, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaks_alone_are_mended_by_leaks),
        cmocka_unit_test(a_corrupt_image_is_not_written_to_before_it_is_repaired),
        cmocka_unit_test(counts_of_a_dirty_image_are_made_anew_by_opening_it),
        cmocka_unit_test(a_refcount_table_that_is_gone_is_made_anew),
        cmocka_unit_test(entries_past_the_end_become_zeros),
        cmocka_unit_test(an_l1_entry_into_other_tables_harms_them_not),
        cmocka_unit_test(what_cannot_be_followed_is_not_freed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
