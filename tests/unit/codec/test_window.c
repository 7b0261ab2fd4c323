/* Packed units are read by programs that inflate with another window than ours.
 *
 * qemu-img and libqcow open a qcow2 cluster with inflateInit2(-12), a window of 4 KiB, although our
 * distances reach 32 KiB.  That is sound because they give inflate() the whole cluster and room for
 * all of it in one call: it then looks back into the output of that call, without any window.  Here
 * zlib itself does just that, for every cluster size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "core/base/checked.h"
#include "core/codec/codec.h"
#include "tests/unit/codec/units.h"

/* One unit of each size that qcow2 allows; the test's name says what reads it. */
static void for_each_cluster(const struct pl_codec *codec, int level,
                             void (*check)(const uint8_t *packed, size_t packed_len,
                                           const uint8_t *unit, size_t len))
{
    struct pl_codec_state *cs = NULL;
    struct pl_err e;
    size_t packed_len;

    assert_int_equal(pl_codec_open(codec, level, &cs, &e), 0);
    for (size_t len = 512; len <= 2097152; len *= 2) {
        uint8_t *unit = malloc(len), *packed = malloc(2 * len + 512);

        for (unsigned kind = 0; kind < UNIT_KINDS; kind++) {
            fill_unit(unit, len, kind, len + kind + 1);
            assert_int_equal(
                (packed_len = 2 * len + 512, pl_pack(cs, unit, len, packed, &packed_len, &e)), 0);
            check(packed, packed_len, unit, len);
        }
        free(unit);
        free(packed);
    }
    pl_codec_close(cs);
}

/* Inflates with `bits`, giving `step` bytes of room a call; returns zlib's last answer. */
static int inflate_in_steps(int bits, const uint8_t *packed, size_t packed_len, uint8_t *out,
                            size_t len, size_t step)
{
    z_stream zs = { .next_in = (Bytef *)packed, .avail_in = (uInt)packed_len, .next_out = out };
    int result = Z_OK;

    assert_int_equal(inflateInit2(&zs, bits), Z_OK);
    for (size_t done = 0; result == Z_OK && done < len; done += step) {
        zs.avail_out = (uInt)PL_MIN(step, len - done);
        result = inflate(&zs, step == len ? Z_FINISH : Z_SYNC_FLUSH);
    }
    inflateEnd(&zs);
    return result;
}

static void check_narrow(const uint8_t *packed, size_t packed_len, const uint8_t *unit, size_t len)
{
    uint8_t *out = malloc(len);

    assert_int_equal(inflate_in_steps(-12, packed, packed_len, out, len, len), Z_STREAM_END);
    assert_memory_equal(out, unit, len);
    free(out);
}

static void zlib_with_a_4_kib_window_reads_whole_clusters(void **state)
{
    (void)state;
    for_each_cluster(&pl_codec_deflate, 0, check_narrow);
    for_each_cluster(&pl_codec_deflate, 1, check_narrow);
    for_each_cluster(&pl_codec_deflate, 9, check_narrow);
}

/* The other side of it, so that nobody takes the window for meaningless: a reader that inflates bit
 * by bit needs the full window. */
static void a_reader_in_steps_needs_the_full_window(void **state)
{
    const size_t len = 65536;
    uint8_t *unit = malloc(len), *packed = malloc(len), *out = malloc(len);
    struct pl_codec_state *cs = NULL;
    struct pl_err e;
    size_t packed_len;

    (void)state;
    assert_int_equal(pl_codec_open(&pl_codec_deflate, 0, &cs, &e), 0);
    fill_unit(unit, len, UNIT_FAR, 9);
    assert_int_equal((packed_len = len, pl_pack(cs, unit, len, packed, &packed_len, &e)), 0);
    assert_int_equal(inflate_in_steps(-12, packed, packed_len, out, len, 1000), Z_DATA_ERROR);
    assert_int_not_equal(inflate_in_steps(-15, packed, packed_len, out, len, 1000), Z_DATA_ERROR);
    assert_memory_equal(out, unit, len);
    pl_codec_close(cs);
    free(unit);
    free(packed);
    free(out);
}

/* VMDK grains: the frame announces the window, so its readers take the right one, in steps too. */
static void check_zlib(const uint8_t *packed, size_t packed_len, const uint8_t *unit, size_t len)
{
    uint8_t *out = malloc(len);
    uLongf got = len;

    assert_int_equal(packed[0], 0x78);
    assert_int_equal(uncompress(out, &got, packed, packed_len), Z_OK);
    assert_int_equal(got, len);
    assert_memory_equal(out, unit, len);
    memset(out, 0, len);
    assert_true(inflate_in_steps(0, packed, packed_len, out, len, 777) >= Z_OK);
    assert_memory_equal(out, unit, len);
    free(out);
}

static void any_zlib_reader_reads_grains(void **state)
{
    (void)state;
    for_each_cluster(&pl_codec_zlib, 0, check_zlib);
    for_each_cluster(&pl_codec_zlib, 9, check_zlib);
}

/* As qemu-img reads: a stream decoder, which must come to the end of the frame with the cluster. */
static void check_zstd(const uint8_t *packed, size_t packed_len, const uint8_t *unit, size_t len)
{
    uint8_t *out = malloc(len);
    ZSTD_DCtx *unpacker = ZSTD_createDCtx();
    ZSTD_outBuffer to = { out, len, 0 };
    ZSTD_inBuffer from = { packed, packed_len, 0 };

    assert_int_equal(ZSTD_decompressStream(unpacker, &to, &from), 0);
    assert_int_equal(to.pos, len);
    assert_memory_equal(out, unit, len);
    ZSTD_freeDCtx(unpacker);
    free(out);
}

static void a_zstd_stream_reader_reads_clusters(void **state)
{
    (void)state;
    for_each_cluster(&pl_codec_zstd, 0, check_zstd);
    for_each_cluster(&pl_codec_zstd, 15, check_zstd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zlib_with_a_4_kib_window_reads_whole_clusters),
        cmocka_unit_test(a_reader_in_steps_needs_the_full_window),
        cmocka_unit_test(any_zlib_reader_reads_grains),
        cmocka_unit_test(a_zstd_stream_reader_reads_clusters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
