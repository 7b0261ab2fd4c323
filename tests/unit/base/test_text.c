/* Sizes: the expected texts and numbers were taken from qemu-img 7.2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/text.h"

static void sizes_print_as_in_qemu_img(void **state)
{
    static const struct {
        uint64_t size;
        const char *text;
    } row[] = {
        { 0, "0 B" },
        { 1, "1 B" },
        { 512, "512 B" },
        { 999, "999 B" },
        { 1000, "0.977 KiB" },
        { 1023, "0.999 KiB" },
        { 1024, "1 KiB" },
        { 1536, "1.5 KiB" },
        { 65536, "64 KiB" },
        { 66048, "64.5 KiB" },
        { 200704, "196 KiB" },
        { 511488, "500 KiB" },
        { 512000, "500 KiB" },
        { 1023488, "1e+03 KiB" },
        { 1024000, "0.977 MiB" },
        { 1047552, "0.999 MiB" },
        { 1048576, "1 MiB" },
        { 1049088, "1 MiB" },
        { 1572864, "1.5 MiB" },
        { 10737664, "10.2 MiB" },
        { 67108864, "64 MiB" },
        { 67213824, "64.1 MiB" },
        { 104857600, "100 MiB" },
        { 536870912, "512 MiB" },
        { 1023410176, "976 MiB" },
        { 1048051712, "1e+03 MiB" },
        { 1073217536, "1 GiB" },
        { 1073741824, "1 GiB" },
        { 1610612736, "1.5 GiB" },
        { 136365211648, "127 GiB" },
        { 1099511627776, "1 TiB" },
        { 1649267441664, "1.5 TiB" },
        { 70368744177664, "64 TiB" },
        { 1125899906842624, "1 PiB" },
        { 1152921504606846976, "1 EiB" },
        { 8070450532247928832, "7 EiB" },
        { 9223372035781033984, "8 EiB" },
        { UINT64_MAX, "16 EiB" },
    };
    char buf[32];

    (void)state;
    for (unsigned i = 0; i < PL_COUNT(row); i++)
        assert_string_equal(pl_format_size(row[i].size, buf), row[i].text);
}

static void sizes_parse_as_in_qemu_img(void **state)
{
    static const struct {
        const char *text;
        uint64_t size;
    } row[] = {
        { "0", 0 },
        { "0.0", 0 },
        { "1", 1 },
        { "1.0", 1 },
        { "1.0000b", 1 },
        { "1b", 1 },
        { "1B", 1 },
        { "010", 10 },
        { "00012", 12 },
        { "10k", 10240 },
        { "1K", 1024 },
        { "1.k", 1024 },
        { " 1k", 1024 },
        { "+1k", 1024 },
        { "1.3k", 1331 },
        { "0.1k", 102 },
        { "0.0001k", 0 },
        { "0.0006k", 1 },
        { "0.9999k", 1024 },
        { "1023.5k", 1048064 },
        { "64M", 67108864 },
        { "1m", 1048576 },
        { "12.0625M", 12648448 },
        { "1.5G", 1610612736 },
        { "0.25G", 268435456 },
        { "1t", 1099511627776 },
        { "1P", 1125899906842624 },
        { "7E", 8070450532247928832 },
        { "7.9E", 9108079886394091110 },
        { "0x10000", 65536 },
        { "0X10", 16 },
        { "0x10k", 16384 },
        { "0x10M", 16777216 },
        { "0x10B", 267 },
        { "0x10E", 270 },
        { "0x1b", 27 },
        { "0x7fffffffffffffff", INT64_MAX },
        { "9223372036854775807", INT64_MAX },
        /* and where qemu-img refuses */
        { "1KiB", 1024 },
        { "1.5GiB", 1610612736 },
        { "0.99999999999999999999k", 1024 },
    };
    struct pl_err e;
    uint64_t size;

    (void)state;
    for (unsigned i = 0; i < PL_COUNT(row); i++) {
        assert_int_equal(pl_parse_size(row[i].text, 1, &size, &e), 0);
        assert_int_equal(size, row[i].size);
    }
}

static void what_is_no_size_is_refused(void **state)
{
    static const char *const text[] = {
        "",       " ",    "k",   ".5k",   "1e3",   "1e1k",          "1.5e2k", "1,5k", "1..5k",
        "1.5.5k", "1 k",  "1k ", "1kb",   "1kib",  "1bib",          "nan",    "inf",  "0x",
        "0xG",    "0b1",  "1x",  "0x1p3", "0x1.8", "0x1.0k",        "-1",     "-5k",  " -1",
        "1.5",    "1.7b", "0.5", "--1",   "1kk",   "1\xe2\x82\xac",
    };
    struct pl_err e = { 0 };
    uint64_t size = 77;

    (void)state;
    for (unsigned i = 0; i < PL_COUNT(text); i++) {
        assert_int_equal(pl_parse_size(text[i], 1, &size, &e), -1);
        assert_int_equal(e.kind, PL_E_INVALID);
    }
    assert_int_equal(size, 77);
}

static void a_size_beyond_the_largest_offset_is_a_limit(void **state)
{
    static const char *const text[] = { "8E",
                                        "9.5E",
                                        "9223372036854775808",
                                        "18446744073709551616",
                                        "0xffffffffffffffffff",
                                        "99999999999999999999999999E",
                                        "0x8000000000000000" };
    struct pl_err e = { 0 };
    uint64_t size = 77;

    (void)state;
    for (unsigned i = 0; i < PL_COUNT(text); i++) {
        assert_int_equal(pl_parse_size(text[i], 1, &size, &e), -1);
        assert_int_equal(e.kind, PL_E_LIMIT);
    }
    assert_int_equal(size, 77);
}

static void a_number_without_suffix_counts_the_unit(void **state)
{
    struct pl_err e;
    uint64_t size;

    (void)state;
    assert_int_equal(pl_parse_size("3", PL_MIB, &size, &e), 0);
    assert_int_equal(size, 3 * PL_MIB);
    assert_int_equal(pl_parse_size("1.5", PL_MIB, &size, &e), 0);
    assert_int_equal(size, 3 * PL_MIB / 2);
    assert_int_equal(pl_parse_size("3b", PL_MIB, &size, &e), 0);
    assert_int_equal(size, 3);
}

static void numbers_are_plain_and_within_their_range(void **state)
{
    static const char *const bad[] = { "", "x", "-1", "+1", " 1", "1 ", "0x1", "1k", "1.0" };
    struct pl_err e = { 0 };
    uint64_t n;

    (void)state;
    assert_int_equal(pl_parse_number("18446744073709551615", 0, UINT64_MAX, &n, &e), 0);
    assert_true(n == UINT64_MAX);
    assert_int_equal(pl_parse_number("7", 7, 7, &n, &e), 0);
    assert_int_equal(n, 7);
    for (unsigned i = 0; i < PL_COUNT(bad); i++) {
        assert_int_equal(pl_parse_number(bad[i], 0, 9, &n, &e), -1);
        assert_int_equal(e.kind, PL_E_INVALID);
    }
    assert_int_equal(pl_parse_number("6", 7, 9, &n, &e), -1);
    assert_int_equal(e.kind, PL_E_LIMIT);
    assert_int_equal(pl_parse_number("10", 7, 9, &n, &e), -1);
    assert_int_equal(pl_parse_number("18446744073709551616", 0, UINT64_MAX, &n, &e), -1);
    assert_int_equal(e.kind, PL_E_LIMIT);
    assert_string_equal(e.msg, "18446744073709551616 is outside [0, 18446744073709551615]");
    assert_int_equal(n, 7);
}

static void bytes_print_as_hexadecimal(void **state)
{
    char buf[9];

    (void)state;
    assert_string_equal(pl_format_hex("\x00\x9f\xa0\xff", 4, buf), "009fa0ff");
    assert_string_equal(pl_format_hex("", 0, buf), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_print_as_in_qemu_img),
        cmocka_unit_test(sizes_parse_as_in_qemu_img),
        cmocka_unit_test(what_is_no_size_is_refused),
        cmocka_unit_test(a_size_beyond_the_largest_offset_is_a_limit),
        cmocka_unit_test(a_number_without_suffix_counts_the_unit),
        cmocka_unit_test(numbers_are_plain_and_within_their_range),
        cmocka_unit_test(bytes_print_as_hexadecimal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
