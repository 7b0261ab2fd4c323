#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/fields.h"

struct header {
    uint64_t untouched;
    uint64_t big64, little64;
    uint32_t big32, little32;
    uint16_t big16, little16;
    uint8_t one;
    char magic[4];
    uint8_t id[3];
};

static const struct pl_field fields[] = {
    PL_FIELD(struct header, PL_BYTES, 0, magic),
    PL_FIELD(struct header, PL_BE16, 4, big16),
    PL_FIELD(struct header, PL_LE16, 6, little16),
    PL_FIELD(struct header, PL_BE32, 8, big32),
    PL_FIELD(struct header, PL_LE32, 12, little32),
    PL_FIELD(struct header, PL_U8, 17, one), /* byte 16 belongs to no field */
    PL_FIELD(struct header, PL_BE64, 18, big64),
    PL_FIELD(struct header, PL_LE64, 26, little64),
    PL_FIELD(struct header, PL_BYTES, 34, id),
    { 0 },
};

static const uint8_t raw[37] = { 'P', 'L', 'A', 'T', 1, 2,    1, 2,    1,    2,    3,   4, 1,
                                 2,   3,   4,   99,  7, 0xf1, 2, 3,    4,    5,    6,   7, 8,
                                 1,   2,   3,   4,   5, 6,    7, 0xf8, 0xaa, 0xbb, 0xcc };

static void bytes_become_numbers_by_the_table(void **state)
{
    struct header h;

    (void)state;
    memset(&h, 0x55, sizeof h);
    pl_fields_decode(fields, raw, sizeof raw, &h);
    assert_memory_equal(h.magic, "PLAT", 4);
    assert_int_equal(h.big16, 0x0102);
    assert_int_equal(h.little16, 0x0201);
    assert_int_equal(h.big32, 0x01020304);
    assert_int_equal(h.little32, 0x04030201);
    assert_int_equal(h.one, 7);
    assert_true(h.big64 == UINT64_C(0xf102030405060708));
    assert_true(h.little64 == UINT64_C(0xf807060504030201));
    assert_memory_equal(h.id, "\xaa\xbb\xcc", 3);
    assert_true(h.untouched == UINT64_C(0x5555555555555555));
}

static void numbers_become_the_same_bytes_again(void **state)
{
    uint8_t out[sizeof raw + 1];
    struct header h;

    (void)state;
    memset(out, 99, sizeof out);
    pl_fields_decode(fields, raw, sizeof raw, &h);
    pl_fields_encode(fields, &h, out, sizeof raw);
    assert_memory_equal(out, raw, sizeof raw);
    assert_int_equal(out[sizeof raw], 99);
}

static void fields_beyond_a_short_header_are_zero(void **state)
{
    struct header h;

    (void)state;
    for (size_t len = 0; len <= sizeof raw; len++) {
        memset(&h, 0x55, sizeof h);
        pl_fields_decode(fields, raw, len, &h);
        assert_int_equal(h.big16, len >= 6 ? 0x0102 : 0);
        assert_int_equal(h.little32, len >= 16 ? 0x04030201 : 0);
        assert_int_equal(h.one, len >= 18 ? 7 : 0);
        assert_int_equal(h.id[0], len >= 37 ? 0xaa : 0);
    }
}

static void a_short_header_gets_only_what_fits(void **state)
{
    uint8_t out[sizeof raw];
    struct header h;

    (void)state;
    pl_fields_decode(fields, raw, sizeof raw, &h);
    memset(out, 99, sizeof out);
    pl_fields_encode(fields, &h, out, 15);
    assert_memory_equal(out, raw, 12);
    for (size_t i = 12; i < sizeof out; i++)
        assert_int_equal(out[i], 99);
}

static void a_dump_has_every_field_in_order(void **state)
{
    struct pl_fact *root = pl_facts_new();
    const struct pl_fact *fact;
    struct header h;

    (void)state;
    pl_fields_decode(fields, raw, sizeof raw, &h);
    pl_fields_dump(fields, &h, root);
    fact = root->child;
    for (const struct pl_field *f = fields; f->name; f++, fact = fact->next)
        assert_string_equal(fact->name, f->name);
    assert_null(fact);
    assert_string_equal(root->child->text, "504c4154");
    assert_int_equal(root->child->next->number, 0x0102);
    assert_string_equal(root->last->text, "aabbcc");
    pl_facts_free(root);
}

static void a_table_knows_its_end_and_its_overlaps(void **state)
{
    static const struct pl_field raw_overlap[] = {
        PL_FIELD(struct header, PL_BE32, 0, big32),
        PL_FIELD(struct header, PL_BE16, 3, big16),
        { 0 },
    };
    static const struct pl_field twice[] = {
        PL_FIELD(struct header, PL_BE32, 0, big32),
        PL_FIELD(struct header, PL_LE32, 4, big32),
        { 0 },
    };
    static const struct pl_field none[] = { { 0 } };

    (void)state;
    assert_int_equal(pl_fields_end(fields), sizeof raw);
    assert_int_equal(pl_fields_end(none), 0);
    assert_true(pl_fields_apart(fields));
    assert_true(pl_fields_apart(none));
    assert_false(pl_fields_apart(raw_overlap));
    assert_false(pl_fields_apart(twice));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_become_numbers_by_the_table),
        cmocka_unit_test(numbers_become_the_same_bytes_again),
        cmocka_unit_test(fields_beyond_a_short_header_are_zero),
        cmocka_unit_test(a_short_header_gets_only_what_fits),
        cmocka_unit_test(a_dump_has_every_field_in_order),
        cmocka_unit_test(a_table_knows_its_end_and_its_overlaps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
