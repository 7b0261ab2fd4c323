/* deflate.c - raw deflate and deflate in a zlib frame (RFC 1951, RFC 1950).
 *
 * libdeflate does the work; what it refuses gets a second chance from zlib, which writes out all it
 * can: an image may hold streams that lack their last bits or go on behind the unit, and qemu-img
 * reads those as long as the unit comes out whole.
 *
 * Distances reach back 32 KiB although qcow2 readers inflate with a window of 4 KiB (windowBits
 * -12): they hand the whole unit to one inflate() call, which then looks back into the output
 * itself and needs no window (tests/unit/codec/test_window.c). */
#include <libdeflate.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <zlib.h>

#include "core/codec/ops.h"

/* Chosen against what zlib makes at its default level with the 4 KiB window (qemu-img), units of
 * 64 KiB: on 2 GiB of a file system with programs and texts 1 is 1.2 % smaller at a fifth of the
 * work, 2 is 5 % smaller at a third; on a few kinds of data 1 is up to 2 % bigger.  Short units
 * leave the longer window nothing to win, so there it takes a better search. */
#define LEVEL_DEFAULT 1
#define LEVEL_DEFAULT_SHORT 6
#define SHORT_UNIT (32 * 1024) /* bytes; shorter ones are short */

struct deflate_state {
    struct pl_codec_state base;
    struct libdeflate_compressor *packer[2];  /* for long and short units; null until the first */
    struct libdeflate_decompressor *unpacker; /* null until the first unpack */
    z_stream *second;                         /* null until a stream is odd */
};

/* What differs between raw deflate and the zlib frame. */
struct frame {
    size_t (*pack)(struct libdeflate_compressor *packer, const void *src, size_t len, void *dst,
                   size_t cap);
    enum libdeflate_result (*unpack)(struct libdeflate_decompressor *unpacker, const void *src,
                                     size_t src_len, void *dst, size_t dst_len, size_t *src_used,
                                     size_t *dst_used);
    int window_bits; /* for zlib; the sign says which frame */
};

static const struct frame *frame_of(const struct deflate_state *ds)
{
    static const struct frame raw = { libdeflate_deflate_compress, libdeflate_deflate_decompress_ex,
                                      -MAX_WBITS };
    static const struct frame zlib = { libdeflate_zlib_compress, libdeflate_zlib_decompress_ex,
                                       MAX_WBITS };

    return ds->base.codec == &pl_codec_zlib ? &zlib : &raw;
}

/* Null when out of memory. */
static struct libdeflate_compressor *packer_for(struct deflate_state *ds, size_t len)
{
    bool is_short = len < SHORT_UNIT;
    struct libdeflate_compressor **packer = &ds->packer[is_short];
    int level = is_short ? LEVEL_DEFAULT_SHORT : LEVEL_DEFAULT;

    if (!*packer)
        *packer = libdeflate_alloc_compressor(ds->base.level ? ds->base.level : level);
    return *packer;
}

static int deflate_pack(struct pl_codec_state *state, const struct pl_codec_unit *unit,
                        size_t *packed_len, struct pl_err *e)
{
    struct deflate_state *ds = (struct deflate_state *)state;
    struct libdeflate_compressor *packer = packer_for(ds, unit->src_len);

    if (!packer)
        return pl_codec_no_memory(state, e);
    *packed_len = frame_of(ds)->pack(packer, unit->src, unit->src_len, unit->dst, unit->dst_len);
    return *packed_len ? 0 : 1;
}

/* zlib ready for a new stream, or null. */
static z_stream *second_reader(struct deflate_state *ds)
{
    int bits = frame_of(ds)->window_bits;

    if (ds->second)
        return inflateReset2(ds->second, bits) == Z_OK ? ds->second : NULL;
    ds->second = calloc(1, sizeof *ds->second);
    if (!ds->second || inflateInit2(ds->second, bits) == Z_OK)
        return ds->second;
    free(ds->second);
    return ds->second = NULL;
}

/* Succeeds when all of the unit came out, whatever is missing behind it; a wrong checksum there is
 * an error all the same. */
static int unpack_odd(struct deflate_state *ds, const struct pl_codec_unit *unit, struct pl_err *e)
{
    const char *name = ds->base.codec->name;
    z_stream *zs = second_reader(ds);
    int result;

    if (!zs)
        return pl_codec_no_memory(&ds->base, e);
    zs->next_in = (Bytef *)unit->src; /* read only, although zlib's type does not say so */
    zs->avail_in = (uInt)unit->src_len;
    zs->next_out = unit->dst;
    zs->avail_out = (uInt)unit->dst_len;
    result = inflate(zs, Z_FINISH);
    if (result == Z_MEM_ERROR)
        return pl_codec_no_memory(&ds->base, e);
    if (result != Z_STREAM_END && result != Z_BUF_ERROR)
        return pl_fail(e, PL_E_CORRUPT, "%s stream is broken: %s", name,
                       zs->msg ? zs->msg : "it asks for a dictionary");
    if (zs->avail_out)
        return pl_fail(e, PL_E_CORRUPT, "%s stream of %zu bytes %s after %zu of %zu bytes", name,
                       unit->src_len, result == Z_BUF_ERROR ? "is cut off" : "ends",
                       unit->dst_len - zs->avail_out, unit->dst_len);
    return 0;
}

static int deflate_unpack(struct pl_codec_state *state, const struct pl_codec_unit *unit,
                          struct pl_err *e)
{
    struct deflate_state *ds = (struct deflate_state *)state;
    size_t used;

    if (unit->src_len > UINT_MAX || unit->dst_len > UINT_MAX)
        return pl_fail(e, PL_E_LIMIT, "%s: a unit of %zu bytes is too big", state->codec->name,
                       unit->src_len > unit->dst_len ? unit->src_len : unit->dst_len);
    if (!ds->unpacker)
        ds->unpacker = libdeflate_alloc_decompressor();
    if (!ds->unpacker)
        return pl_codec_no_memory(state, e);
    if (frame_of(ds)->unpack(ds->unpacker, unit->src, unit->src_len, unit->dst, unit->dst_len,
                             &used, NULL) == LIBDEFLATE_SUCCESS)
        return 0;
    return unpack_odd(ds, unit, e);
}

static void deflate_release(struct pl_codec_state *state)
{
    struct deflate_state *ds = (struct deflate_state *)state;

    libdeflate_free_compressor(ds->packer[0]);
    libdeflate_free_compressor(ds->packer[1]);
    libdeflate_free_decompressor(ds->unpacker);
    if (ds->second)
        inflateEnd(ds->second);
    free(ds->second);
}

static const struct pl_codec_ops deflate_ops = {
    .state_size = sizeof(struct deflate_state),
    .pack = deflate_pack,
    .unpack = deflate_unpack,
    .release = deflate_release,
};

const struct pl_codec pl_codec_deflate = { "deflate", 1, LEVEL_DEFAULT, 12, &deflate_ops };
const struct pl_codec pl_codec_zlib = { "zlib", 1, LEVEL_DEFAULT, 12, &deflate_ops };
