#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/crc32c.h"

static void the_check_value_is_that_of_the_catalogues(void **state)
{
    (void)state;
    assert_int_equal(pl_crc32c(0, "123456789", 9), 0xe3069283);
}

static void the_vectors_of_rfc_3720_hold(void **state)
{
    uint8_t bytes[32];

    (void)state;
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(pl_crc32c(0, bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(pl_crc32c(0, bytes, sizeof bytes), 0x62a8ab43);
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(pl_crc32c(0, bytes, sizeof bytes), 0x46dd794e);
}

static void nothing_has_the_sum_zero(void **state)
{
    (void)state;
    assert_int_equal(pl_crc32c(0, "", 0), 0);
}

static void a_sum_may_be_made_in_pieces_of_any_length(void **state)
{
    uint8_t bytes[100];

    (void)state;
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * i + 3);
    for (unsigned cut = 0; cut <= sizeof bytes; cut++)
        assert_int_equal(pl_crc32c(pl_crc32c(0, bytes, cut), bytes + cut, sizeof bytes - cut),
                         pl_crc32c(0, bytes, sizeof bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_check_value_is_that_of_the_catalogues),
        cmocka_unit_test(the_vectors_of_rfc_3720_hold),
        cmocka_unit_test(nothing_has_the_sum_zero),
        cmocka_unit_test(a_sum_may_be_made_in_pieces_of_any_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
