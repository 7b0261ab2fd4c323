#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/bytes.h"

static const uint8_t raw[] = { 0xff, 0x01, 0x82, 0x03, 0x84, 0x05, 0x86, 0x07, 0x88, 0xff };

static void numbers_load_in_either_order_from_any_address(void **state)
{
    (void)state;
    assert_int_equal(load_be16(raw + 1), 0x0182);
    assert_int_equal(load_le16(raw + 1), 0x8201);
    assert_int_equal(load_be32(raw + 1), 0x01820384);
    assert_int_equal(load_le32(raw + 1), 0x84038201);
    assert_true(load_be64(raw + 1) == UINT64_C(0x0182038405860788));
    assert_true(load_le64(raw + 1) == UINT64_C(0x8807860584038201));
}

#define CHECK_STORE(name, bits)                                                                    \
    do {                                                                                           \
        uint8_t to[10];                                                                            \
        memset(to, 0xff, sizeof to);                                                               \
        store_##name(to + 1, load_##name(raw + 1));                                                \
        assert_memory_equal(to + 1, raw + 1, (bits) / 8);                                          \
        assert_int_equal(to[0], 0xff);                                                             \
        assert_int_equal(to[1 + (bits) / 8], 0xff);                                                \
    } while (0)

static void what_is_stored_loads_again_and_nothing_around_it_changes(void **state)
{
    (void)state;
    CHECK_STORE(be16, 16);
    CHECK_STORE(le16, 16);
    CHECK_STORE(be32, 32);
    CHECK_STORE(le32, 32);
    CHECK_STORE(be64, 64);
    CHECK_STORE(le64, 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_load_in_either_order_from_any_address),
        cmocka_unit_test(what_is_stored_loads_again_and_nothing_around_it_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
