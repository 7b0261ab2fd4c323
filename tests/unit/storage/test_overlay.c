#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "core/storage/overlay.h"
#include "tests/unit/storage/storages.h"

#define SIZE 8192

static struct pl_storage *under, *view;

static int make(void **state)
{
    (void)state;
    OK(pl_memory_storage(NULL, 0, PL_MIB, &under, &e));
    write_pattern(under, 0, SIZE, 1);
    OK(pl_overlay_storage(under, &view, &e));
    return 0;
}

static int unmake(void **state)
{
    (void)state;
    assert_true(reads_as(under, 0, SIZE, 1));
    OK(pl_storage_close(view, &e));
    OK(pl_storage_close(under, &e));
    return 0;
}

static void without_ranges_it_is_the_storage(void **state)
{
    (void)state;
    assert_int_equal(pl_storage_size(view), SIZE);
    assert_true(reads_as(view, 0, SIZE, 1));
}

static void what_is_laid_over_is_read_and_the_storage_keeps_its_bytes(void **state)
{
    uint8_t bytes[1000];

    (void)state;
    pattern(bytes, 100, sizeof bytes, 2);
    OK(pl_overlay_put(view, 100, bytes, sizeof bytes, &e));
    assert_true(reads_as(view, 0, 100, 1));
    assert_true(reads_as(view, 100, 1000, 2));
    assert_true(reads_as(view, 600, 10, 2));
    assert_true(reads_as(view, 1100, SIZE - 1100, 1));
}

static void the_last_one_lies_on_top(void **state)
{
    uint8_t bytes[1000];

    (void)state;
    pattern(bytes, 100, sizeof bytes, 2);
    OK(pl_overlay_put(view, 100, bytes, sizeof bytes, &e));
    OK(pl_overlay_put(view, 300, NULL, 200, &e));
    pattern(bytes, 400, 10, 3);
    OK(pl_overlay_put(view, 400, bytes, 10, &e));
    assert_true(reads_as(view, 100, 200, 2));
    assert_true(reads_as(view, 300, 100, ZEROS));
    assert_true(reads_as(view, 400, 10, 3));
    assert_true(reads_as(view, 410, 90, ZEROS));
    assert_true(reads_as(view, 500, 600, 2));
}

static void it_grows_over_ranges_past_the_end(void **state)
{
    uint8_t bytes[100];

    (void)state;
    pattern(bytes, SIZE + 50, sizeof bytes, 4);
    OK(pl_overlay_put(view, SIZE + 50, bytes, sizeof bytes, &e));
    assert_int_equal(pl_storage_size(view), SIZE + 150);
    assert_true(reads_as(view, SIZE, 50, ZEROS));
    assert_true(reads_as(view, SIZE + 50, 100, 4));
    pl_overlay_grow(view, SIZE + 1000);
    assert_true(reads_as(view, SIZE + 150, 850, ZEROS));
    FAILS(PL_E_CORRUPT, "past the end", pl_storage_read(view, SIZE + 1000, bytes, 1, &e));
}

static void a_range_that_wraps_is_refused(void **state)
{
    (void)state;
    FAILS(PL_E_CORRUPT, "past the end", pl_overlay_put(view, UINT64_MAX - 5, NULL, 100, &e));
}

static void what_is_laid_over_is_no_hole(void **state)
{
    uint64_t len = 2000;
    bool hole;

    (void)state;
    pl_overlay_grow(view, 4 * SIZE);
    OK(pl_overlay_put(view, 2 * SIZE, "abc", 3, &e));
    len = 2 * SIZE;
    OK(pl_storage_map(view, SIZE, &len, &hole, &e));
    assert_true(hole);
    assert_int_equal(len, SIZE);
    len = SIZE;
    OK(pl_storage_map(view, 2 * SIZE, &len, &hole, &e));
    assert_false(hole);
    assert_int_equal(len, 3);
}

static void it_cannot_be_written_to(void **state)
{
    (void)state;
    FAILS(PL_E_INVALID, "", pl_storage_write(view, 0, "x", 1, &e));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make, unmake)
    const struct CMUnitTest tests[] = {
        T(without_ranges_it_is_the_storage),
        T(what_is_laid_over_is_read_and_the_storage_keeps_its_bytes),
        T(the_last_one_lies_on_top),
        T(it_grows_over_ranges_past_the_end),
        T(a_range_that_wraps_is_refused),
        T(what_is_laid_over_is_no_hole),
        T(it_cannot_be_written_to),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
