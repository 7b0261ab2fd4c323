#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/zero.h"

#define ROOM 1200

/* Every length, at every alignment of a vector, with garbage right before and behind. */
static void a_single_bit_is_found_wherever_it_is(void **state)
{
    uint8_t buf[ROOM];

    (void)state;
    for (size_t start = 1; start <= 33; start += 4)
        for (size_t len = 0; start + len < ROOM; len += len < 300 ? 1 : 61) {
            memset(buf, 0xff, sizeof buf);
            memset(buf + start, 0, len);
            assert_true(pl_is_zero(buf + start, len));
            for (size_t at = 0; at < len; at += len < 100 ? 1 : 7) {
                buf[start + at] = 0x80;
                assert_false(pl_is_zero(buf + start, len));
                buf[start + at] = 0;
            }
        }
}

static void the_last_byte_counts(void **state)
{
    size_t len = 1 << 20;
    uint8_t *buf = calloc(1, len);

    (void)state;
    assert_non_null(buf);
    assert_true(pl_is_zero(buf, len));
    buf[len - 1] = 1;
    assert_false(pl_is_zero(buf, len));
    assert_true(pl_is_zero(buf, len - 1));
    free(buf);
}

/* Pieces of a layout: '0' zeros, 'd' data in the first byte, 'e' in the last, 'm' in the middle. */
static void lay_out(uint8_t *buf, const char *layout, size_t piece)
{
    for (; *layout; layout++, buf += piece) {
        memset(buf, 0, piece);
        if (*layout != '0')
            buf[*layout == 'd' ? 0 : *layout == 'e' ? piece - 1 : piece / 2 + 9] = 1;
    }
}

static void runs_end_where_the_kind_changes(void **state)
{
    static const struct {
        const char *layout;
        size_t pieces; /* in the first run */
        bool zero;
    } row[] = {
        { "0", 1, true },        { "d", 1, false },      { "00000", 5, true },
        { "dddm", 4, false },    { "0d", 1, true },      { "d0", 1, false },
        { "000m0000", 3, true }, { "deme00", 4, false }, { "00e0", 2, true },
    };
    static const size_t sizes[] = { 64, 512, 4096 };
    uint8_t *buf = malloc(9 * 4096);
    bool zero;

    (void)state;
    assert_non_null(buf);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            lay_out(buf, row[i].layout, sizes[s]);
            assert_int_equal(pl_zero_run(buf, strlen(row[i].layout) * sizes[s], sizes[s], &zero),
                             row[i].pieces * sizes[s]);
            assert_int_equal(zero, row[i].zero);
        }
    free(buf);
}

static void the_last_piece_may_be_short(void **state)
{
    uint8_t buf[1000] = { 0 };
    bool zero;

    (void)state;
    assert_int_equal(pl_zero_run(buf, 1000, 512, &zero), 1000);
    assert_true(zero);
    buf[999] = 1;
    assert_int_equal(pl_zero_run(buf, 1000, 512, &zero), 512);
    assert_true(zero);
    buf[0] = 1;
    assert_int_equal(pl_zero_run(buf, 1000, 512, &zero), 1000);
    assert_false(zero);
    assert_int_equal(pl_zero_run(buf + 1, 1, 4096, &zero), 1);
    assert_true(zero);
    assert_int_equal(pl_zero_run(buf, 1, 4096, &zero), 1);
    assert_false(zero);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_single_bit_is_found_wherever_it_is),
        cmocka_unit_test(the_last_byte_counts),
        cmocka_unit_test(runs_end_where_the_kind_changes),
        cmocka_unit_test(the_last_piece_may_be_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
