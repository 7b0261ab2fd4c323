#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/uuid.h"

static const struct pl_uuid known = { { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99,
                                        0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff } };
#define KNOWN "00112233-4455-6677-8899-aabbccddeeff"

static void text_goes_both_ways(void **state)
{
    static const char *const forms[] = { KNOWN, "00112233-4455-6677-8899-AABBCCDDEEFF",
                                         "{" KNOWN "}" };
    char text[PL_UUID_TEXT];
    struct pl_uuid uuid;
    struct pl_err e;

    (void)state;
    assert_string_equal(pl_uuid_format(&known, text), KNOWN);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        memset(&uuid, 0x55, sizeof uuid);
        assert_int_equal(pl_uuid_parse(forms[i], &uuid, &e), 0);
        assert_true(pl_uuid_equal(&uuid, &known));
    }
}

static void what_is_no_uuid_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "x",
        "{}",
        "{" KNOWN,
        KNOWN "}",
        "{" KNOWN ")",
        KNOWN "0",
        " " KNOWN,
        "00112233445566778899aabbccddeeff",
        "0011223-34455-6677-8899-aabbccddeeff",
        "00112233-4455-6677-8899-aabbccddeefg",
    };
    struct pl_uuid uuid = known;
    struct pl_err e = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(pl_uuid_parse(bad[i], &uuid, &e), -1);
        assert_int_equal(e.kind, PL_E_INVALID);
    }
    assert_true(pl_uuid_equal(&uuid, &known));
}

static void guids_swap_their_first_three_groups(void **state)
{
    static const uint8_t guid[16] = { 0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66,
                                      0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
    struct pl_uuid uuid;
    uint8_t raw[16];

    (void)state;
    pl_uuid_load_guid(&uuid, guid);
    assert_true(pl_uuid_equal(&uuid, &known));
    pl_uuid_store_guid(raw, &known);
    assert_memory_equal(raw, guid, sizeof raw);
    pl_uuid_store_guid(uuid.byte, &uuid); /* in place too */
    assert_memory_equal(uuid.byte, guid, sizeof raw);
}

static void random_ones_differ_and_say_their_version(void **state)
{
    struct pl_uuid a, b;

    (void)state;
    pl_uuid_random(&a);
    pl_uuid_random(&b);
    assert_false(pl_uuid_equal(&a, &b));
    assert_int_equal(a.byte[6] >> 4, 4);
    assert_int_equal(a.byte[8] >> 6, 2);
    assert_false(pl_uuid_is_null(&a));
}

/* The text is fixed for ever: images made with --reproducible depend on it. */
static void names_give_the_same_identifier_for_ever(void **state)
{
    char text[PL_UUID_TEXT];
    struct pl_uuid a, b;

    (void)state;
    pl_uuid_from_name(&a, "disk", 4);
    assert_string_equal(pl_uuid_format(&a, text), "85033f73-e43e-58da-acc1-66441697f185");
    pl_uuid_from_name(&b, "disk2", 5);
    assert_false(pl_uuid_equal(&a, &b));
    pl_uuid_from_name(&b, "disk2", 4);
    assert_true(pl_uuid_equal(&a, &b));
}

static void only_zeros_are_null(void **state)
{
    struct pl_uuid uuid = { { 0 } };

    (void)state;
    assert_true(pl_uuid_is_null(&uuid));
    uuid.byte[15] = 1;
    assert_false(pl_uuid_is_null(&uuid));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_goes_both_ways),
        cmocka_unit_test(what_is_no_uuid_is_refused),
        cmocka_unit_test(guids_swap_their_first_three_groups),
        cmocka_unit_test(random_ones_differ_and_say_their_version),
        cmocka_unit_test(names_give_the_same_identifier_for_ever),
        cmocka_unit_test(only_zeros_are_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
