/* A stream moves between raw deflate and the zlib frame as it is; what not every reader would take
 * is not passed on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zlib.h>

#include "core/base/checked.h"
#include "core/codec/codec.h"
#include "tests/unit/codec/units.h"

#define UNIT ((size_t)65536)
#define ROOM (2 * UNIT)

static const struct pl_codec *const codecs[] = { &pl_codec_deflate, &pl_codec_zlib,
                                                 &pl_codec_zstd };

/* A unit packed with one codec, and what becomes of it in the frame of the other. */
struct change {
    const struct pl_codec *from, *to;
    struct pl_codec_state *packer, *reframer;
    uint8_t unit[UNIT], packed[ROOM], unpacked[UNIT], framed[ROOM];
    size_t packed_len, framed_len;
};

static struct change *make_change(bool to_zlib, enum unit_kind kind)
{
    struct change *c = calloc(1, sizeof *c);
    struct pl_err e;

    c->from = to_zlib ? &pl_codec_deflate : &pl_codec_zlib;
    c->to = to_zlib ? &pl_codec_zlib : &pl_codec_deflate;
    assert_int_equal(pl_codec_open(c->from, 0, &c->packer, &e), 0);
    assert_int_equal(pl_codec_open(c->to, 0, &c->reframer, &e), 0);
    fill_unit(c->unit, UNIT, kind, 77);
    c->packed_len = ROOM;
    assert_int_equal(pl_pack(c->packer, c->unit, UNIT, c->packed, &c->packed_len, &e), 0);
    c->framed_len = ROOM;
    return c;
}

static void drop_change(struct change *c)
{
    pl_codec_close(c->packer);
    pl_codec_close(c->reframer);
    free(c);
}

static int reframe_part(struct change *c, size_t packed_len, size_t unit_len, struct pl_err *e)
{
    const struct pl_foreign_unit foreign = { c->from, c->packed, packed_len, c->unpacked,
                                             unit_len };

    *e = (struct pl_err){ 0 };
    memset(c->unpacked, 0xa5, UNIT);
    return pl_reframe(c->reframer, &foreign, c->framed, &c->framed_len, e);
}

static int reframe(struct change *c, struct pl_err *e)
{
    return reframe_part(c, c->packed_len, UNIT, e);
}

static void packing_always_fits_into_the_bound(void **state)
{
    uint8_t *unit = malloc(UNIT), *packed = malloc(ROOM);

    (void)state;
    for (unsigned c = 0; c < PL_COUNT(codecs); c++)
        for (int level = 1; level <= 12; level += 11)
            for (size_t len = 512; len <= UNIT; len += 8128) {
                size_t packed_len = pl_pack_bound(codecs[c], len);
                struct pl_codec_state *cs;
                struct pl_err e;

                fill_noise(unit, len, len);
                assert_true(packed_len >= len && packed_len <= ROOM);
                assert_int_equal(pl_codec_open(codecs[c], level, &cs, &e), 0);
                assert_int_equal(pl_pack(cs, unit, len, packed, &packed_len, &e), 0);
                pl_codec_close(cs);
            }
    free(unit);
    free(packed);
}

static void only_deflate_and_zlib_change_frames(void **state)
{
    (void)state;
    for (unsigned from = 0; from < PL_COUNT(codecs); from++)
        for (unsigned to = 0; to < PL_COUNT(codecs); to++)
            assert_int_equal(pl_can_reframe(codecs[from], codecs[to]),
                             from != to && from < 2 && to < 2);
}

static void every_kind_of_unit_survives_the_change(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * UNIT_KINDS; i++) {
        struct change *c = make_change(i % 2, i / 2);
        struct pl_codec_state *reader;
        struct pl_err e;

        assert_int_equal(reframe(c, &e), 0);
        assert_memory_equal(c->unpacked, c->unit, UNIT);
        assert_int_equal(c->framed_len, i % 2 ? c->packed_len + 6 : c->packed_len - 6);
        assert_int_equal(pl_codec_open(c->to, 0, &reader, &e), 0);
        memset(c->unpacked, 0xa5, UNIT);
        assert_int_equal(pl_unpack(reader, c->framed, c->framed_len, c->unpacked, UNIT, &e), 0);
        assert_memory_equal(c->unpacked, c->unit, UNIT);
        pl_codec_close(reader);
        drop_change(c);
    }
}

static void zlib_itself_reads_the_new_frame(void **state)
{
    struct change *c = make_change(true, UNIT_TEXT);
    uLongf len = UNIT;
    struct pl_err e;

    (void)state;
    assert_int_equal(reframe(c, &e), 0);
    assert_int_equal(uncompress(c->unpacked, &len, c->framed, c->framed_len), Z_OK);
    assert_int_equal(len, UNIT);
    assert_memory_equal(c->unpacked, c->unit, UNIT);
    drop_change(c);
}

static void changed_there_and_back_it_is_the_same_stream(void **state)
{
    struct change *c = make_change(true, UNIT_RECORDS);
    uint8_t *again = malloc(ROOM);
    size_t again_len = ROOM;
    struct pl_err e;

    (void)state;
    assert_int_equal(reframe(c, &e), 0);
    const struct pl_foreign_unit back = { c->to, c->framed, c->framed_len, c->unpacked, UNIT };
    assert_int_equal(pl_reframe(c->packer, &back, again, &again_len, &e), 0);
    assert_int_equal(again_len, c->packed_len);
    assert_memory_equal(again, c->packed, again_len);
    free(again);
    drop_change(c);
}

static void what_follows_the_stream_is_left_behind(void **state)
{
    (void)state;
    for (int to_zlib = 0; to_zlib < 2; to_zlib++) {
        struct change *c = make_change(to_zlib, UNIT_TEXT);
        size_t framed_len;
        struct pl_err e;

        assert_int_equal(reframe(c, &e), 0);
        framed_len = c->framed_len;
        for (size_t more = 1; more < 600; more += more < 10 ? 1 : 97) {
            fill_noise(c->packed + c->packed_len, more, more);
            c->framed_len = ROOM;
            assert_int_equal(reframe_part(c, c->packed_len + more, UNIT, &e), 0);
            assert_int_equal(c->framed_len, framed_len);
        }
        drop_change(c);
    }
}

static void what_does_not_fit_is_unpacked_all_the_same(void **state)
{
    (void)state;
    for (int to_zlib = 0; to_zlib < 2; to_zlib++) {
        struct change *c = make_change(to_zlib, UNIT_TEXT);
        size_t framed_len;
        struct pl_err e;

        assert_int_equal(reframe(c, &e), 0);
        framed_len = c->framed_len;
        for (size_t less = 1; less <= framed_len; less += less < 12 ? 1 : 999) {
            c->framed_len = framed_len - less;
            assert_int_equal(reframe(c, &e), 1);
            assert_memory_equal(c->unpacked, c->unit, UNIT);
        }
        c->framed_len = 0;
        assert_int_equal(reframe(c, &e), 1);
        c->framed_len = framed_len;
        assert_int_equal(reframe(c, &e), 0);
        drop_change(c);
    }
}

/* Cut anywhere: the error, or (only the last bits are missing) the unit and no stream. */
static void a_cut_stream_is_never_passed_on(void **state)
{
    (void)state;
    for (int to_zlib = 0; to_zlib < 2; to_zlib++) {
        struct change *c = make_change(to_zlib, UNIT_TEXT);
        struct pl_err e;
        bool odd = false;

        for (size_t cut = 1; cut <= c->packed_len; cut += cut < 16 ? 1 : 499) {
            size_t len = c->packed_len - cut;
            uint8_t kept[16];
            int result;

            memcpy(kept, c->packed + len, cut < 16 ? cut : 16);
            memset(c->packed + len, 0xee, cut < 16 ? cut : 16); /* a read beyond it would show */
            result = reframe_part(c, len, UNIT, &e);
            memcpy(c->packed + len, kept, cut < 16 ? cut : 16);
            assert_int_not_equal(result, 0);
            odd |= result == 1;
            if (result == 1)
                assert_memory_equal(c->unpacked, c->unit, UNIT);
            else
                assert_int_equal(e.kind, PL_E_CORRUPT);
        }
        assert_true(odd);
        drop_change(c);
    }
}

static void a_stream_longer_than_the_unit_is_never_passed_on(void **state)
{
    (void)state;
    for (int to_zlib = 0; to_zlib < 2; to_zlib++) {
        struct change *c = make_change(to_zlib, UNIT_TEXT);
        struct pl_err e;

        assert_int_equal(reframe_part(c, c->packed_len, UNIT - 512, &e), 1);
        assert_memory_equal(c->unpacked, c->unit, UNIT - 512);
        assert_int_equal(c->unpacked[UNIT - 512], 0xa5);
        drop_change(c);
    }
}

static void a_broken_stream_is_corrupt_by_the_name_of_its_own_codec(void **state)
{
    (void)state;
    for (int to_zlib = 0; to_zlib < 2; to_zlib++) {
        struct change *c = make_change(to_zlib, UNIT_TEXT);
        struct pl_err e;

        c->packed[to_zlib ? 0 : 2] |= 0x06; /* a kind of block that does not exist */
        assert_int_equal(reframe(c, &e), -1);
        assert_int_equal(e.kind, PL_E_CORRUPT);
        assert_non_null(strstr(e.msg, c->from->name));
        drop_change(c);
    }
}

static void a_wrong_checksum_is_corrupt(void **state)
{
    struct change *c = make_change(false, UNIT_TEXT);
    struct pl_err e;

    (void)state;
    c->packed[c->packed_len - 1] ^= 1;
    assert_int_equal(reframe(c, &e), -1);
    assert_int_equal(e.kind, PL_E_CORRUPT);
    drop_change(c);
}

static void a_unit_too_short_for_its_stream_is_corrupt(void **state)
{
    struct change *c = make_change(true, UNIT_TEXT);
    struct pl_err e;

    (void)state;
    c->packed_len = ROOM;
    assert_int_equal(pl_pack(c->packer, c->unit, UNIT / 2, c->packed, &c->packed_len, &e), 0);
    assert_int_equal(reframe(c, &e), -1);
    assert_int_equal(e.kind, PL_E_CORRUPT);
    drop_change(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_always_fits_into_the_bound),
        cmocka_unit_test(only_deflate_and_zlib_change_frames),
        cmocka_unit_test(every_kind_of_unit_survives_the_change),
        cmocka_unit_test(zlib_itself_reads_the_new_frame),
        cmocka_unit_test(changed_there_and_back_it_is_the_same_stream),
        cmocka_unit_test(what_follows_the_stream_is_left_behind),
        cmocka_unit_test(what_does_not_fit_is_unpacked_all_the_same),
        cmocka_unit_test(a_cut_stream_is_never_passed_on),
        cmocka_unit_test(a_stream_longer_than_the_unit_is_never_passed_on),
        cmocka_unit_test(a_broken_stream_is_corrupt_by_the_name_of_its_own_codec),
        cmocka_unit_test(a_wrong_checksum_is_corrupt),
        cmocka_unit_test(a_unit_too_short_for_its_stream_is_corrupt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
