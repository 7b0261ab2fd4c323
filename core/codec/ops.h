/* ops.h - what a codec consists of; for the files of core/codec alone. */
#ifndef PL_CORE_CODEC_OPS_H
#define PL_CORE_CODEC_OPS_H

#include "core/codec/codec.h"

/* What every codec's state starts with; the rest of it is zeroed when it is made. */
struct pl_codec_state {
    const struct pl_codec *codec;
    int level; /* 0: the codec's default */
};

/* One conversion: all of src to dst, which has room for dst_len bytes. */
struct pl_codec_unit {
    const void *src;
    size_t src_len;
    void *dst;
    size_t dst_len;
};

struct pl_codec_ops {
    size_t state_size;
    /* As pl_pack and pl_unpack; what they need is made at first use and kept in the state. */
    int (*pack)(struct pl_codec_state *state, const struct pl_codec_unit *unit, size_t *packed_len,
                struct pl_err *e);
    int (*unpack)(struct pl_codec_state *state, const struct pl_codec_unit *unit, struct pl_err *e);
    size_t (*bound)(const struct pl_codec *codec, size_t len); /* as pl_pack_bound */
    /* As pl_reframe, among the codecs that share these ops; null: they have no frames to change. */
    int (*reframe)(struct pl_codec_state *state, const struct pl_foreign_unit *foreign, void *dst,
                   size_t *dst_len, struct pl_err *e);
    /* Frees what pack and unpack made, not the state itself. */
    void (*release)(struct pl_codec_state *state);
};

/* "NAME: out of memory" as PL_E_NOMEM.  Returns -1. */
int pl_codec_no_memory(const struct pl_codec_state *state, struct pl_err *e);

#endif
