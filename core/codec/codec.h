/* codec.h - compressed units: whole units in, whole units out.  A row a codec.
 *
 *   deflate   raw deflate (qcow, qcow2)         libdeflate, zlib where a stream is odd
 *   zlib      deflate in a zlib frame (VMDK)    the same
 *   zstd      (qcow2)                           libzstd
 */
#ifndef PL_CORE_CODEC_CODEC_H
#define PL_CORE_CODEC_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

/* One thread's working memory for a codec: tables, dictionaries. */
struct pl_codec_state;

struct pl_codec {
    const char *name;
    int level_min, level_default, level_max; /* what a user may ask for; default: deflate.c */
    const struct pl_codec_ops *ops;
};

extern const struct pl_codec pl_codec_deflate, pl_codec_zlib, pl_codec_zstd;

/* The codec of that name, or null. */
const struct pl_codec *pl_codec_find(const char *name);

/* Working memory for packing at `level` (0: the default) and for unpacking.  Made lazily inside, so
 * a state that only unpacks costs no packing tables.  PL_E_NOMEM, PL_E_INVALID (level). */
int pl_codec_open(const struct pl_codec *codec, int level, struct pl_codec_state **out,
                  struct pl_err *e) PL_CHECK;

/* Null is fine. */
void pl_codec_close(struct pl_codec_state *state);

/* Which codec the state is for. */
const struct pl_codec *pl_codec_of(const struct pl_codec_state *state);

/* Packs len bytes into dst, which has room for *packed_len bytes (less than len is usual).  1: does
 * not fit, keep it unpacked; 0: *packed_len bytes were written; -1.  The result depends on the
 * bytes and the level alone. */
int pl_pack(struct pl_codec_state *state, const void *src, size_t len, void *dst,
            size_t *packed_len, struct pl_err *e) PL_CHECK;

/* The most bytes that packing len bytes can take, whatever they are and at every level: with that
 * much room pl_pack never returns 1. */
size_t pl_pack_bound(const struct pl_codec *codec, size_t len);

/* Unpacks exactly len bytes from a unit of at most packed_len bytes; what follows the end of the
 * compressed stream inside packed_len is ignored (qcow2 counts whole sectors).  PL_E_CORRUPT when
 * the stream is broken or yields fewer bytes. */
int pl_unpack(struct pl_codec_state *state, const void *packed, size_t packed_len, void *dst,
              size_t len, struct pl_err *e) PL_CHECK;

/* ---- the same stream in another frame ---- */
/* Whether units of `from` become units of `to` without being packed anew, because the two differ
 * only in what surrounds the stream: deflate and zlib.  false where the two are the same. */
bool pl_can_reframe(const struct pl_codec *from, const struct pl_codec *to);

/* A packed unit in another codec's frame, and room for what it unpacks to. */
struct pl_foreign_unit {
    const struct pl_codec *from;
    const void *packed;
    size_t packed_len; /* at most: what follows the end of the stream is left behind */
    void *unit;        /* gets unit_len bytes */
    size_t unit_len;
};

/* Checks the unit by unpacking it into foreign->unit, then writes it, framed as the codec of
 * `state` asks, to dst, which has room for *dst_len bytes; pl_can_reframe(from, to) holds.
 *  0: *dst_len bytes were written, and nothing is missing or surplus in them;
 *  1: it does not fit, or the stream is one that not every reader would take (cut off at its end,
 *     or longer than the unit); foreign->unit is filled all the same: pack that anew;
 * -1: PL_E_CORRUPT (foreign->unit is undefined then), PL_E_LIMIT, PL_E_NOMEM. */
int pl_reframe(struct pl_codec_state *state, const struct pl_foreign_unit *foreign, void *dst,
               size_t *dst_len, struct pl_err *e) PL_CHECK;

#endif
