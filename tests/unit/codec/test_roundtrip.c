/* What is packed unpacks to itself, with every codec, at every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/codec/codec.h"
#include "tests/unit/codec/units.h"

#define LARGEST ((size_t)2097152)

static const struct pl_codec *const codecs[] = { &pl_codec_deflate, &pl_codec_zlib,
                                                 &pl_codec_zstd };

struct room {
    uint8_t *unit, *packed, *again;
};

static int make_room(void **state)
{
    struct room *r = calloc(1, sizeof *r);

    r->unit = malloc(LARGEST);
    r->packed = malloc(2 * LARGEST);
    r->again = malloc(LARGEST);
    *state = r;
    return 0;
}

static int drop_room(void **state)
{
    struct room *r = *state;

    free(r->unit);
    free(r->packed);
    free(r->again);
    free(r);
    return 0;
}

static struct pl_codec_state *open_codec(const struct pl_codec *codec, int level)
{
    struct pl_codec_state *cs = NULL;
    struct pl_err e;

    assert_int_equal(pl_codec_open(codec, level, &cs, &e), 0);
    assert_ptr_equal(pl_codec_of(cs), codec);
    return cs;
}

/* Packs r->unit and unpacks it again; returns the packed length. */
static size_t there_and_back(struct room *r, struct pl_codec_state *cs, size_t len)
{
    struct pl_err e;
    size_t packed_len = 0;

    assert_int_equal(
        (packed_len = 2 * LARGEST, pl_pack(cs, r->unit, len, r->packed, &packed_len, &e)), 0);
    memset(r->again, 0xa5, len);
    assert_int_equal(pl_unpack(cs, r->packed, packed_len, r->again, len, &e), 0);
    assert_memory_equal(r->again, r->unit, len);
    return packed_len;
}

static void every_kind_of_unit_survives(void **state)
{
    struct room *r = *state;

    for (unsigned c = 0; c < PL_COUNT(codecs); c++) {
        struct pl_codec_state *cs = open_codec(codecs[c], 0);

        for (unsigned s = 0; s < PL_COUNT(unit_sizes); s++)
            for (unsigned kind = 0; kind < UNIT_KINDS; kind++) {
                fill_unit(r->unit, unit_sizes[s], kind, 88172645463325252U + s);
                there_and_back(r, cs, unit_sizes[s]);
            }
        pl_codec_close(cs);
    }
}

static void odd_lengths_survive(void **state)
{
    static const size_t lengths[] = { 1, 2, 7, 511, 513, 4095, 32767, 32769, 65535, 100001 };
    struct room *r = *state;

    for (unsigned c = 0; c < PL_COUNT(codecs); c++) {
        struct pl_codec_state *cs = open_codec(codecs[c], 0);

        for (unsigned i = 0; i < PL_COUNT(lengths); i++) {
            fill_unit(r->unit, lengths[i], UNIT_TEXT, 7);
            there_and_back(r, cs, lengths[i]);
        }
        pl_codec_close(cs);
    }
}

static void every_level_works_and_no_other(void **state)
{
    struct room *r = *state;
    struct pl_codec_state *cs;
    struct pl_err e = { 0 };

    fill_unit(r->unit, 65536, UNIT_TEXT, 3);
    for (unsigned c = 0; c < PL_COUNT(codecs); c++) {
        const struct pl_codec *codec = codecs[c];

        assert_in_range(codec->level_default, codec->level_min, codec->level_max);
        for (int level = codec->level_min; level <= codec->level_max; level++) {
            cs = open_codec(codec, level);
            assert_in_range(there_and_back(r, cs, 65536), 1, 65536 / 3);
            pl_codec_close(cs);
        }
        assert_int_equal(pl_codec_open(codec, codec->level_max + 1, &cs, &e), -1);
        assert_int_equal(e.kind, PL_E_INVALID);
        assert_int_equal(pl_codec_open(codec, -1, &cs, &e), -1);
    }
}

static void codecs_are_found_by_name(void **state)
{
    (void)state;
    for (unsigned c = 0; c < PL_COUNT(codecs); c++)
        assert_ptr_equal(pl_codec_find(codecs[c]->name), codecs[c]);
    assert_null(pl_codec_find("lzma"));
    assert_null(pl_codec_find(""));
    pl_codec_close(NULL);
}

static void what_does_not_fit_stays_unpacked(void **state)
{
    struct room *r = *state;
    struct pl_err e;
    size_t packed_len;

    fill_unit(r->unit, 65536, UNIT_NOISE, 5);
    memset(r->packed, 0x5a, 65536 + 64);
    for (unsigned c = 0; c < PL_COUNT(codecs); c++) {
        struct pl_codec_state *cs = open_codec(codecs[c], 0);

        for (size_t cap = 65535; cap; cap /= 3) {
            assert_int_equal(
                (packed_len = cap, pl_pack(cs, r->unit, 65536, r->packed, &packed_len, &e)), 1);
            for (unsigned i = 0; i < 64; i++)
                assert_int_equal(r->packed[65535 + i], 0x5a);
        }
        assert_int_equal((packed_len = 0, pl_pack(cs, r->unit, 65536, r->packed, &packed_len, &e)),
                         1);
        pl_codec_close(cs);
    }
}

/* Whatever room is given, the result stays in it, and with enough room it does fit. */
static void the_room_is_never_exceeded(void **state)
{
    struct room *r = *state;
    struct pl_err e;
    size_t needed, packed_len;

    fill_unit(r->unit, 4096, UNIT_RECORDS, 5);
    for (unsigned c = 0; c < PL_COUNT(codecs); c++) {
        struct pl_codec_state *cs = open_codec(codecs[c], 0);

        needed = there_and_back(r, cs, 4096);
        for (size_t cap = 0; cap < needed + 32; cap++) {
            int result;

            memset(r->packed, 0x5a, needed + 64);
            result = (packed_len = cap, pl_pack(cs, r->unit, 4096, r->packed, &packed_len, &e));
            assert_in_range(result, 0, 1);
            assert_true(result == 1 || packed_len == needed);
            assert_true(result == 0 || cap < needed + 16);
            for (size_t i = cap; i < needed + 64; i++)
                assert_int_equal(r->packed[i], 0x5a);
        }
        pl_codec_close(cs);
    }
}

/* Neither what was packed before nor how much room there is changes the result. */
static void packing_depends_on_the_bytes_alone(void **state)
{
    struct room *r = *state;
    struct pl_err e;
    size_t first, second;

    for (unsigned c = 0; c < PL_COUNT(codecs); c++)
        for (unsigned s = 0; s < PL_COUNT(unit_sizes); s++) {
            struct pl_codec_state *fresh = open_codec(codecs[c], 0);
            struct pl_codec_state *used = open_codec(codecs[c], 0);
            size_t len = unit_sizes[s];

            fill_unit(r->unit, len, UNIT_FAR, 11);
            there_and_back(r, used, len);
            fill_unit(r->unit, LARGEST, UNIT_TEXT, 12);
            there_and_back(r, used, LARGEST);
            there_and_back(r, used, len);
            assert_int_equal((first = LARGEST, pl_pack(fresh, r->unit, len, r->packed, &first, &e)),
                             0);
            assert_int_equal((second = len - 1, pl_pack(used, r->unit, len, r->again, &second, &e)),
                             0);
            assert_int_equal(first, second);
            assert_memory_equal(r->packed, r->again, first);
            pl_codec_close(fresh);
            pl_codec_close(used);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_unit_survives),
        cmocka_unit_test(odd_lengths_survive),
        cmocka_unit_test(every_level_works_and_no_other),
        cmocka_unit_test(codecs_are_found_by_name),
        cmocka_unit_test(what_does_not_fit_stays_unpacked),
        cmocka_unit_test(the_room_is_never_exceeded),
        cmocka_unit_test(packing_depends_on_the_bytes_alone),
    };

    return cmocka_run_group_tests(tests, make_room, drop_room);
}
