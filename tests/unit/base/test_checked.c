#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/checked.h"

static const struct range {
    const char *name;
    uint64_t off, len, limit;
    bool inside;
} ranges[] = {
    { "a range within is inside", 0, 512, 512, true },
    { "an empty range at the end is inside", 512, 0, 512, true },
    { "an empty range behind the end is outside", 513, 0, 512, false },
    { "one byte past the end is outside", 512, 1, 512, false },
    { "a range across the end is outside", 511, 2, 512, false },
    { "nothing but the empty range fits a limit of 0", 0, 1, 0, false },
    { "a length that would wrap is outside", 512, UINT64_MAX, 1024, false },
    { "an offset that would wrap is outside", UINT64_MAX, 1, 1024, false },
    { "the largest range is inside the largest limit", 0, UINT64_MAX, UINT64_MAX, true },
};

static void check_range(void **state)
{
    const struct range *c = *state;

    assert_int_equal(pl_inside(c->off, c->len, c->limit), c->inside);
}

static void sums_and_products_that_do_not_fit_are_refused(void **state)
{
    uint64_t n;

    (void)state;
    assert_true(pl_add(UINT64_MAX - 1, 1, &n));
    assert_true(n == UINT64_MAX);
    assert_false(pl_add(UINT64_MAX, 1, &n));
    assert_true(pl_mul(UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, &n));
    assert_true(n == UINT64_C(0xffffffff00000000));
    assert_false(pl_mul(UINT64_C(1) << 32, UINT64_C(1) << 32, &n));
    assert_true(pl_mul(UINT64_MAX, 0, &n));
    assert_int_equal(n, 0);
}

static void powers_of_two_are_told_and_measured(void **state)
{
    (void)state;
    assert_false(pl_is_pow2(0));
    assert_true(pl_is_pow2(1));
    assert_false(pl_is_pow2(3));
    assert_false(pl_is_pow2(UINT64_MAX));
    for (unsigned i = 0; i < 64; i++) {
        assert_true(pl_is_pow2(UINT64_C(1) << i));
        assert_int_equal(pl_log2(UINT64_C(1) << i), i);
    }
}

static void rounding_works_for_any_unit(void **state)
{
    (void)state;
    assert_int_equal(pl_round_down(1023, 512), 512);
    assert_int_equal(pl_round_down(1024, 512), 1024);
    assert_int_equal(pl_round_down(100, 7), 98);
    assert_int_equal(pl_round_up(0, 512), 0);
    assert_int_equal(pl_round_up(1, 512), 512);
    assert_int_equal(pl_round_up(512, 512), 512);
    assert_int_equal(pl_round_up(99, 7), 105);
    assert_true(pl_round_up(PL_OFFSET_MAX, 65536) == UINT64_C(1) << 63);
    assert_int_equal(pl_div_up(0, 512), 0);
    assert_int_equal(pl_div_up(1, 512), 1);
    assert_int_equal(pl_div_up(513, 512), 2);
    assert_true(pl_div_up(UINT64_MAX, 1) == UINT64_MAX);
    assert_true(pl_div_up(UINT64_MAX, 2) == UINT64_C(1) << 63);
}

static void the_smaller_and_the_larger(void **state)
{
    static const int array[5];

    (void)state;
    assert_int_equal(PL_MIN(1, 2), 1);
    assert_int_equal(PL_MAX(1, 2), 2);
    assert_int_equal(PL_COUNT(array), 5);
    assert_int_equal(PL_TIB, UINT64_C(1) << 40);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(ranges) + 4] = {
        cmocka_unit_test(sums_and_products_that_do_not_fit_are_refused),
        cmocka_unit_test(powers_of_two_are_told_and_measured),
        cmocka_unit_test(rounding_works_for_any_unit),
        cmocka_unit_test(the_smaller_and_the_larger),
    };

    for (unsigned i = 0; i < PL_COUNT(ranges); i++)
        tests[4 + i] = (struct CMUnitTest){
            .name = ranges[i].name,
            .test_func = check_range,
            .initial_state = (void *)&ranges[i],
        };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
