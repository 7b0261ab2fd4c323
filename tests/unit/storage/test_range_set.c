#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/range_set.h"
#include "tests/support/rig.h"

#define BYTES 200u

static void ranges_that_touch_are_one(void **state)
{
    struct pl_range_set set = { 0 };
    struct pl_range gap;

    (void)state;
    assert_true(pl_range_set_add(&set, 10, 20));
    assert_true(pl_range_set_add(&set, 30, 40));
    assert_int_equal(set.count, 2);
    assert_true(pl_range_set_gap(&set, 0, 50, &gap));
    assert_int_equal(gap.from, 0);
    assert_int_equal(gap.to, 10);
    assert_true(pl_range_set_gap(&set, 15, 50, &gap));
    assert_int_equal(gap.from, 20);
    assert_int_equal(gap.to, 30);
    assert_true(pl_range_set_add(&set, 20, 30));
    assert_int_equal(set.count, 1);
    assert_false(pl_range_set_gap(&set, 10, 40, &gap));
    pl_range_set_free(&set);
}

/* What a plain array of flags says, too. */
static void check(const struct pl_range_set *set, const bool *has, uint64_t *random)
{
    const uint64_t from = rig_below(random, BYTES), to = from + 1 + rig_below(random, BYTES - from);
    struct pl_range gap;
    uint64_t at = from;

    while (at < to && has[at])
        at++;
    if (at == to) {
        assert_false(pl_range_set_gap(set, from, to, &gap));
        return;
    }
    assert_true(pl_range_set_gap(set, from, to, &gap));
    assert_int_equal(gap.from, at);
    while (at < to && !has[at])
        at++;
    assert_int_equal(gap.to, at);
}

static void any_order_of_ranges_gives_the_same_set(void **state)
{
    uint64_t random = 5;

    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        struct pl_range_set set = { 0 };
        bool has[BYTES + 1] = { 0 };

        for (unsigned i = 0; i < 30; i++) {
            const uint64_t from = rig_below(&random, BYTES), len = 1 + rig_below(&random, 12);
            const uint64_t to = PL_MIN(from + len, BYTES);

            assert_true(pl_range_set_add(&set, from, to));
            for (uint64_t at = from; at < to; at++)
                has[at] = true;
            for (unsigned n = 0; n < 20; n++)
                check(&set, has, &random);
        }
        for (size_t i = 1; i < set.count; i++)
            assert_true(set.item[i - 1].to < set.item[i].from);
        pl_range_set_free(&set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_that_touch_are_one),
        cmocka_unit_test(any_order_of_ranges_gives_the_same_set),
    };

    return cmocka_run_group_tests_name("range set", tests, NULL, NULL);
}
