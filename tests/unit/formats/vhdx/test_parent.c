/* Differencing disks: the locator, and chains opened by the library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "core/engine/create.h"
#include "core/graph/node.h"
#include "formats/vhdx/vhdx.h"
#include "tests/support/env.h"
#include "tests/unit/formats/vhdx/edit.h"

#define SIZE (4 * PL_MIB)

/* ---- the locator ---- */

static void round_trip(const char *name, const char *wanted)
{
    struct pl_uuid linkage;
    struct vhdx v = { 0 };
    PL_FREE uint8_t *item = NULL;
    uint32_t len;

    pl_uuid_random(&linkage);
    OK(vhdx_make_locator(name, &linkage, &item, &len, &e));
    OK(vhdx_read_locator(&v, item, len, &e));
    assert_string_equal(v.parent_name, wanted);
    assert_true(pl_uuid_equal(&v.parent_linkage, &linkage));
    free(v.parent_name);
}

static void a_locator_is_read_as_it_was_made(void **state)
{
    (void)state;
    round_trip("base.vhdx", "base.vhdx");
    round_trip("./base.vhdx", "base.vhdx");
    round_trip("../a b/base.vhdx", "../a b/base.vhdx");
    round_trip("/images/base.vhdx", "/images/base.vhdx");
    round_trip("gr\xc3\xbc\xc3\x9f \xe6\xbc\xa2 \xf0\x9f\x98\x80.vhdx",
               "gr\xc3\xbc\xc3\x9f \xe6\xbc\xa2 \xf0\x9f\x98\x80.vhdx");
}

static void hyper_v_begins_relative_paths_with_a_dot(void **state)
{
    static const char wanted[] = ".\0\\\0b\0";
    struct pl_uuid linkage = { { 1 } };
    PL_FREE uint8_t *item = NULL;
    uint32_t len;

    (void)state;
    OK(vhdx_make_locator("b", &linkage, &item, &len, &e));
    assert_int_equal(load_le16(item + 18), 3);
    assert_memory_equal(item + len - 6, wanted, 6);
}

/* A good locator with another number in its header or its first entry. */
static const struct bad {
    const char *name;
    uint32_t at;
    unsigned width;
    uint32_t value;
    enum pl_kind kind;
    const char *text;
} bads[] = {
    { "a locator of another type", 0, 4, 1, PL_E_UNSUPPORTED, "not known" },
    { "65535 pairs", 18, 2, 65535, PL_E_CORRUPT, "65535 entries" },
    { "no pairs", 18, 2, 0, PL_E_CORRUPT, "parent_linkage" },
    { "a key past the end", 20, 4, 5000, PL_E_CORRUPT, "not inside" },
    { "a key at the end of all", 20, 4, UINT32_MAX, PL_E_CORRUPT, "not inside" },
    { "a value that is too long", 30, 2, 65535, PL_E_CORRUPT, "not inside" },
    { "a value that is no GUID", 30, 2, 20, PL_E_CORRUPT, "not a UUID" },
};

static void check_bad(void **state)
{
    const struct bad *b = *state;
    struct pl_uuid linkage = { { 1 } };
    struct vhdx v = { 0 };
    PL_FREE uint8_t *item = NULL;
    uint8_t bytes[4];
    uint32_t len;

    OK(vhdx_make_locator("base.vhdx", &linkage, &item, &len, &e));
    store_le32(bytes, b->value);
    memcpy(item + b->at, bytes, b->width);
    FAILS(b->kind, b->text, vhdx_read_locator(&v, item, len, &e));
    free(v.parent_name);
}

/* ---- chains ---- */

static void make(const char *name, const char *parent)
{
    PL_FREE char *path = test_tmp(name);
    struct pl_options *options = pl_options_new();
    const struct pl_create_options create = { .format = "vhdx",
                                              .size = SIZE,
                                              .size_given = true,
                                              .options = options,
                                              .parent = parent,
                                              .parent_format = parent ? "vhdx" : NULL };

    OK(pl_create(path, &create, &e));
    pl_options_free(options);
}

static void write_byte(const char *name, uint64_t at, uint8_t byte)
{
    PL_FREE char *path = test_tmp(name);
    const struct pl_open_options options = { .writable = true };
    struct pl_image *img;

    OK(pl_open(path, &options, &img, &e));
    OK(pl_write(img, at, &byte, 1, &e));
    OK(pl_close(img, &e));
}

static uint8_t read_byte(const char *name, uint64_t at)
{
    PL_FREE char *path = test_tmp(name);
    struct pl_image *img;
    uint8_t byte;

    OK(pl_open(path, NULL, &img, &e));
    OK(pl_read(img, at, &byte, 1, &e));
    OK(pl_close(img, &e));
    return byte;
}

static void a_chain_of_three_is_one_disk(void **state)
{
    (void)state;
    make("a.vhdx", NULL);
    write_byte("a.vhdx", 0, 1);
    write_byte("a.vhdx", 512, 1);
    write_byte("a.vhdx", 1024, 1);
    make("b.vhdx", "a.vhdx");
    write_byte("b.vhdx", 512, 2);
    make("c.vhdx", "b.vhdx");
    write_byte("c.vhdx", 1024, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(read_byte("c.vhdx", 512 * i), i + 1);
    assert_int_equal(read_byte("b.vhdx", 1024), 1);
}

static void a_parent_that_was_changed_is_refused(void **state)
{
    PL_FREE char *path = test_tmp("e.vhdx");
    struct pl_image *img;

    (void)state;
    make("d.vhdx", NULL);
    make("e.vhdx", "d.vhdx");
    write_byte("d.vhdx", 0, 1);
    FAILS(PL_E_MISMATCH, "identity", pl_open(path, NULL, &img, &e));
}

/* The file as bytes from `at` on; they go back by put. */
static void get(const char *name, uint64_t at, void *bytes, size_t len)
{
    PL_FREE char *path = test_tmp(name);
    FILE *file = fopen(path, "rb");

    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fread(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void put(const char *name, uint64_t at, const void *bytes, size_t len)
{
    PL_FREE char *path = test_tmp(name);
    FILE *file = fopen(path, "r+b");

    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* Writes a text as UTF-16; returns its bytes. */
static uint16_t put_text(uint8_t *to, const char *text)
{
    for (size_t i = 0; text[i]; i++)
        store_le16(to + 2 * i, (uint16_t)text[i]);
    return (uint16_t)(2 * strlen(text));
}

/* The second pair of the child's locator, its absolute path, becomes a second linkage. */
static void add_linkage(const char *child, const char *linkage)
{
    uint8_t table[VHDX_METADATA_ENTRIES_AT + 6 * VHDX_METADATA_ENTRY_BYTES], item[1024];
    const uint8_t *entry = table + VHDX_METADATA_ENTRIES_AT + 5 * VHDX_METADATA_ENTRY_BYTES;
    uint8_t *pair = item + VHDX_LOCATOR_HEADER_BYTES + VHDX_LOCATOR_ENTRY_BYTES;
    uint64_t at;

    get(child, METADATA_AT, table, sizeof table);
    assert_memory_equal(entry, vhdx_guid_parent_locator, 16);
    at = METADATA_AT + load_le32(entry + 16);
    get(child, at, item, load_le32(entry + 20));
    store_le16(pair + 8, put_text(item + load_le32(pair), "parent_linkage2"));
    store_le16(pair + 10, put_text(item + load_le32(pair + 4), linkage));
    put(child, at, item, load_le32(entry + 20));
}

static void the_second_linkage_is_as_good_as_the_first(void **state)
{
    static const char parent[] = "a-parent-whose-name-is-as-long-as-a-linkage.vhdx";
    PL_FREE char *parent_path = test_tmp(parent);
    PL_FREE char *path = test_tmp("m.vhdx");
    struct pl_image *img;
    char linkage[PL_UUID_TEXT + 2];

    (void)state;
    make(parent, NULL);
    make("m.vhdx", parent);
    write_byte(parent, 0, 5);
    FAILS(PL_E_MISMATCH, "identity", pl_open(path, NULL, &img, &e));
    OK(pl_open(parent_path, NULL, &img, &e));
    snprintf(linkage, sizeof linkage, "{%s}", img->layer.identity + strlen("uuid:"));
    OK(pl_close(img, &e));
    add_linkage("m.vhdx", linkage);
    assert_int_equal(read_byte("m.vhdx", 0), 5);
    write_byte(parent, 0, 6);
    FAILS(PL_E_MISMATCH, "identity", pl_open(path, NULL, &img, &e));
    add_linkage("m.vhdx", "{no linkage}");
    FAILS(PL_E_CORRUPT, "parent_linkage2", pl_open(path, NULL, &img, &e));
}

static void a_parent_under_another_name_is_found_by_its_identity(void **state)
{
    PL_FREE char *old = test_tmp("f.vhdx");
    PL_FREE char *new = test_tmp("renamed.vhdx");

    (void)state;
    make("f.vhdx", NULL);
    write_byte("f.vhdx", 0, 9);
    make("g.vhdx", "f.vhdx");
    assert_int_equal(rename(old, new), 0);
    assert_int_equal(read_byte("g.vhdx", 0), 9);
}

static void a_missing_parent_is_an_error(void **state)
{
    PL_FREE char *parent = test_tmp("h.vhdx");
    PL_FREE char *path = test_tmp("i.vhdx");
    struct pl_image *img;

    (void)state;
    make("h.vhdx", NULL);
    make("i.vhdx", "h.vhdx");
    assert_int_equal(unlink(parent), 0);
    FAILS(PL_E_NOT_FOUND, "h.vhdx", pl_open(path, NULL, &img, &e));
}

/* The parent's linkage is its own identity: it is its own parent. */
static void an_image_that_is_its_own_parent_is_refused(void **state)
{
    PL_FREE char *path = test_tmp("k.vhdx");
    PL_FREE char *parent = test_tmp("j.vhdx");
    struct pl_image *img;
    uint8_t guid[16];
    FILE *file;

    (void)state;
    make("j.vhdx", NULL);
    make("k.vhdx", "j.vhdx");
    file = fopen(parent, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)VHDX_HEADER_AT(1) + 32, SEEK_SET), 0);
    assert_int_equal(fread(guid, 1, sizeof guid, file), sizeof guid);
    fclose(file);
    file = fopen(path, "r+b");
    for (unsigned i = 0; i < 2; i++) {
        uint8_t header[VHDX_HEADER_BYTES];

        assert_int_equal(fseek(file, (long)VHDX_HEADER_AT(i), SEEK_SET), 0);
        assert_int_equal(fread(header, 1, sizeof header, file), sizeof header);
        memcpy(header + 32, guid, sizeof guid);
        vhdx_seal_sum(header, sizeof header);
        assert_int_equal(fseek(file, (long)VHDX_HEADER_AT(i), SEEK_SET), 0);
        assert_int_equal(fwrite(header, 1, sizeof header, file), sizeof header);
    }
    fclose(file);
    assert_int_equal(rename(path, parent), 0);
    FAILS(PL_E_CORRUPT, "already in the chain", pl_open(parent, NULL, &img, &e));
}

int main(void)
{
    struct CMUnitTest tests[8 + PL_COUNT(bads)] = {
        cmocka_unit_test(a_locator_is_read_as_it_was_made),
        cmocka_unit_test(hyper_v_begins_relative_paths_with_a_dot),
        cmocka_unit_test(a_chain_of_three_is_one_disk),
        cmocka_unit_test(a_parent_that_was_changed_is_refused),
        cmocka_unit_test(the_second_linkage_is_as_good_as_the_first),
        cmocka_unit_test(a_parent_under_another_name_is_found_by_its_identity),
        cmocka_unit_test(a_missing_parent_is_an_error),
        cmocka_unit_test(an_image_that_is_its_own_parent_is_refused),
    };

    for (size_t i = 0; i < PL_COUNT(bads); i++)
        tests[8 + i] = (struct CMUnitTest){ .name = bads[i].name,
                                            .test_func = check_bad,
                                            .initial_state = (void *)&bads[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
