/* zstd.c - Zstandard frames (RFC 8878).
 *
 * Units are unpacked in one step, straight into the caller's buffer, which serves as the window:
 * whatever window size a frame claims, no memory is taken for it. */
#include <stdbool.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "core/base/bytes.h"
#include "core/codec/ops.h"

/* qemu-img packs with the library's default level (ZSTD_CLEVEL_DEFAULT). */
#define LEVEL_DEFAULT 3
#define LEVEL_MAX 22

struct zstd_state {
    struct pl_codec_state base;
    ZSTD_CCtx *packer;   /* null until the first pack */
    ZSTD_DCtx *unpacker; /* null until the first unpack */
};

static int make_packer(struct zstd_state *zs, struct pl_err *e)
{
    int level = zs->base.level ? zs->base.level : LEVEL_DEFAULT;
    ZSTD_CCtx *packer = ZSTD_createCCtx();
    size_t result;

    if (!packer)
        return pl_codec_no_memory(&zs->base, e);
    result = ZSTD_CCtx_setParameter(packer, ZSTD_c_compressionLevel, level);
    if (ZSTD_isError(result)) {
        ZSTD_freeCCtx(packer);
        return pl_fail(e, PL_E_INVALID, "zstd: level %d: %s", level, ZSTD_getErrorName(result));
    }
    zs->packer = packer;
    return 0;
}

static int zstd_pack(struct pl_codec_state *state, const struct pl_codec_unit *unit,
                     size_t *packed_len, struct pl_err *e)
{
    struct zstd_state *zs = (struct zstd_state *)state;
    size_t result;

    if (!zs->packer && make_packer(zs, e))
        return -1;
    result = ZSTD_compress2(zs->packer, unit->dst, unit->dst_len, unit->src, unit->src_len);
    if (ZSTD_getErrorCode(result) == ZSTD_error_dstSize_tooSmall)
        return 1;
    if (ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation)
        return pl_codec_no_memory(state, e);
    if (ZSTD_isError(result))
        return pl_fail(e, PL_E_INVALID, "zstd: packing %zu bytes: %s", unit->src_len,
                       ZSTD_getErrorName(result));
    *packed_len = result;
    return 0;
}

/* Libraries may still carry the decoders of the formats before 1.0; a hostile image shall not reach
 * that old code, and qcow2's zstd is younger. */
static bool is_current_frame(const char *src, size_t len)
{
    uint32_t magic = len < 4 ? 0 : load_le32(src);

    return magic == ZSTD_MAGICNUMBER ||
           (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

static int broken(size_t result, size_t at, struct pl_err *e)
{
    return pl_fail(e, PL_E_CORRUPT, "zstd frame at byte %zu is broken: %s", at,
                   ZSTD_getErrorName(result));
}

/* Frame after frame until the unit is full.  A frame has at least 8 bytes, so even empty ones
 * cannot go on for long. */
static int zstd_unpack(struct pl_codec_state *state, const struct pl_codec_unit *unit,
                       struct pl_err *e)
{
    struct zstd_state *zs = (struct zstd_state *)state;
    const char *src = unit->src;
    char *dst = unit->dst;
    size_t at = 0, done = 0, frame, result;

    if (!zs->unpacker)
        zs->unpacker = ZSTD_createDCtx();
    if (!zs->unpacker)
        return pl_codec_no_memory(state, e);
    while (done < unit->dst_len) {
        if (at == unit->src_len)
            return pl_fail(e, PL_E_CORRUPT, "zstd stream of %zu bytes ends after %zu of %zu bytes",
                           unit->src_len, done, unit->dst_len);
        if (!is_current_frame(src + at, unit->src_len - at))
            return pl_fail(e, PL_E_CORRUPT, "no zstd frame starts at byte %zu", at);
        frame = ZSTD_findFrameCompressedSize(src + at, unit->src_len - at);
        if (ZSTD_isError(frame))
            return broken(frame, at, e);
        result =
            ZSTD_decompressDCtx(zs->unpacker, dst + done, unit->dst_len - done, src + at, frame);
        if (ZSTD_isError(result))
            return broken(result, at, e);
        at += frame;
        done += result;
    }
    return 0;
}

static size_t zstd_bound(const struct pl_codec *codec, size_t len)
{
    (void)codec;
    return ZSTD_compressBound(len);
}

static void zstd_release(struct pl_codec_state *state)
{
    struct zstd_state *zs = (struct zstd_state *)state;

    ZSTD_freeCCtx(zs->packer);
    ZSTD_freeDCtx(zs->unpacker);
}

static const struct pl_codec_ops zstd_ops = {
    .state_size = sizeof(struct zstd_state),
    .pack = zstd_pack,
    .unpack = zstd_unpack,
    .bound = zstd_bound,
    .release = zstd_release,
};

const struct pl_codec pl_codec_zstd = { "zstd", 1, LEVEL_DEFAULT, LEVEL_MAX, &zstd_ops };
