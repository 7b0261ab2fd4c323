/* Streams that are odd but whole are read; broken ones are errors, never crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zstd.h>

#include "core/base/checked.h"
#include "core/codec/codec.h"
#include "tests/unit/codec/units.h"

#define UNIT ((size_t)16384)

static const struct pl_codec *const codecs[] = { &pl_codec_deflate, &pl_codec_zlib,
                                                 &pl_codec_zstd };

/* A unit of text, packed. */
struct sample {
    struct pl_codec_state *cs;
    uint8_t unit[UNIT], packed[2 * UNIT], out[UNIT];
    size_t packed_len;
};

static struct sample *make_sample(const struct pl_codec *codec)
{
    struct sample *s = calloc(1, sizeof *s);
    struct pl_err e;

    fill_unit(s->unit, UNIT, UNIT_TEXT, 21);
    assert_int_equal(pl_codec_open(codec, 0, &s->cs, &e), 0);
    assert_int_equal(
        (s->packed_len = UNIT, pl_pack(s->cs, s->unit, UNIT, s->packed, &s->packed_len, &e)), 0);
    return s;
}

static void drop_sample(struct sample *s)
{
    pl_codec_close(s->cs);
    free(s);
}

static void assert_corrupt(struct sample *s, const void *packed, size_t packed_len, size_t len)
{
    struct pl_err e = { 0 };

    assert_int_equal(pl_unpack(s->cs, packed, packed_len, s->out, len, &e), -1);
    assert_int_equal(e.kind, PL_E_CORRUPT);
    assert_true(e.msg[0]);
}

static void what_follows_the_stream_is_ignored(void **state)
{
    struct pl_err e;

    (void)state;
    for (unsigned c = 0; c < PL_COUNT(codecs); c++) {
        struct sample *s = make_sample(codecs[c]);

        fill_noise(s->packed + s->packed_len, UNIT, 5);
        for (size_t more = 0; more < 2000; more += more < 20 ? 1 : 99) {
            memset(s->out, 0, UNIT);
            assert_int_equal(pl_unpack(s->cs, s->packed, s->packed_len + more, s->out, UNIT, &e),
                             0);
            assert_memory_equal(s->out, s->unit, UNIT);
        }
        drop_sample(s);
    }
}

/* Cut anywhere, a stream either still yields the very unit (its last bits may say nothing new) or
 * is an error, and the next read is not disturbed by it. */
static void a_cut_stream_never_yields_anything_else(void **state)
{
    struct pl_err e;

    (void)state;
    for (unsigned c = 0; c < PL_COUNT(codecs); c++) {
        struct sample *s = make_sample(codecs[c]);

        for (size_t len = 0; len < s->packed_len; len++) {
            uint8_t *cut = malloc(len ? len : 1); /* exactly: a read beyond it is seen */

            memcpy(cut, s->packed, len);
            memset(s->out, 0, UNIT);
            if (!pl_unpack(s->cs, cut, len, s->out, UNIT, &e)) {
                assert_true(len + 8 > s->packed_len);
                assert_memory_equal(s->out, s->unit, UNIT);
            } else
                assert_int_equal(e.kind, PL_E_CORRUPT);
            free(cut);
        }
        assert_int_equal(pl_unpack(s->cs, s->packed, s->packed_len, s->out, UNIT, &e), 0);
        assert_memory_equal(s->out, s->unit, UNIT);
        drop_sample(s);
    }
}

static void flipped_bits_are_errors_or_other_bytes_but_no_crash(void **state)
{
    struct pl_err e;

    (void)state;
    for (unsigned c = 0; c < PL_COUNT(codecs); c++) {
        struct sample *s = make_sample(codecs[c]);
        unsigned errors = 0;

        for (size_t bit = 0; bit < 8 * s->packed_len; bit += 1 + bit / 64) {
            s->packed[bit / 8] ^= (uint8_t)(1 << bit % 8);
            errors += pl_unpack(s->cs, s->packed, s->packed_len, s->out, UNIT, &e) != 0;
            s->packed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_true(errors > 0);
        drop_sample(s);
    }
}

static void noise_is_corrupt(void **state)
{
    uint8_t noise[3000];

    (void)state;
    fill_noise(noise, sizeof noise, 99);
    for (unsigned c = 0; c < PL_COUNT(codecs); c++) {
        struct sample *s = make_sample(codecs[c]);

        assert_corrupt(s, noise, sizeof noise, UNIT);
        assert_corrupt(s, noise, 0, UNIT);
        assert_corrupt(s, noise, 1, UNIT);
        drop_sample(s);
    }
}

static void a_stream_that_ends_early_is_corrupt(void **state)
{
    struct pl_err e;

    (void)state;
    for (unsigned c = 0; c < PL_COUNT(codecs); c++) {
        struct sample *s = make_sample(codecs[c]);

        assert_int_equal((s->packed_len = UNIT,
                          pl_pack(s->cs, s->unit, UNIT / 2, s->packed, &s->packed_len, &e)),
                         0);
        assert_corrupt(s, s->packed, s->packed_len, UNIT);
        drop_sample(s);
    }
}

/* qemu-img reads a cluster whose stream goes on behind it; zstd's reader there does not. */
static void a_deflate_stream_may_go_on_behind_the_unit(void **state)
{
    struct pl_err e;

    (void)state;
    for (unsigned c = 0; c < PL_COUNT(codecs); c++) {
        struct sample *s = make_sample(codecs[c]);

        if (codecs[c] == &pl_codec_zstd) {
            assert_corrupt(s, s->packed, s->packed_len, UNIT - 512);
        } else {
            assert_int_equal(pl_unpack(s->cs, s->packed, s->packed_len, s->out, UNIT - 512, &e), 0);
            assert_memory_equal(s->out, s->unit, UNIT - 512);
            assert_int_equal(s->out[UNIT - 512], 0);
        }
        drop_sample(s);
    }
}

/* A stored block that is not marked as the last one, and nothing behind it. */
static void a_deflate_stream_may_lack_its_last_block(void **state)
{
    uint8_t stored[5 + 512] = { 0, 0x00, 0x02, 0xff, 0xfd };
    struct sample *s = make_sample(&pl_codec_deflate);
    struct pl_err e;

    (void)state;
    fill_noise(stored + 5, 512, 4);
    assert_int_equal(pl_unpack(s->cs, stored, sizeof stored, s->out, 512, &e), 0);
    assert_memory_equal(s->out, stored + 5, 512);
    assert_corrupt(s, stored, sizeof stored - 1, 512);
    assert_corrupt(s, stored, sizeof stored, 513);
    drop_sample(s);
}

static void a_zlib_frame_with_a_wrong_checksum_is_corrupt(void **state)
{
    struct sample *s = make_sample(&pl_codec_zlib);

    (void)state;
    s->packed[s->packed_len - 1] ^= 1;
    assert_corrupt(s, s->packed, s->packed_len, UNIT);
    drop_sample(s);
}

static void a_zlib_frame_with_a_dictionary_is_corrupt(void **state)
{
    static const uint8_t frame[] = { 0x78, 0xbb, 1, 2, 3, 4, 3, 0 };
    struct sample *s = make_sample(&pl_codec_zlib);

    (void)state;
    assert_corrupt(s, frame, sizeof frame, UNIT);
    drop_sample(s);
}

/* As a stream encoder writes it: no size in the header, but a checksum. */
static void a_zstd_frame_need_not_say_its_size(void **state)
{
    struct sample *s = make_sample(&pl_codec_zstd);
    ZSTD_CCtx *packer = ZSTD_createCCtx();
    struct pl_err e;

    (void)state;
    ZSTD_CCtx_setParameter(packer, ZSTD_c_contentSizeFlag, 0);
    ZSTD_CCtx_setParameter(packer, ZSTD_c_checksumFlag, 1);
    s->packed_len = ZSTD_compress2(packer, s->packed, UNIT, s->unit, UNIT);
    ZSTD_freeCCtx(packer);
    assert_false(ZSTD_isError(s->packed_len));
    assert_int_equal(pl_unpack(s->cs, s->packed, s->packed_len, s->out, UNIT, &e), 0);
    assert_memory_equal(s->out, s->unit, UNIT);
    s->packed[s->packed_len - 1] ^= 1;
    assert_corrupt(s, s->packed, s->packed_len, UNIT);
    drop_sample(s);
}

/* A skippable frame, then the unit in two frames. */
static void a_zstd_unit_may_consist_of_several_frames(void **state)
{
    static const uint8_t skipped[] = { 0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c' };
    struct sample *s = make_sample(&pl_codec_zstd);
    size_t first, second, at = sizeof skipped;
    struct pl_err e;

    (void)state;
    memcpy(s->packed, skipped, at);
    assert_int_equal((first = UNIT, pl_pack(s->cs, s->unit, 6000, s->packed + at, &first, &e)), 0);
    assert_int_equal((second = UNIT, pl_pack(s->cs, s->unit + 6000, UNIT - 6000,
                                             s->packed + at + first, &second, &e)),
                     0);
    assert_int_equal(pl_unpack(s->cs, s->packed, at + first + second, s->out, UNIT, &e), 0);
    assert_memory_equal(s->out, s->unit, UNIT);
    assert_corrupt(s, s->packed, at + first, UNIT);
    drop_sample(s);
}

/* A frame may claim a window of terabytes: it is refused or read, but no memory is taken for it. */
static void a_huge_zstd_window_costs_nothing(void **state)
{
    /* magic, frame header (byte 5 is the window), then one last, raw block of 512 bytes */
    uint8_t frame[9 + 512] = { 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0, 0x01, 0x10, 0x00 };
    struct sample *s = make_sample(&pl_codec_zstd);
    struct pl_err e;

    (void)state;
    fill_noise(frame + 9, 512, 8);
    for (unsigned window = 0; window < 256; window++) {
        frame[5] = (uint8_t)window;
        if (pl_unpack(s->cs, frame, sizeof frame, s->out, 512, &e))
            assert_int_equal(e.kind, PL_E_CORRUPT);
        else
            assert_memory_equal(s->out, frame + 9, 512);
    }
    drop_sample(s);
}

static void zstd_formats_before_1_0_are_refused(void **state)
{
    struct sample *s = make_sample(&pl_codec_zstd);

    (void)state;
    for (unsigned version = 0x1e; version < 0x28; version++) {
        s->packed[0] = (uint8_t)version;
        assert_corrupt(s, s->packed, s->packed_len, UNIT);
    }
    drop_sample(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_follows_the_stream_is_ignored),
        cmocka_unit_test(a_cut_stream_never_yields_anything_else),
        cmocka_unit_test(flipped_bits_are_errors_or_other_bytes_but_no_crash),
        cmocka_unit_test(noise_is_corrupt),
        cmocka_unit_test(a_stream_that_ends_early_is_corrupt),
        cmocka_unit_test(a_deflate_stream_may_go_on_behind_the_unit),
        cmocka_unit_test(a_deflate_stream_may_lack_its_last_block),
        cmocka_unit_test(a_zlib_frame_with_a_wrong_checksum_is_corrupt),
        cmocka_unit_test(a_zlib_frame_with_a_dictionary_is_corrupt),
        cmocka_unit_test(a_zstd_frame_need_not_say_its_size),
        cmocka_unit_test(a_zstd_unit_may_consist_of_several_frames),
        cmocka_unit_test(a_huge_zstd_window_costs_nothing),
        cmocka_unit_test(zstd_formats_before_1_0_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
