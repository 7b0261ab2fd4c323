/* Reference counts: their encoding, growth of blocks and table, order of hand-out, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "formats/qcow2/change.h"
#include "tests/support/rig.h"

#define LIMIT (SIZE_MAX / 2)

static void encoding_keeps_every_count_apart(void **state)
{
    (void)state;
    for (uint32_t bits = 1; bits <= 64; bits *= 2) {
        uint8_t bytes[128] = { 0 };
        uint64_t max = UINT64_MAX >> (64 - bits), count = sizeof bytes * 8 / bits;

        for (uint64_t i = 0; i < count; i++)
            qcow2_count_put(bytes, bits, i, (i * UINT64_C(0x9e3779b97f4a7c15)) & max);
        for (uint64_t i = 0; i < count; i++)
            assert_int_equal(qcow2_count_get(bytes, bits, i),
                             (i * UINT64_C(0x9e3779b97f4a7c15)) & max);
    }
}

static void narrow_counts_fill_a_byte_from_its_lowest_bit(void **state)
{
    uint8_t bytes[2] = { 0 };

    (void)state;
    qcow2_count_put(bytes, 1, 0, 1);
    qcow2_count_put(bytes, 1, 9, 1);
    assert_int_equal(bytes[0], 1);
    assert_int_equal(bytes[1], 2);
    qcow2_count_put(bytes, 4, 1, 7);
    assert_int_equal(bytes[0], 0x71);
}

static void wide_counts_are_big_endian(void **state)
{
    uint8_t bytes[16] = { 0 };

    (void)state;
    qcow2_count_put(bytes, 16, 1, 0x1234);
    assert_int_equal(bytes[2], 0x12);
    qcow2_count_put(bytes, 64, 1, 0x1234);
    assert_int_equal(bytes[15], 0x34);
}

/* ---- an open image ---- */

static struct qcow2 *open_image(struct rig *rig, const char *options, uint64_t size)
{
    struct pl_err e;

    *rig = (struct rig){ .driver = &pl_qcow2 };
    must(pl_memory_storage(NULL, 0, LIMIT, &rig->st, &e), &e);
    must(rig_create(rig, options, size, &e), &e);
    must(rig_open(rig, &e), &e);
    return rig->layer.state;
}

static void close_image(struct rig *rig)
{
    rig_close(rig);
    pl_storage_close(rig->st, NULL);
}

/* The image's own check must find nothing but the clusters that the test leaked. */
static void assert_leaks(struct rig *rig, uint64_t leaks)
{
    struct pl_check_result result;
    struct pl_err e;

    must(pl_qcow2.flush(rig->layer.state, &e), &e);
    must(rig_check(rig, PL_REPAIR_NONE, &result, &e), &e);
    assert_int_equal(result.corruptions, 0);
    assert_int_equal(result.leaks, leaks);
}

static uint64_t allocate(struct qcow2 *q, uint64_t want, bool contiguous, uint64_t *got)
{
    struct pl_err e;
    uint64_t off;

    PL_LOCKED(&q->lock);
    must(qcow2_allocate_clusters(q, want, contiguous, &off, got, &e), &e);
    return off;
}

static void give_back(struct qcow2 *q, uint64_t off, uint64_t count)
{
    struct pl_err e;

    PL_LOCKED(&q->lock);
    must(qcow2_reference(q, off, count, -1, &e), &e);
}

static void lowest_free_clusters_come_first(void **state)
{
    struct rig rig;
    struct qcow2 *q = open_image(&rig, "cluster_size=4k", 1 << 20);
    uint64_t a, b, c;

    (void)state;
    a = allocate(q, 1, true, NULL);
    b = allocate(q, 4, true, NULL);
    c = allocate(q, 1, true, NULL);
    assert_int_equal(b, a + 4096);
    assert_int_equal(c, b + 4 * 4096);
    give_back(q, b, 4);
    assert_int_equal(allocate(q, 1, true, NULL), b);
    assert_int_equal(allocate(q, 4, true, NULL), c + 4096);
    assert_int_equal(allocate(q, 3, true, NULL), b + 4096);
    assert_leaks(&rig, 1 + 1 + 1 + 4 + 3);
    close_image(&rig);
}

static void a_run_may_be_shorter_than_wanted_unless_it_must_not(void **state)
{
    struct rig rig;
    struct qcow2 *q = open_image(&rig, "cluster_size=4k", 1 << 20);
    uint64_t a = allocate(q, 2, true, NULL), got;

    (void)state;
    allocate(q, 1, true, NULL);
    give_back(q, a, 2);
    assert_int_equal(allocate(q, 8, false, &got), a);
    assert_int_equal(got, 2);
    allocate(q, 8, false, &got);
    assert_int_equal(got, 8);
    close_image(&rig);
}

static const struct growth {
    const char *name, *options;
    uint64_t step;  /* clusters asked for at once ... */
    unsigned steps; /* ... so many times */
    bool contiguous;
} growths[] = {
    { "the table grows by single clusters", "cluster_size=512,refcount_bits=64", 1, 20000, true },
    { "the table grows by runs", "cluster_size=512,refcount_bits=64", 700, 40, false },
    { "the table grows by runs longer than a block's range", "cluster_size=512,refcount_bits=64",
      3000, 12, true },
    { "the table grows by one run longer than a table's range", "cluster_size=512,refcount_bits=64",
      100000, 1, true },
    { "blocks are added with counts of 1 bit", "cluster_size=512,refcount_bits=1", 5000, 6, false },
    { "blocks are added with counts of 16 bits", "cluster_size=512", 5000, 12, true },
};

static void structure_grows(void **state)
{
    const struct growth *g = *state;
    struct rig rig;
    struct qcow2 *q = open_image(&rig, g->options, 1 << 20);
    uint64_t leaked = 0;

    for (unsigned i = 0; i < g->steps; i++)
        for (uint64_t rest = g->step, got; rest; rest -= got) {
            allocate(q, rest, g->contiguous, &got);
            leaked += got;
            if (g->contiguous)
                assert_int_equal(got, rest);
        }
    assert_leaks(&rig, leaked);
    close_image(&rig);
}

static void the_same_calls_give_the_same_file(void **state)
{
    uint64_t sizes[2];
    uint8_t *bytes[2];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig rig;
        struct qcow2 *q = open_image(&rig, "cluster_size=512,refcount_bits=64", 1 << 20);
        struct pl_err e;

        for (unsigned k = 0; k < 300; k++)
            allocate(q, 1 + k % 40, k % 3 == 0, NULL);
        must(pl_qcow2.flush(q, &e), &e);
        sizes[i] = pl_storage_size(rig.st);
        bytes[i] = malloc(sizes[i]);
        must(pl_storage_read(rig.st, 0, bytes[i], sizes[i], &e), &e);
        close_image(&rig);
    }
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(bytes[0], bytes[1], sizes[0]);
    free(bytes[0]);
    free(bytes[1]);
}

static void a_full_table_is_a_limit_and_says_so(void **state)
{
    struct rig rig;
    struct qcow2 *q = open_image(&rig, "cluster_size=512,refcount_bits=64", 1 << 20);
    struct pl_err e;
    uint64_t off;
    int result;

    (void)state;
    pl_lock_take(&q->lock);
    /* 8 MiB of table count 64 * 1048576 clusters. */
    result = qcow2_allocate_clusters(q, UINT64_C(64) << 20, true, &off, NULL, &e);
    pl_lock_drop(&q->lock);
    assert_int_equal(result, -1);
    assert_int_equal(e.kind, PL_E_LIMIT);
    assert_non_null(strstr(e.msg, "refcount table"));
    /* It was found out in time: the image goes on. */
    allocate(q, 10, true, NULL);
    assert_leaks(&rig, 10);
    close_image(&rig);
}

static void a_count_that_is_full_is_a_limit(void **state)
{
    struct rig rig;
    struct qcow2 *q = open_image(&rig, "cluster_size=4k,refcount_bits=2", 1 << 20);
    uint64_t off = allocate(q, 1, true, NULL);
    struct pl_err e;

    (void)state;
    pl_lock_take(&q->lock);
    must(qcow2_reference(q, off, 1, 1, &e), &e);
    must(qcow2_reference(q, off, 1, 1, &e), &e);
    assert_int_equal(qcow2_reference(q, off, 1, 1, &e), -1);
    pl_lock_drop(&q->lock);
    assert_int_equal(e.kind, PL_E_LIMIT);
    give_back(q, off, 1);
    give_back(q, off, 1);
    give_back(q, off, 1);
    pl_lock_take(&q->lock);
    assert_int_equal(qcow2_reference(q, off, 1, -1, &e), -1);
    pl_lock_drop(&q->lock);
    assert_int_equal(e.kind, PL_E_CORRUPT);
    assert_leaks(&rig, 0);
    close_image(&rig);
}

static void clusters_of_the_structure_are_never_handed_out(void **state)
{
    struct rig rig;
    struct qcow2 *q = open_image(&rig, "cluster_size=4k", 1 << 20);
    struct pl_err e;
    uint64_t off;
    int result;

    (void)state;
    /* A damaged image counts nothing for its L1 table. */
    give_back(q, q->header.l1_table_offset, 1);
    pl_lock_take(&q->lock);
    result = qcow2_allocate_clusters(q, 1, true, &off, NULL, &e);
    pl_lock_drop(&q->lock);
    assert_int_equal(result, -1);
    assert_int_equal(e.kind, PL_E_CORRUPT);
    assert_non_null(strstr(e.msg, "L1 table"));
    close_image(&rig);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(growths) + 9] = {
        cmocka_unit_test(encoding_keeps_every_count_apart),
        cmocka_unit_test(narrow_counts_fill_a_byte_from_its_lowest_bit),
        cmocka_unit_test(wide_counts_are_big_endian),
        cmocka_unit_test(lowest_free_clusters_come_first),
        cmocka_unit_test(a_run_may_be_shorter_than_wanted_unless_it_must_not),
        cmocka_unit_test(the_same_calls_give_the_same_file),
        cmocka_unit_test(a_full_table_is_a_limit_and_says_so),
        cmocka_unit_test(a_count_that_is_full_is_a_limit),
        cmocka_unit_test(clusters_of_the_structure_are_never_handed_out),
    };

    for (size_t i = 0; i < PL_COUNT(growths); i++)
        tests[i + 9] = (struct CMUnitTest){ .name = growths[i].name,
                                            .test_func = structure_grows,
                                            .initial_state = (void *)&growths[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
