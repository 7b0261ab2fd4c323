/* The names that a differencing disk has for its parent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "formats/vhd/utf16.h"
#include "tests/unit/formats/vhd/vhd_images.h"

#define DATA_AT 8192 /* of the first locator; the next ones follow at every 512 bytes */

/* Opens the child; its layer is the caller's to close. */
static void open_child(struct pl_storage *st, struct pl_layer *layer)
{
    OK(pl_vhd.open(&(struct pl_open_args){ .file = st }, layer, &e));
}

/* A child without a locator, of which the name in the header is gone too. */
static struct pl_storage *nameless(void)
{
    struct pl_storage *st = new_vhd("", 1 << 20, "parent.vhd");

    OK(pl_storage_zero(st, HEADER_AT + 64, VHD_NAME_BYTES, &e));
    OK(pl_storage_zero(st, HEADER_AT + VHD_LOCATORS_AT, VHD_LOCATORS * VHD_LOCATOR_BYTES, &e));
    seal(st, HEADER_AT, VHD_HEADER_BYTES, VHD_HEADER_CHECKSUM_AT);
    return st;
}

static void add_locator(struct pl_storage *st, unsigned i, const char *code, const void *data,
                        uint32_t len)
{
    const uint64_t at = HEADER_AT + VHD_LOCATORS_AT + i * VHD_LOCATOR_BYTES;
    const uint64_t end = DATA_AT + VHD_LOCATORS * 512;
    uint8_t footer[VHD_FOOTER_BYTES];

    OK(pl_storage_read(st, 0, footer, sizeof footer, &e));
    OK(pl_storage_write(st, at, code, 4, &e));
    poke(st, at + 4, 4, 512);
    poke(st, at + 8, 4, len);
    poke(st, at + 16, 8, DATA_AT + i * 512);
    OK(pl_storage_write(st, DATA_AT + i * 512, data, len, &e));
    OK(pl_storage_resize(st, end, &e));
    OK(pl_storage_write(st, end, footer, sizeof footer, &e));
    seal(st, HEADER_AT, VHD_HEADER_BYTES, VHD_HEADER_CHECKSUM_AT);
}

static void add_text(struct pl_storage *st, unsigned i, const char *code, const char *text)
{
    uint8_t data[512];

    if (code[0] == 'W' && code[1] == '2')
        add_locator(st, i, code, data, (uint32_t)vhd_utf16_of_text(text, data, sizeof data, false));
    else
        add_locator(st, i, code, text, (uint32_t)strlen(text));
}

static void check_name(struct pl_storage *st, const char *wanted)
{
    struct pl_layer layer;

    open_child(st, &layer);
    if (wanted)
        assert_string_equal(layer.parent_name, wanted);
    else
        assert_null(layer.parent_name);
    assert_string_equal(layer.parent_format, "vhd");
    assert_string_equal(layer.parent_identity, PARENT_ID);
    close_layer(&pl_vhd, &layer);
    pl_storage_close(st, NULL);
}

static const struct row {
    const char *name, *code, *text, *wanted;
} rows[] = {
    { "W2ru, as Hyper-V writes it", "W2ru", ".\\parent.vhd", "parent.vhd" },
    { "W2ru, as VirtualBox writes it", "W2ru", "parent.vhd", "parent.vhd" },
    { "W2ru in another folder", "W2ru", "..\\x\\parent.vhd", "../x/parent.vhd" },
    { "W2ku", "W2ku", "C:\\disks\\parent.vhd", "C:/disks/parent.vhd" },
    { "W2ku with letters of all lengths", "W2ku", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80.vhd",
      "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80.vhd" },
    { "Wi2r", "Wi2r", ".\\parent.vhd", "parent.vhd" },
    { "Wi2k", "Wi2k", "C:\\parent.vhd", "C:/parent.vhd" },
    { "MacX, as XenServer writes it", "MacX", "file://./parent.vhd", "parent.vhd" },
    { "MacX with escapes", "MacX", "file:///a%20b/%41.vhd", "/a b/A.vhd" },
    { "MacX with a host", "MacX", "file://localhost/a.vhd", "/a.vhd" },
    { "MacX with broken escapes", "MacX", "file://./a%2%zz%.vhd", "a%2%zz%.vhd" },
    { "MacX with a NUL", "MacX", "file://./a%00b", "a%00b" },
    { "an alias of MacOS says nothing", "Mac ", "parent.vhd", NULL },
    { "a platform that nobody knows", "abcd", "parent.vhd", NULL },
    { "a name of nothing but the folder", "W2ru", ".\\", NULL },
};

static void reads(void **state)
{
    const struct row *row = *state;
    struct pl_storage *st = nameless();

    add_text(st, 3, row->code, row->text);
    check_name(st, row->wanted);
}

static void a_relative_name_comes_first(void **state)
{
    struct pl_storage *st = nameless();

    (void)state;
    add_text(st, 0, "W2ku", "C:\\absolute.vhd");
    add_text(st, 1, "MacX", "file://./mac.vhd");
    add_text(st, 2, "W2ru", ".\\relative.vhd");
    check_name(st, "relative.vhd");
}

static void what_cannot_be_read_is_passed_over(void **state)
{
    static const uint8_t half[] = { 0x00, 0xd8 }; /* one of a pair */
    struct pl_storage *st = nameless();

    (void)state;
    add_locator(st, 0, "W2ru", half, sizeof half);
    add_text(st, 1, "W2ru", "");
    add_text(st, 2, "W2ru", "far");
    poke(st, HEADER_AT + VHD_LOCATORS_AT + 2 * VHD_LOCATOR_BYTES + 16, 8, UINT64_MAX - 1);
    add_text(st, 3, "W2ru", "long");
    poke(st, HEADER_AT + VHD_LOCATORS_AT + 3 * VHD_LOCATOR_BYTES + 8, 4, 0xffffffff);
    add_text(st, 4, "W2ku", "C:\\good.vhd");
    check_name(st, "C:/good.vhd");
}

static void the_name_in_the_header_comes_last(void **state)
{
    struct pl_storage *st = nameless();
    uint8_t name[64] = { 0 };

    (void)state;
    vhd_utf16_of_text("C:\\in header.vhd", name, sizeof name, true);
    OK(pl_storage_write(st, HEADER_AT + 64, name, sizeof name, &e));
    seal(st, HEADER_AT, VHD_HEADER_BYTES, VHD_HEADER_CHECKSUM_AT);
    check_name(st, "C:/in header.vhd");
}

static void the_unique_id_alone_is_enough(void **state)
{
    struct pl_storage *st = nameless();
    struct pl_layer layer = { 0 };

    (void)state;
    check_name(memory_copy(st, pl_storage_size(st)), NULL);
    OK(pl_storage_zero(st, HEADER_AT + 40, 16, &e));
    seal(st, HEADER_AT, VHD_HEADER_BYTES, VHD_HEADER_CHECKSUM_AT);
    FAILS(PL_E_CORRUPT, "nothing about its parent",
          pl_vhd.open(&(struct pl_open_args){ .file = st }, &layer, &e));
    free(layer.parent_format);
    free(layer.identity);
    free(layer.parent_revision);
    pl_storage_close(st, NULL);
}

static void a_child_tells_what_its_parent_was_like(void **state)
{
    struct pl_storage *st = new_vhd("", 1 << 20, "./sub/parent.vhd");
    struct pl_layer layer;

    (void)state;
    open_child(st, &layer);
    assert_string_equal(layer.parent_name, "sub/parent.vhd");
    assert_string_equal(layer.parent_identity, PARENT_ID);
    assert_string_equal(layer.parent_revision, "time:5");
    assert_non_null(strstr(layer.identity, "uuid:"));
    assert_non_null(strstr(layer.identity, " time:"));
    close_layer(&pl_vhd, &layer);
    pl_storage_close(st, NULL);
}

static void an_absolute_name_has_no_relative_locator(void **state)
{
    struct pl_storage *st = new_vhd("", 1 << 20, "/disks/parent.vhd");
    uint8_t entry[2 * VHD_LOCATOR_BYTES];
    struct pl_layer layer;

    (void)state;
    OK(pl_storage_read(st, HEADER_AT + VHD_LOCATORS_AT, entry, sizeof entry, &e));
    assert_memory_equal(entry, "W2ku", 4);
    assert_memory_equal(entry + VHD_LOCATOR_BYTES, "\0\0\0\0", 4);
    open_child(st, &layer);
    assert_string_equal(layer.parent_name, "/disks/parent.vhd");
    close_layer(&pl_vhd, &layer);
    pl_storage_close(st, NULL);
}

static void names_that_do_not_come_back_are_refused(void **state)
{
    static const char *const names[] = { "back\\slash.vhd", "\xff.vhd" };
    const struct pl_create_args args = { .size = 1 << 20, .parent.identity = PARENT_ID };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(names); i++) {
        struct pl_create_args named = args;

        named.file = memory();
        named.parent.name = names[i];
        FAILS(PL_E_UNSUPPORTED, "cannot hold the name", pl_vhd.create(&named, &e));
        pl_storage_close(named.file, NULL);
    }
}

static void the_parent_must_be_known(void **state)
{
    struct pl_create_args args = { .file = memory(), .size = 1 << 20, .parent.name = "a.vhd" };

    (void)state;
    FAILS(PL_E_INVALID, "unique id", pl_vhd.create(&args, &e));
    args.parent.identity = "cid:01234567 time:5";
    FAILS(PL_E_INVALID, "unique id", pl_vhd.create(&args, &e));
    args.parent.identity = "uuid:nonsense";
    FAILS(PL_E_INVALID, "not a UUID", pl_vhd.create(&args, &e));
    args.parent.identity = PARENT_ID;
    args.parent.format = "qcow2";
    FAILS(PL_E_UNSUPPORTED, "must be a VHD", pl_vhd.create(&args, &e));
    pl_storage_close(args.file, NULL);
}

static void text_goes_to_utf16_and_back(void **state)
{
    static const char text[] = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";
    static const char *const bad[] = {
        "\xff", "\xc3(", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"
    };
    uint8_t bytes[32];

    (void)state;
    for (unsigned big = 0; big < 2; big++) {
        const size_t len = vhd_utf16_of_text(text, bytes, sizeof bytes, big);
        PL_FREE char *back = vhd_text_of_utf16(bytes, len, big);

        assert_int_equal(len, 10);
        assert_int_equal(vhd_utf16_of_text(text, NULL, 0, big), 10);
        assert_string_equal(back, text);
        assert_int_equal(vhd_utf16_of_text(text, bytes, 9, big), 6); /* no half of a pair */
    }
    for (size_t i = 0; i < PL_COUNT(bad); i++) {
        vhd_utf16_of_text(bad[i], bytes, sizeof bytes, false);
        assert_int_equal(load_le16(bytes), '?');
    }
}

int main(void)
{
    const struct CMUnitTest fixed[] = {
        cmocka_unit_test(a_relative_name_comes_first),
        cmocka_unit_test(what_cannot_be_read_is_passed_over),
        cmocka_unit_test(the_name_in_the_header_comes_last),
        cmocka_unit_test(the_unique_id_alone_is_enough),
        cmocka_unit_test(a_child_tells_what_its_parent_was_like),
        cmocka_unit_test(an_absolute_name_has_no_relative_locator),
        cmocka_unit_test(names_that_do_not_come_back_are_refused),
        cmocka_unit_test(the_parent_must_be_known),
        cmocka_unit_test(text_goes_to_utf16_and_back),
    };
    struct CMUnitTest tests[PL_COUNT(rows)];
    int failed = cmocka_run_group_tests_name("vhd locator", fixed, NULL, NULL);

    for (size_t i = 0; i < PL_COUNT(rows); i++)
        tests[i] = (struct CMUnitTest){ .name = rows[i].name,
                                        .test_func = reads,
                                        .initial_state = (void *)&rows[i] };
    failed += _cmocka_run_group_tests("vhd locators", tests, PL_COUNT(tests), NULL, NULL);
    return failed;
}
