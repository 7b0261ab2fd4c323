/* The storage that other tests rely on to see every crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/support/flaky.h"
#include "tests/unit/storage/storages.h"

static int setup(void **state)
{
    uint8_t bytes[4096];
    struct pl_storage *st = NULL;

    pattern(bytes, 0, sizeof bytes, 1);
    OK(pl_flaky_storage(bytes, sizeof bytes, 65536, &st, &e));
    *state = st;
    return 0;
}

static int teardown(void **state)
{
    return pl_storage_close(*state, NULL);
}

/* Whether a crash leaves sector `index` with that pattern; ZEROS: zeros. */
static bool sector_is(struct pl_storage *st, uint64_t n, uint64_t seed, unsigned index,
                      unsigned wanted)
{
    uint8_t *bytes;
    size_t len;
    bool same = true;

    pl_flaky_cut(st, n, seed, &bytes, &len);
    assert_true(len >= (index + 1) * (size_t)512);
    for (size_t i = index * 512; i < (index + 1) * (size_t)512; i++)
        same = same && bytes[i] == (wanted == ZEROS ? 0 : pattern_at(i, wanted));
    free(bytes);
    return same;
}

static size_t size_after(struct pl_storage *st, uint64_t n, uint64_t seed)
{
    uint8_t *bytes;
    size_t len;

    pl_flaky_cut(st, n, seed, &bytes, &len);
    free(bytes);
    return len;
}

static void it_behaves_as_a_file(void **state)
{
    struct pl_storage *st = *state;

    write_pattern(st, 1000, 5000, 2);
    OK(pl_storage_zero(st, 2000, 512, &e));
    OK(pl_storage_resize(st, 7000, &e));
    assert_true(reads_as(st, 0, 1000, 1));
    assert_true(reads_as(st, 2000, 512, ZEROS));
    assert_true(reads_as(st, 2512, 3488, 2));
    assert_true(reads_as(st, 6000, 1000, ZEROS));
    FAILS(PL_E_CORRUPT, "past the end", pl_storage_read(st, 6999, &(uint16_t){ 0 }, 2, &e));
    FAILS(PL_E_NO_SPACE, "limit", pl_storage_resize(st, 65537, &e));
    OK(pl_storage_discard(st, 0, 512, &e));
    assert_false(reads_as(st, 0, 512, 1));
    assert_false(reads_as(st, 0, 512, ZEROS));
    assert_int_equal(pl_flaky_operation_count(st), 4);
}

static void a_replaced_file_is_the_old_one_or_the_new_one(void **state)
{
    struct pl_storage *st = *state;
    uint8_t bytes[1024];
    bool done;

    pattern(bytes, 0, sizeof bytes, 3);
    write_pattern(st, 0, 512, 2);
    OK(pl_storage_replace(st, bytes, sizeof bytes, &done, &e));
    assert_true(done);
    assert_true(reads_as(st, 0, sizeof bytes, 3));
    assert_int_equal(pl_storage_size(st), sizeof bytes);
    for (uint64_t seed = 0; seed < 50; seed++) {
        assert_int_equal(size_after(st, 1, seed), 4096);
        assert_int_equal(size_after(st, 2, seed), sizeof bytes);
        assert_true(sector_is(st, 2, seed, 0, 3) && sector_is(st, 2, seed, 1, 3));
    }
    pl_flaky_fail_at(st, 2, EIO, false);
    FAILS(PL_E_SYS, "replacing", pl_storage_replace(st, bytes, 10, &done, &e));
    assert_false(done);
    assert_int_equal(pl_storage_size(st), sizeof bytes);
}

static void every_prefix_can_be_seen(void **state)
{
    struct pl_storage *st = *state;

    write_pattern(st, 0, 512, 2);
    write_pattern(st, 0, 1024, 3);
    OK(pl_storage_resize(st, 8192, &e));
    assert_true(sector_is(st, 0, 0, 0, 1));
    assert_true(sector_is(st, 1, 0, 0, 2));
    assert_true(sector_is(st, 1, 0, 1, 1));
    assert_true(sector_is(st, 2, 0, 0, 3));
    assert_int_equal(size_after(st, 2, 0), 4096);
    assert_int_equal(size_after(st, 3, 0), 8192);
    assert_true(sector_is(st, 1000, 0, 15, ZEROS));
}

static void what_was_flushed_survives_every_seed(void **state)
{
    struct pl_storage *st = *state;

    write_pattern(st, 0, 1024, 2);
    OK(pl_storage_flush(st, &e));
    write_pattern(st, 512, 1024, 3);
    assert_true(pl_flaky_is_flush(st, 1));
    assert_false(pl_flaky_is_flush(st, 0));
    for (uint64_t seed = 0; seed < 100; seed++) {
        assert_true(sector_is(st, 3, seed, 0, 2));
        assert_true(sector_is(st, 3, seed, 1, 2) || sector_is(st, 3, seed, 1, 3));
        assert_true(sector_is(st, 3, seed, 2, 1) || sector_is(st, 3, seed, 2, 3));
        assert_true(sector_is(st, 3, seed, 3, 1));
    }
    assert_true(sector_is(st, 3, 1, 1, 2));
    assert_true(sector_is(st, 1, 1, 0, 1)); /* before the flush nothing is certain */
}

static void what_was_not_flushed_is_lost_torn_and_reordered(void **state)
{
    struct pl_storage *st = *state;
    bool lost = false, whole = false, torn = false, reordered = false;

    write_pattern(st, 0, 1024, 2);
    write_pattern(st, 0, 512, 3);
    for (uint64_t seed = 2; seed < 200; seed++) {
        const bool second = sector_is(st, 2, seed, 1, 2);

        lost = lost || sector_is(st, 2, seed, 0, 1);
        whole = whole || (second && sector_is(st, 2, seed, 0, 3));
        torn = torn || (!second && sector_is(st, 1, seed, 0, 2));
        reordered = reordered || sector_is(st, 2, seed, 0, 2);
    }
    assert_true(lost && whole && torn && reordered);
}

static void a_seed_always_gives_the_same(void **state)
{
    struct pl_storage *st = *state;
    uint8_t *one, *two;
    size_t len1, len2;

    for (unsigned i = 0; i < 20; i++)
        write_pattern(st, i * 700, 2000, i + 2);
    for (uint64_t seed = 0; seed < 20; seed++) {
        pl_flaky_cut(st, 15, seed, &one, &len1);
        pl_flaky_cut(st, 15, seed, &two, &len2);
        assert_int_equal(len1, len2);
        assert_memory_equal(one, two, len1);
        free(one);
        free(two);
    }
}

static void an_operation_fails_once_or_for_ever(void **state)
{
    struct pl_storage *st = *state;
    uint8_t buf[1024] = { 0 };

    pl_flaky_fail_at(st, 1, EIO, false);
    OK(pl_storage_write(st, 0, buf, 10, &e));
    FAILS(PL_E_SYS, "Input/output", pl_storage_write(st, 0, buf, 10, &e));
    OK(pl_storage_write(st, 0, buf, 10, &e));
    pl_flaky_fail_at(st, 4, ENOSPC, true);
    OK(pl_storage_flush(st, &e));
    for (int i = 0; i < 3; i++) {
        FAILS(PL_E_NO_SPACE, "syncing", pl_storage_flush(st, &e));
        FAILS(PL_E_NO_SPACE, "resizing", pl_storage_resize(st, 100, &e));
        FAILS(PL_E_NO_SPACE, "zeroing", pl_storage_zero(st, 0, 100, &e));
    }
    assert_int_equal(pl_storage_size(st), 4096);
    assert_false(pl_flaky_is_flush(st, 4));
    pl_flaky_fail_at(st, UINT64_MAX, 0, false);
    OK(pl_storage_flush(st, &e));
    pl_flaky_fail_read_at(st, 1, EIO, false);
    OK(pl_storage_read(st, 0, buf, 10, &e));
    FAILS(PL_E_SYS, "reading", pl_storage_read(st, 0, buf, 10, &e));
    assert_int_equal(pl_flaky_read_count(st), 2);
}

static void a_write_that_fails_is_half_done(void **state)
{
    struct pl_storage *st = *state;
    uint8_t buf[2048];

    pattern(buf, 0, sizeof buf, 2);
    pl_flaky_fail_at(st, 0, EIO, false);
    FAILS(PL_E_SYS, "writing", pl_storage_write(st, 0, buf, sizeof buf, &e));
    assert_true(reads_as(st, 0, 1024, 2));
    assert_true(reads_as(st, 1024, 1024, 1));
}

static void power_is_lost_and_comes_back(void **state)
{
    struct pl_storage *st = *state;

    write_pattern(st, 0, 512, 2);
    OK(pl_storage_flush(st, &e));
    write_pattern(st, 0, 512, 3);
    OK(pl_storage_resize(st, 0, &e));
    pl_flaky_lose_power(st, 1);
    assert_true(reads_as(st, 0, 512, 2));
    assert_int_equal(pl_storage_size(st), 4096);
    assert_int_equal(pl_flaky_operation_count(st), 4);
    write_pattern(st, 0, 512, 4);
    assert_true(sector_is(st, 5, 0, 0, 4));
    assert_true(sector_is(st, 5, 1, 0, 2));
}

static void a_pair_counts_together(void **state)
{
    struct pl_storage *one = *state, *two;
    const uint8_t bytes[512] = { 1 };

    OK(pl_flaky_storage(NULL, 0, 65536, &two, &e));
    pl_flaky_pair(one, two);
    OK(pl_storage_resize(one, 0, &e));
    OK(pl_storage_write(two, 0, bytes, sizeof bytes, &e));
    OK(pl_storage_resize(one, 512, &e));
    assert_int_equal(pl_flaky_operation_count(one), 3);
    assert_int_equal(pl_flaky_operation_count(two), 3);
    assert_int_equal(size_after(two, 1, 0), 0);
    assert_int_equal(size_after(two, 2, 0), 512);
    assert_int_equal(size_after(one, 2, 0), 0);
    assert_int_equal(size_after(one, 3, 0), 512);
    OK(pl_storage_close(two, &e));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_behaves_as_a_file),
        TEST(a_replaced_file_is_the_old_one_or_the_new_one),
        TEST(every_prefix_can_be_seen),
        TEST(what_was_flushed_survives_every_seed),
        TEST(what_was_not_flushed_is_lost_torn_and_reordered),
        TEST(a_seed_always_gives_the_same),
        TEST(an_operation_fails_once_or_for_ever),
        TEST(a_write_that_fails_is_half_done),
        TEST(power_is_lost_and_comes_back),
        TEST(a_pair_counts_together),
    };

    return cmocka_run_group_tests_name("flaky storage", tests, NULL, NULL);
}
