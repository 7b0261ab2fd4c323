#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "core/storage/window.h"
#include "tests/unit/storage/storages.h"

static void memory_starts_with_a_copy_and_grows(void **state)
{
    struct pl_storage *st;
    uint8_t bytes[100];

    (void)state;
    pattern(bytes, 0, sizeof bytes, 1);
    OK(pl_memory_storage(bytes, sizeof bytes, 10000, &st, &e));
    memset(bytes, 0, sizeof bytes);
    assert_true(reads_as(st, 0, 100, 1));
    write_pattern(st, 5000, 100, 1);
    assert_int_equal(pl_storage_size(st), 5100);
    assert_true(reads_as(st, 100, 4900, ZEROS));
    OK(pl_storage_zero(st, 5050, 1000, &e));
    assert_int_equal(pl_storage_size(st), 6050);
    assert_true(reads_as(st, 5000, 50, 1));
    assert_true(reads_as(st, 5050, 1000, ZEROS));
    pl_storage_close(st, NULL);
}

static void what_was_cut_off_comes_back_as_zeros(void **state)
{
    struct pl_storage *st;

    (void)state;
    OK(pl_memory_storage(NULL, 0, 10000, &st, &e));
    write_pattern(st, 0, 1000, 1);
    OK(pl_storage_resize(st, 500, &e));
    OK(pl_storage_resize(st, 1000, &e));
    assert_true(reads_as(st, 0, 500, 1));
    assert_true(reads_as(st, 500, 500, ZEROS));
    pl_storage_close(st, NULL);
}

static void memory_is_full_at_its_limit(void **state)
{
    struct pl_storage *st;
    uint8_t buf[100] = { 1 };

    (void)state;
    OK(pl_memory_storage(NULL, 10, 100, &st, &e));
    FAILS(PL_E_NO_SPACE, "0x64", pl_storage_write(st, 1, buf, 100, &e));
    FAILS(PL_E_NO_SPACE, "limit", pl_storage_zero(st, 0, 101, &e));
    FAILS(PL_E_NO_SPACE, "limit", pl_storage_resize(st, 101, &e));
    assert_int_equal(pl_storage_size(st), 10);
    OK(pl_storage_write(st, 0, buf, 100, &e));
    FAILS(PL_E_CORRUPT, "past the end", pl_storage_read(st, 50, buf, 51, &e));
    pl_storage_close(st, NULL);
    FAILS(PL_E_NO_SPACE, "limit", pl_memory_storage(NULL, 101, 100, &st, &e));
}

static void a_window_is_a_range_of_another(void **state)
{
    struct pl_storage *under, *st;

    (void)state;
    OK(pl_memory_storage(NULL, 4096, 8192, &under, &e));
    OK(pl_window_storage(under, 1000, 2000, &st, &e));
    assert_int_equal(pl_storage_size(st), 2000);
    write_pattern(st, 0, 2000, 1);
    OK(pl_storage_zero(st, 10, 20, &e));
    assert_true(reads_as(under, 0, 1000, ZEROS));
    assert_true(reads_as(under, 1010, 20, ZEROS));
    assert_true(reads_as(under, 3000, 1096, ZEROS));
    assert_true(reads_as(st, 30, 1970, 1));
    pl_storage_close(st, NULL);
    pl_storage_close(under, NULL);
}

static void a_window_has_edges(void **state)
{
    struct pl_storage *under, *st;
    uint8_t buf[2001] = { 1 };

    (void)state;
    OK(pl_memory_storage(NULL, 4096, 8192, &under, &e));
    OK(pl_window_storage(under, 1000, 2000, &st, &e));
    FAILS(PL_E_CORRUPT, "past the end of the window", pl_storage_read(st, 0, buf, 2001, &e));
    FAILS(PL_E_NO_SPACE, "past the end", pl_storage_write(st, 0, buf, 2001, &e));
    FAILS(PL_E_NO_SPACE, "past the end", pl_storage_zero(st, 2000, 1, &e));
    FAILS(PL_E_UNSUPPORTED, "fixed", pl_storage_resize(st, 1000, &e));
    OK(pl_storage_preallocate(st, 0, 2000, PL_PREALLOC_OFF, &e));
    OK(pl_storage_read_padded(st, 1999, buf, 2001, &e));
    assert_int_equal(buf[1], 0);
    pl_storage_close(st, NULL);
    FAILS(PL_E_CORRUPT, "past the end", pl_window_storage(under, 4000, 97, &st, &e));
    FAILS(PL_E_CORRUPT, "past the end", pl_window_storage(under, UINT64_MAX, 2, &st, &e));
    pl_storage_close(under, NULL);
}

static void a_window_shows_the_holes_below(void **state)
{
    struct pl_storage *under = new_file("under"), *st;
    uint64_t len = 200000;
    bool hole;

    (void)state;
    write_pattern(under, 0, 65536, 1);
    OK(pl_storage_resize(under, 1 << 20, &e));
    OK(pl_window_storage(under, 60000, 900000, &st, &e));
    OK(pl_storage_map(st, 0, &len, &hole, &e));
    assert_false(hole);
    assert_true(len == 5536 || len == 200000); /* the latter where no holes are shown */
    pl_storage_close(st, NULL);
    pl_storage_close(under, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_starts_with_a_copy_and_grows),
        cmocka_unit_test(what_was_cut_off_comes_back_as_zeros),
        cmocka_unit_test(memory_is_full_at_its_limit),
        cmocka_unit_test(a_window_is_a_range_of_another),
        cmocka_unit_test(a_window_has_edges),
        cmocka_unit_test(a_window_shows_the_holes_below),
    };

    return cmocka_run_group_tests_name("memory and windows", tests, NULL, NULL);
}
