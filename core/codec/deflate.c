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
#include <string.h>
#include <zlib.h>

#include "core/base/bytes.h"
#include "core/codec/ops.h"

/* Chosen against what zlib makes at its default level with the 4 KiB window (qemu-img), units of
 * 64 KiB: on 2 GiB of a file system with programs and texts 1 is 1.2 % smaller at a fifth of the
 * work, 2 is 5 % smaller at a third; on a few kinds of data 1 is up to 2 % bigger.  Short units
 * leave the longer window nothing to win, so there it takes a better search. */
#define LEVEL_DEFAULT 1
#define LEVEL_DEFAULT_SHORT 6

/* In a zlib frame the peers write with the whole window (qemu-img's and VMware's streams), which 1
 * does not match in size. */
#define LEVEL_DEFAULT_ZLIB 6

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
    size_t (*bound)(struct libdeflate_compressor *packer, size_t len);
    int window_bits;     /* for zlib; the sign says which frame */
    unsigned head, tail; /* bytes around the deflate stream */
};

/* RFC 1950: deflate with a window of 32 KiB; the level, of which nothing is known where a stream
 * comes from another frame, as "default"; the check bits make the two a multiple of 31. */
#define ZLIB_HEAD 0x789c
#define ZLIB_HEAD_LEN 2
#define ZLIB_TAIL_LEN 4 /* Adler-32 of the unit */

static const struct frame *frame_of(const struct pl_codec *codec)
{
    static const struct frame raw = {
        .pack = libdeflate_deflate_compress,
        .unpack = libdeflate_deflate_decompress_ex,
        .bound = libdeflate_deflate_compress_bound,
        .window_bits = -MAX_WBITS,
    };
    static const struct frame zlib = {
        .pack = libdeflate_zlib_compress,
        .unpack = libdeflate_zlib_decompress_ex,
        .bound = libdeflate_zlib_compress_bound,
        .window_bits = MAX_WBITS,
        .head = ZLIB_HEAD_LEN,
        .tail = ZLIB_TAIL_LEN,
    };

    return codec == &pl_codec_zlib ? &zlib : &raw;
}

/* Null when out of memory. */
static struct libdeflate_compressor *packer_for(struct deflate_state *ds, size_t len)
{
    bool is_short = len < SHORT_UNIT;
    struct libdeflate_compressor **packer = &ds->packer[is_short];
    int level = is_short ? LEVEL_DEFAULT_SHORT : ds->base.codec->level_default;

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
    *packed_len =
        frame_of(state->codec)->pack(packer, unit->src, unit->src_len, unit->dst, unit->dst_len);
    return *packed_len ? 0 : 1;
}

/* zlib ready for a new stream, or null. */
static z_stream *second_reader(struct deflate_state *ds, int bits)
{
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
static int unpack_odd(struct deflate_state *ds, const struct pl_codec *codec,
                      const struct pl_codec_unit *unit, struct pl_err *e)
{
    const char *name = codec->name;
    z_stream *zs = second_reader(ds, frame_of(codec)->window_bits);
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

/* Unpacks a unit of `codec`.  *used: the bytes of the whole stream with its frame; 0 where it is
 * one that only zlib reads. */
static int unpack_unit(struct deflate_state *ds, const struct pl_codec *codec,
                       const struct pl_codec_unit *unit, size_t *used, struct pl_err *e)
{
    if (unit->src_len > UINT_MAX || unit->dst_len > UINT_MAX)
        return pl_fail(e, PL_E_LIMIT, "%s: a unit of %zu bytes is too big", codec->name,
                       unit->src_len > unit->dst_len ? unit->src_len : unit->dst_len);
    if (!ds->unpacker)
        ds->unpacker = libdeflate_alloc_decompressor();
    if (!ds->unpacker)
        return pl_codec_no_memory(&ds->base, e);
    if (frame_of(codec)->unpack(ds->unpacker, unit->src, unit->src_len, unit->dst, unit->dst_len,
                                used, NULL) == LIBDEFLATE_SUCCESS)
        return 0;
    *used = 0;
    return unpack_odd(ds, codec, unit, e);
}

static int deflate_unpack(struct pl_codec_state *state, const struct pl_codec_unit *unit,
                          struct pl_err *e)
{
    size_t used;

    return unpack_unit((struct deflate_state *)state, state->codec, unit, &used, e);
}

static size_t deflate_bound(const struct pl_codec *codec, size_t len)
{
    return frame_of(codec)->bound(NULL, len); /* no packer: for all levels */
}

static int deflate_reframe(struct pl_codec_state *state, const struct pl_foreign_unit *foreign,
                           void *dst, size_t *dst_len, struct pl_err *e)
{
    const struct frame *from = frame_of(foreign->from), *to = frame_of(state->codec);
    const struct pl_codec_unit unit = { foreign->packed, foreign->packed_len, foreign->unit,
                                        foreign->unit_len };
    uint8_t *out = dst;
    size_t used = 0, stream;

    if (unpack_unit((struct deflate_state *)state, foreign->from, &unit, &used, e) < 0)
        return -1;
    if (!used)
        return 1;
    stream = used - from->head - from->tail;
    if (*dst_len < to->head + to->tail || stream > *dst_len - to->head - to->tail)
        return 1;
    *dst_len = to->head + stream + to->tail;
    memcpy(out + to->head, (const uint8_t *)foreign->packed + from->head, stream);
    if (to->head) {
        store_be16(out, ZLIB_HEAD);
        store_be32(out + ZLIB_HEAD_LEN + stream,
                   libdeflate_adler32(1, foreign->unit, foreign->unit_len));
    }
    return 0;
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
    .bound = deflate_bound,
    .reframe = deflate_reframe,
    .release = deflate_release,
};

const struct pl_codec pl_codec_deflate = { "deflate", 1, LEVEL_DEFAULT, 12, &deflate_ops };
const struct pl_codec pl_codec_zlib = { "zlib", 1, LEVEL_DEFAULT_ZLIB, 12, &deflate_ops };
