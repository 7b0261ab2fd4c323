#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "core/base/checked.h"
#include "core/storage/table_cache.h"
#include "tests/support/flaky.h"
#include "tests/unit/storage/storages.h"

enum { SLICE = 512, SLOTS = 4, SLICES = 64 };

/* A cache of SLOTS slices over a file of SLICES, whose byte n of slice i is pattern 1. */
struct cache {
    struct pl_storage *st;
    struct pl_table_cache *tc;
};

static int setup(void **state)
{
    struct cache *c = calloc(1, sizeof *c);
    uint8_t *bytes = malloc(SLICES * SLICE);

    pattern(bytes, 0, SLICES * SLICE, 1);
    OK(pl_flaky_storage(bytes, SLICES * SLICE, 1 << 20, &c->st, &e));
    OK(pl_table_cache_create(c->st, SLICE, SLOTS, &c->tc, &e));
    free(bytes);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct cache *c = *state;

    pl_table_cache_free(c->tc);
    pl_storage_close(c->st, NULL);
    free(c);
    return 0;
}

static uint8_t *get(struct cache *c, uint64_t slice)
{
    uint8_t *bytes = NULL;

    OK(pl_table_cache_get(c->tc, slice * SLICE, &bytes, &e));
    return bytes;
}

static void change(struct cache *c, uint64_t slice, unsigned seed)
{
    pattern(get(c, slice), slice * SLICE, SLICE, seed);
    pl_table_cache_dirty(c->tc, slice * SLICE);
}

static void a_slice_is_read_once(void **state)
{
    struct cache *c = *state;
    uint8_t wanted[SLICE], *bytes;

    pattern(wanted, 3 * SLICE, SLICE, 1);
    assert_null(pl_table_cache_peek(c->tc, 3 * SLICE));
    OK(pl_table_cache_get(c->tc, 3 * SLICE + 100, &bytes, &e));
    assert_memory_equal(bytes, wanted, SLICE);
    assert_ptr_equal(get(c, 3), bytes);
    assert_ptr_equal(pl_table_cache_peek(c->tc, 3 * SLICE + 511), bytes);
    assert_int_equal(pl_flaky_read_count(c->st), 1);
}

static void what_lies_past_the_end_is_zeros(void **state)
{
    struct cache *c = *state;
    uint8_t zeros[SLICE] = { 0 };

    assert_memory_equal(get(c, SLICES + 5), zeros, SLICE);
}

static void the_oldest_clean_slice_leaves(void **state)
{
    struct cache *c = *state;

    for (uint64_t i = 0; i < SLOTS; i++)
        get(c, i);
    get(c, 0);
    get(c, SLOTS);
    assert_non_null(pl_table_cache_peek(c->tc, 0));
    assert_null(pl_table_cache_peek(c->tc, 1 * SLICE));
    assert_non_null(pl_table_cache_peek(c->tc, 2 * SLICE)); /* which makes it young */
    get(c, SLOTS + 1);
    assert_null(pl_table_cache_peek(c->tc, 3 * SLICE));
    assert_non_null(pl_table_cache_peek(c->tc, 2 * SLICE));
}

static void dirty_slices_stay_until_the_cache_is_full(void **state)
{
    struct cache *c = *state;
    uint8_t *bytes;

    for (uint64_t i = 0; i < SLOTS; i++)
        change(c, i, 2);
    assert_int_equal(pl_table_cache_get(c->tc, 9 * SLICE, &bytes, NULL), 1);
    assert_int_equal(pl_table_cache_get_new(c->tc, 9 * SLICE, &bytes, NULL), 1);
    assert_int_equal(pl_table_cache_get(c->tc, 0, &bytes, NULL), 0);
    OK(pl_table_cache_write_back(c->tc, &e));
    assert_false(pl_table_cache_is_dirty(c->tc));
    get(c, 9);
    assert_true(reads_as(c->st, 0, SLOTS * SLICE, 2));
    assert_true(reads_as(c->st, SLOTS * SLICE, SLICE, 1));
}

static void neighbours_are_written_together_and_in_order(void **state)
{
    struct cache *c = *state;

    change(c, 7, 2);
    change(c, 3, 2);
    change(c, 8, 2);
    change(c, 6, 2);
    OK(pl_table_cache_write_back(c->tc, &e));
    assert_int_equal(pl_flaky_operation_count(c->st), 2);
    assert_true(reads_as(c->st, 3 * SLICE, SLICE, 2));
    assert_true(reads_as(c->st, 6 * SLICE, 3 * SLICE, 2));
    assert_true(reads_as(c->st, 9 * SLICE, SLICE, 1));
    OK(pl_table_cache_write_back(c->tc, &e));
    assert_int_equal(pl_flaky_operation_count(c->st), 2);
}

static void what_could_not_be_written_stays_dirty(void **state)
{
    struct cache *c = *state;

    change(c, 1, 2);
    change(c, 5, 2);
    pl_flaky_fail_at(c->st, 1, EIO, false);
    FAILS(PL_E_SYS, "Input/output", pl_table_cache_write_back(c->tc, &e));
    assert_true(pl_table_cache_is_dirty(c->tc));
    assert_true(reads_as(c->st, 1 * SLICE, SLICE, 2));
    OK(pl_table_cache_write_back(c->tc, &e));
    assert_false(pl_table_cache_is_dirty(c->tc));
    assert_int_equal(pl_flaky_operation_count(c->st), 3);
    assert_true(reads_as(c->st, 5 * SLICE, SLICE, 2));
}

static void a_read_that_fails_leaves_the_cache_whole(void **state)
{
    struct cache *c = *state;
    uint8_t *bytes;

    pl_flaky_fail_read_at(c->st, 0, EIO, false);
    FAILS(PL_E_SYS, "reading", pl_table_cache_get(c->tc, 0, &bytes, &e));
    assert_null(pl_table_cache_peek(c->tc, 0));
    for (uint64_t i = 0; i < SLICES; i++)
        assert_int_equal(get(c, i)[5], pattern_at(i * SLICE + 5, 1));
}

static void a_new_slice_is_zeros_and_not_read(void **state)
{
    struct cache *c = *state;
    uint8_t *bytes, zeros[SLICE] = { 0 };

    get(c, 2);
    for (uint64_t i = 2; i < 4; i++) {
        OK(pl_table_cache_get_new(c->tc, i * SLICE, &bytes, &e));
        assert_memory_equal(bytes, zeros, SLICE);
    }
    assert_int_equal(pl_flaky_read_count(c->st), 1);
    OK(pl_table_cache_write_back(c->tc, &e));
    assert_true(reads_as(c->st, 2 * SLICE, 2 * SLICE, ZEROS));
}

static void only_what_was_made_of_a_new_table_is_written(void **state)
{
    struct cache *c = *state;
    uint8_t *bytes;

    OK(pl_table_cache_get_new(c->tc, 200 * SLICE, &bytes, &e));
    pattern(bytes, 200 * SLICE, SLICE, 2);
    OK(pl_table_cache_get_new(c->tc, 400 * SLICE, &bytes, &e));
    pattern(bytes, 400 * SLICE, SLICE, 2);
    OK(pl_table_cache_write_back(c->tc, &e));
    assert_int_equal(pl_flaky_operation_count(c->st), 2);
    assert_true(reads_as(c->st, 200 * SLICE, SLICE, 2));
    assert_true(reads_as(c->st, 201 * SLICE, 199 * SLICE, ZEROS));
}

static void dropped_slices_are_forgotten_dirty_or_not(void **state)
{
    struct cache *c = *state;

    change(c, 1, 2);
    change(c, 2, 2);
    get(c, 3);
    pl_table_cache_drop(c->tc, 2 * SLICE, 2 * SLICE);
    assert_null(pl_table_cache_peek(c->tc, 2 * SLICE));
    assert_null(pl_table_cache_peek(c->tc, 3 * SLICE));
    OK(pl_table_cache_write_back(c->tc, &e));
    assert_int_equal(pl_flaky_operation_count(c->st), 1);
    change(c, 5, 2);
    pl_table_cache_drop(c->tc, 0, 1 << 20); /* a large range */
    assert_false(pl_table_cache_is_dirty(c->tc));
    assert_null(pl_table_cache_peek(c->tc, 1 * SLICE));
    for (uint64_t i = 0; i < SLOTS; i++) /* every slot is of use again */
        change(c, i + 10, 2);
    assert_true(pl_table_cache_is_dirty(c->tc));
}

static void bytes_read_beside_the_lock_are_put_in_place(void **state)
{
    struct cache *c = *state;
    const uint64_t epoch = pl_table_cache_epoch(c->tc);
    uint8_t bytes[SLICE];

    memset(bytes, 0xab, sizeof bytes);
    pl_table_cache_insert(c->tc, 3 * SLICE, bytes, epoch);
    assert_int_equal(get(c, 3)[0], 0xab);
    get(c, 4);
    pl_table_cache_insert(c->tc, 4 * SLICE, bytes, epoch); /* it came meanwhile */
    assert_int_equal(get(c, 4)[0], pattern_at(4 * SLICE, 1));
}

static void change_1(struct cache *c)
{
    change(c, 1, 2);
}

static void zero_1(struct cache *c)
{
    uint8_t *bytes;

    OK(pl_table_cache_get_new(c->tc, SLICE, &bytes, &e));
}

static void drop_nothing(struct cache *c)
{
    pl_table_cache_drop(c->tc, 30 * SLICE, SLICE);
}

static void write_back(struct cache *c)
{
    change(c, 1, 2);
    OK(pl_table_cache_write_back(c->tc, &e));
}

static void stale_bytes_are_not_put_in_place(void **state)
{
    static void (*const events[])(struct cache *) = { change_1, zero_1, drop_nothing, write_back };
    struct cache *c = *state;
    uint8_t bytes[SLICE] = { 0 };

    for (size_t i = 0; i < PL_COUNT(events); i++) {
        const uint64_t epoch = pl_table_cache_epoch(c->tc);

        events[i](c);
        pl_table_cache_insert(c->tc, 3 * SLICE, bytes, epoch);
        assert_null(pl_table_cache_peek(c->tc, 3 * SLICE));
    }
}

static void inserted_bytes_displace_no_dirty_slice(void **state)
{
    struct cache *c = *state;
    uint8_t bytes[SLICE] = { 0 };

    for (uint64_t i = 0; i < SLOTS; i++)
        change(c, i, 2);
    pl_table_cache_insert(c->tc, 9 * SLICE, bytes, pl_table_cache_epoch(c->tc));
    assert_null(pl_table_cache_peek(c->tc, 9 * SLICE));
}

/* Random work on a small cache, compared with plain arrays. */
static void any_order_of_calls_gives_what_was_written(void **state)
{
    struct cache *c = *state;
    uint8_t model[SLICES];
    uint32_t random = 1;

    for (uint64_t i = 0; i < SLICES; i++)
        model[i] = pattern_at(i * SLICE, 1);
    for (int step = 0; step < 20000; step++) {
        uint8_t *bytes;
        uint64_t slice;

        random = random * 1664525 + 1013904223;
        slice = random >> 16 & (SLICES - 1);
        while (pl_table_cache_get(c->tc, slice * SLICE, &bytes, NULL) == 1)
            OK(pl_table_cache_write_back(c->tc, &e));
        assert_int_equal(bytes[0], model[slice]);
        if (random >> 24 & 1) {
            bytes[0] = model[slice] = (uint8_t)(random >> 8);
            pl_table_cache_dirty(c->tc, slice * SLICE);
        }
    }
    OK(pl_table_cache_write_back(c->tc, &e));
    for (uint64_t i = 0; i < SLICES; i++) {
        uint8_t byte;

        OK(pl_storage_read(c->st, i * SLICE, &byte, 1, &e));
        assert_int_equal(byte, model[i]);
    }
}

static void impossible_sizes_are_refused(void **state)
{
    static const uint32_t sizes[][2] = { { 0, 1 },      { 256, 1 }, { 768, 1 },
                                         { 131072, 1 }, { 512, 0 }, { 512, UINT32_MAX } };
    struct cache *c = *state;
    struct pl_table_cache *tc;

    for (size_t i = 0; i < PL_COUNT(sizes); i++)
        FAILS(PL_E_INVALID, "table cache",
              pl_table_cache_create(c->st, sizes[i][0], sizes[i][1], &tc, &e));
    pl_table_cache_free(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_slice_is_read_once),
        TEST(what_lies_past_the_end_is_zeros),
        TEST(the_oldest_clean_slice_leaves),
        TEST(dirty_slices_stay_until_the_cache_is_full),
        TEST(neighbours_are_written_together_and_in_order),
        TEST(what_could_not_be_written_stays_dirty),
        TEST(a_read_that_fails_leaves_the_cache_whole),
        TEST(a_new_slice_is_zeros_and_not_read),
        TEST(only_what_was_made_of_a_new_table_is_written),
        TEST(dropped_slices_are_forgotten_dirty_or_not),
        TEST(bytes_read_beside_the_lock_are_put_in_place),
        TEST(stale_bytes_are_not_put_in_place),
        TEST(inserted_bytes_displace_no_dirty_slice),
        TEST(any_order_of_calls_gives_what_was_written),
        TEST(impossible_sizes_are_refused),
    };

    return cmocka_run_group_tests_name("table cache", tests, NULL, NULL);
}
