/* codec.h - compressed units: whole units in, whole units out.  A row a codec.
 *
 *   deflate   raw deflate (qcow, qcow2)         libdeflate, zlib where a stream is odd
 *   zlib      deflate in a zlib frame (VMDK)    the same
 *   zstd      (qcow2)                           libzstd
 */
#ifndef PL_CORE_CODEC_CODEC_H
#define PL_CORE_CODEC_CODEC_H

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

/* Unpacks exactly len bytes from a unit of at most packed_len bytes; what follows the end of the
 * compressed stream inside packed_len is ignored (qcow2 counts whole sectors).  PL_E_CORRUPT when
 * the stream is broken or yields fewer bytes. */
int pl_unpack(struct pl_codec_state *state, const void *packed, size_t packed_len, void *dst,
              size_t len, struct pl_err *e) PL_CHECK;

#endif
