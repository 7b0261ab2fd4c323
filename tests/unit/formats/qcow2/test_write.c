/* Room and links: what is reused, what is new, what shares a cluster, and when a change is refused.
 */
#include <errno.h>
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
#include "tests/support/flaky.h"
#include "tests/support/rig.h"

#define CLUSTER 4096u
#define OPTIONS "cluster_size=4k"
#define MIB (UINT64_C(1) << 20)

static struct qcow2 *open_image(struct rig *rig, const char *options, uint64_t size)
{
    struct pl_err e;

    must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &rig->st, &e), &e);
    must(rig_create(rig, options, size, &e), &e);
    must(rig_open(rig, &e), &e);
    return rig->layer.state;
}

/* Flushes, checks, closes. */
static void close_image(struct rig *rig)
{
    struct pl_check_result result;
    struct pl_err e;

    must(pl_qcow2.flush(rig->layer.state, &e), &e);
    must(rig_check(rig, PL_REPAIR_NONE, &result, &e), &e);
    assert_int_equal(result.corruptions, 0);
    assert_int_equal(result.leaks, 0);
    rig_close(rig);
    pl_storage_close(rig->st, NULL);
    pl_storage_close(rig->data, NULL);
}

static void write_bytes(struct rig *rig, uint64_t at, uint64_t len, int byte)
{
    uint8_t *bytes = malloc(len);
    struct pl_err e;

    memset(bytes, byte, len);
    must(rig_write(rig, at, bytes, len, &e), &e);
    free(bytes);
}

static void write_packed(struct rig *rig, uint64_t at, uint64_t len, int byte)
{
    uint8_t *bytes = malloc(len);
    struct pl_err e;

    memset(bytes, byte, len);
    must(rig_write_packed(rig, at, bytes, len, &e), &e);
    free(bytes);
}

static void assert_bytes(struct rig *rig, uint64_t at, uint64_t len, int byte)
{
    uint8_t *bytes = malloc(len);
    struct pl_err e;

    must(rig_read(rig, at, bytes, len, &e), &e);
    for (uint64_t i = 0; i < len; i++)
        if (bytes[i] != byte)
            fail_msg("byte 0x%llx is %02x", (unsigned long long)(at + i), bytes[i]);
    free(bytes);
}

static struct pl_place allocate(struct qcow2 *q, uint64_t at, uint64_t len)
{
    struct pl_place place;
    struct pl_err e;

    must(qcow2_allocate(q, at, len, &place, &e), &e);
    return place;
}

static struct pl_extent map(struct qcow2 *q, uint64_t at, uint64_t len)
{
    struct pl_extent x;
    struct pl_err e;

    must(qcow2_map(q, at, len, &x, &e), &e);
    return x;
}

static uint64_t count_of(struct qcow2 *q, uint64_t off)
{
    struct pl_err e;
    uint64_t count;

    PL_LOCKED(&q->lock);
    must(qcow2_refcount(q, off / q->cluster_size, &count, &e), &e);
    return count;
}

static void dense_writes_get_one_run(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, OPTIONS, 8 * MIB);
    struct pl_place a = allocate(q, 0, MIB), b = allocate(q, MIB, MIB);
    struct pl_err e;

    (void)state;
    assert_true(a.fresh && a.zeroed);
    assert_int_equal(a.len, MIB);
    assert_int_equal(b.off, a.off + MIB);
    must(qcow2_link(q, &b, &e), &e);
    must(qcow2_link(q, &a, &e), &e);
    assert_int_equal(map(q, 0, 2 * MIB).len, 2 * MIB);
    close_image(&rig);
}

static void own_clusters_are_overwritten_in_place(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, OPTIONS, MIB);
    struct pl_place place;
    uint64_t off;

    (void)state;
    write_bytes(&rig, 0, 4 * CLUSTER, 1);
    off = map(q, 0, 1).off;
    place = allocate(q, 700, 2 * CLUSTER + 11);
    assert_false(place.fresh);
    assert_int_equal(place.off, off + 700);
    assert_int_equal(place.len, 2 * CLUSTER + 11);
    close_image(&rig);
}

static void new_room_wants_whole_granules(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, OPTIONS, MIB + 512);
    struct pl_place place;
    struct pl_err e;

    (void)state;
    assert_int_equal(qcow2_allocate(q, 512, CLUSTER, &place, &e), -1);
    assert_int_equal(e.kind, PL_E_INVALID);
    assert_int_equal(qcow2_allocate(q, 0, 100, &place, &e), -1);
    assert_int_equal(e.kind, PL_E_INVALID);
    place = allocate(q, 0, CLUSTER + 100);
    assert_int_equal(place.len, CLUSTER);
    qcow2_cancel(q, &place);
    place = allocate(q, MIB, 512); /* the end of the disk is aligned */
    assert_int_equal(place.len, 512);
    qcow2_cancel(q, &place);
    assert_int_equal(qcow2_allocate(q, MIB, 1024, &place, &e), -1);
    assert_int_equal(e.kind, PL_E_LIMIT);
    close_image(&rig);
}

static void zeroed_clusters_keep_their_room(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, OPTIONS, MIB);
    struct pl_place place;
    struct pl_extent x;
    struct pl_err e;
    uint64_t off;

    (void)state;
    write_bytes(&rig, 0, 2 * CLUSTER, 1);
    off = map(q, 0, 1).off;
    assert_int_equal(qcow2_zero(q, 0, 2 * CLUSTER, false, &e), 0);
    x = map(q, 0, 2 * CLUSTER);
    assert_true(x.state == PL_ZERO && x.allocated && x.len == 2 * CLUSTER && x.off == off);
    place = allocate(q, 0, 2 * CLUSTER);
    assert_true(place.fresh && place.off == off && place.len == 2 * CLUSTER && !place.zeroed);
    qcow2_cancel(q, &place);
    assert_bytes(&rig, 0, 2 * CLUSTER, 0);
    write_bytes(&rig, 0, CLUSTER, 9);
    assert_int_equal(map(q, 0, 1).off, off);
    assert_bytes(&rig, CLUSTER, CLUSTER, 0);
    close_image(&rig);
}

static void unmapped_clusters_are_free_after_a_flush(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, OPTIONS, MIB);
    struct pl_err e;
    uint64_t off;

    (void)state;
    write_bytes(&rig, 0, 2 * CLUSTER, 1);
    off = map(q, 0, 1).off;
    assert_int_equal(qcow2_zero(q, 0, CLUSTER, true, &e), 0);
    assert_int_equal(qcow2_discard(q, CLUSTER, CLUSTER, &e), 0);
    assert_int_equal(count_of(q, off), 1);
    must(qcow2_flush(q, &e), &e);
    assert_int_equal(count_of(q, off), 0);
    assert_int_equal(count_of(q, off + CLUSTER), 0);
    assert_int_equal(map(q, 0, 1).state, PL_ZERO);
    assert_int_equal(map(q, CLUSTER, 1).state, PL_PARENT);
    close_image(&rig);
}

static void zeros_over_a_parent_hide_it(void **state)
{
    static uint8_t parent[2 * CLUSTER];
    struct rig rig = { .driver = &pl_qcow2,
                       .parent_format = "raw",
                       .parent = memset(parent, 7, sizeof parent),
                       .parent_len = sizeof parent };
    struct qcow2 *q = open_image(&rig, OPTIONS, MIB);
    struct pl_err e;

    (void)state;
    assert_bytes(&rig, 0, 2 * CLUSTER, 7);
    assert_int_equal(qcow2_zero(q, 0, CLUSTER, true, &e), 0);
    assert_int_equal(qcow2_discard(q, CLUSTER, CLUSTER, &e), 0);
    assert_bytes(&rig, 0, 2 * CLUSTER, 0);
    close_image(&rig);
}

static void version_2_has_no_zeros_over_a_parent(void **state)
{
    static uint8_t parent[2 * CLUSTER];
    struct rig rig = { .driver = &pl_qcow2,
                       .parent_format = "raw",
                       .parent = memset(parent, 7, sizeof parent),
                       .parent_len = sizeof parent };
    struct qcow2 *q = open_image(&rig, OPTIONS ",compat=0.10", MIB);
    struct pl_err e;

    (void)state;
    write_bytes(&rig, 0, CLUSTER, 1);
    assert_int_equal(qcow2_zero(q, 0, CLUSTER, true, &e), 1);
    assert_int_equal(qcow2_discard(q, 0, CLUSTER, &e), 0);
    assert_bytes(&rig, 0, CLUSTER, 1);
    close_image(&rig);
}

static void zeroing_a_huge_empty_disk_costs_nothing(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, "cluster_size=64k", UINT64_C(16) << 40);
    uint64_t size = pl_storage_size(rig.st);
    struct pl_err e;

    (void)state;
    assert_int_equal(qcow2_zero(q, 0, UINT64_C(16) << 40, true, &e), 0);
    assert_int_equal(qcow2_discard(q, 0, UINT64_C(16) << 40, &e), 0);
    must(qcow2_flush(q, &e), &e);
    assert_int_equal(pl_storage_size(rig.st), size);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void packed_units_share_clusters(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, OPTIONS, MIB);
    struct pl_place a, b;
    struct pl_extent x;
    struct pl_err e;

    (void)state;
    must(qcow2_allocate_packed(q, 0, 3000, &a, &e), &e);
    must(qcow2_allocate_packed(q, CLUSTER, 3000, &b, &e), &e);
    assert_int_equal(b.off, a.off + 3000); /* over the end of the first cluster */
    assert_int_equal(count_of(q, a.off), 2);
    assert_int_equal(count_of(q, a.off + CLUSTER), 1);
    must(qcow2_link(q, &b, &e), &e);
    qcow2_cancel(q, &a);
    x = map(q, CLUSTER, 100);
    assert_true(x.state == PL_PACKED && x.off == b.off && x.packed_len >= 3000 &&
                x.packed_len < 3000 + 1024);
    close_image(&rig);
}

static void counts_of_one_bit_give_each_unit_a_cluster(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, OPTIONS ",refcount_bits=1", MIB);
    uint64_t first;

    (void)state;
    write_packed(&rig, 0, 2 * CLUSTER, 5);
    first = map(q, 0, 1).off;
    assert_int_not_equal(map(q, CLUSTER, 1).off / CLUSTER, first / CLUSTER);
    assert_bytes(&rig, 0, 2 * CLUSTER, 5);
    close_image(&rig);
}

static void nothing_is_packed_behind_a_unit_that_is_gone(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, OPTIONS, MIB);
    struct pl_err e;

    (void)state;
    write_packed(&rig, 0, CLUSTER, 5);
    assert_int_equal(qcow2_discard(q, 0, CLUSTER, &e), 0);
    must(qcow2_flush(q, &e), &e);
    write_bytes(&rig, 0, CLUSTER, 6);        /* takes the cluster ... */
    write_packed(&rig, CLUSTER, CLUSTER, 7); /* ... so this must go elsewhere */
    assert_bytes(&rig, 0, CLUSTER, 6);
    assert_bytes(&rig, CLUSTER, CLUSTER, 7);
    close_image(&rig);
}

static void subclusters_of_a_cluster_share_its_room(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, "cluster_size=16k,extended_l2=on", MIB);
    struct pl_place a = allocate(q, 512, 512), b = allocate(q, 3 * 512, 512);
    struct pl_err e;

    (void)state;
    assert_int_equal(rig.layer.granule, 512);
    assert_true(a.fresh && b.fresh);
    assert_int_equal(b.off, a.off + 1024);
    assert_int_equal(map(q, 0, 16384).state, PL_PARENT);
    must(qcow2_link(q, &b, &e), &e);
    assert_int_equal(map(q, 512, 512).state, PL_PARENT);
    assert_int_equal(map(q, 3 * 512, 512).state, PL_DATA);
    must(qcow2_link(q, &a, &e), &e);
    close_image(&rig);
}

static void a_part_of_a_packed_cluster_is_written_with_the_rest_kept(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, "cluster_size=16k,extended_l2=on", MIB);
    struct pl_err e;

    (void)state;
    write_packed(&rig, 0, 32768, 5);
    write_bytes(&rig, 1024, 512, 6);
    assert_int_equal(qcow2_zero(q, 16384 + 512, 512, false, &e), 0);
    assert_bytes(&rig, 0, 1024, 5);
    assert_bytes(&rig, 1024, 512, 6);
    assert_bytes(&rig, 1536, 16384 - 1536 + 512, 5);
    assert_bytes(&rig, 16384 + 512, 512, 0);
    assert_bytes(&rig, 16384 + 1024, 16384 - 1024, 5);
    close_image(&rig);
}

static void a_data_file_has_the_guests_offsets(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct pl_place place;
    struct qcow2 *q;
    struct pl_err e;

    (void)state;
    must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &rig.data, &e), &e);
    q = open_image(&rig, OPTIONS ",data_file=data", MIB);
    place = allocate(q, 5 * CLUSTER, 3 * CLUSTER);
    assert_true(place.fresh && place.st != q->file);
    assert_int_equal(place.off, 5 * CLUSTER);
    write_bytes(&rig, 0, CLUSTER, 3); /* offset 0 is a place too */
    assert_bytes(&rig, 0, CLUSTER, 3);
    assert_int_equal(qcow2_allocate_packed(q, 0, 100, &place, &e), -1);
    assert_int_equal(e.kind, PL_E_UNSUPPORTED);
    close_image(&rig);
}

static void the_file_ends_with_its_last_cluster(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, OPTIONS, MIB);
    struct pl_err e;

    (void)state;
    write_packed(&rig, 0, CLUSTER, 5);
    must(qcow2_flush(q, &e), &e);
    assert_int_equal(pl_storage_size(rig.st) % CLUSTER, 0);
    close_image(&rig);
}

static void flushing_an_unchanged_image_changes_nothing(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct qcow2 *q = open_image(&rig, OPTIONS, MIB);
    uint8_t autoclear[8], unknown[8];
    struct pl_err e;

    (void)state;
    store_be64(unknown, UINT64_C(1) << 40);
    must(pl_storage_write(rig.st, 88, unknown, 8, &e), &e);
    rig_close(&rig);
    must(rig_open(&rig, &e), &e);
    q = rig.layer.state;
    must(qcow2_flush(q, &e), &e);
    must(pl_storage_read(rig.st, 88, autoclear, 8, &e), &e);
    assert_memory_equal(autoclear, unknown, 8);
    /* The first change clears what platter does not know. */
    write_bytes(&rig, 0, CLUSTER, 1);
    must(pl_storage_read(rig.st, 88, autoclear, 8, &e), &e);
    assert_int_equal(load_be64(autoclear), 0);
    close_image(&rig);
}

/* An image with one write that is not flushed; change number `fail` will fail. */
static struct qcow2 *open_flaky(struct rig *rig, uint64_t fail)
{
    struct pl_err e;

    *rig = (struct rig){ .driver = &pl_qcow2 };
    must(pl_flaky_storage(NULL, 0, 1 << 26, &rig->st, &e), &e);
    must(rig_create(rig, OPTIONS, MIB, &e), &e);
    must(rig_open(rig, &e), &e);
    write_bytes(rig, 0, CLUSTER, 1);
    pl_flaky_fail_at(rig->st, fail, EIO, false);
    return rig->layer.state;
}

static void only_a_failed_sync_ends_all_changes(void **state)
{
    struct rig rig;
    struct qcow2 *q = open_flaky(&rig, UINT64_MAX);
    uint64_t first = pl_flaky_operation_count(rig.st), count, syncs = 0;
    struct pl_place place;
    struct pl_err e;

    (void)state;
    must(qcow2_flush(q, &e), &e);
    count = pl_flaky_operation_count(rig.st);
    for (uint64_t i = first; i < count; i++) {
        bool sync = pl_flaky_is_flush(rig.st, i);
        struct rig other;

        syncs += sync;
        q = open_flaky(&other, i);
        assert_int_equal(qcow2_flush(q, &e), -1);
        assert_int_equal(e.sys, EIO);
        /* What could not be written is tried again; after a failed sync nobody knows what is on
         * disk. */
        assert_int_equal(qcow2_flush(q, &e), sync ? -1 : 0);
        assert_int_equal(qcow2_allocate(q, 0, CLUSTER, &place, &e), sync ? -1 : 0);
        rig_close(&other);
        pl_storage_close(other.st, NULL);
    }
    assert_true(syncs >= 2);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void what_was_written_in_any_order_is_freed_in_few_calls(void **state)
{
    struct rig rig;
    struct qcow2 *q = open_flaky(&rig, UINT64_MAX);
    uint64_t count;
    struct pl_err e;

    (void)state;
    for (uint64_t i = 0; i < 60; i++) /* 7 has no divisor in common with 60 */
        write_bytes(&rig, (1 + i * 7 % 60) * CLUSTER, CLUSTER, 1);
    must(qcow2_flush(q, &e), &e);
    count = pl_flaky_operation_count(rig.st);
    must(qcow2_discard(q, CLUSTER, 60 * CLUSTER, &e), &e);
    must(qcow2_flush(q, &e), &e);
    assert_in_range(pl_flaky_operation_count(rig.st) - count, 1, 8);
    assert_bytes(&rig, 0, CLUSTER, 1);
    close_image(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_writes_get_one_run),
        cmocka_unit_test(own_clusters_are_overwritten_in_place),
        cmocka_unit_test(new_room_wants_whole_granules),
        cmocka_unit_test(zeroed_clusters_keep_their_room),
        cmocka_unit_test(unmapped_clusters_are_free_after_a_flush),
        cmocka_unit_test(zeros_over_a_parent_hide_it),
        cmocka_unit_test(version_2_has_no_zeros_over_a_parent),
        cmocka_unit_test(zeroing_a_huge_empty_disk_costs_nothing),
        cmocka_unit_test(packed_units_share_clusters),
        cmocka_unit_test(counts_of_one_bit_give_each_unit_a_cluster),
        cmocka_unit_test(nothing_is_packed_behind_a_unit_that_is_gone),
        cmocka_unit_test(subclusters_of_a_cluster_share_its_room),
        cmocka_unit_test(a_part_of_a_packed_cluster_is_written_with_the_rest_kept),
        cmocka_unit_test(a_data_file_has_the_guests_offsets),
        cmocka_unit_test(the_file_ends_with_its_last_cluster),
        cmocka_unit_test(flushing_an_unchanged_image_changes_nothing),
        cmocka_unit_test(only_a_failed_sync_ends_all_changes),
        cmocka_unit_test(what_was_written_in_any_order_is_freed_in_few_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
