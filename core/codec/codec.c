#include "core/codec/codec.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/codec/ops.h"

const struct pl_codec *pl_codec_find(const char *name)
{
    static const struct pl_codec *const codecs[] = { &pl_codec_deflate, &pl_codec_zlib,
                                                     &pl_codec_zstd };

    for (unsigned i = 0; i < PL_COUNT(codecs); i++)
        if (!strcmp(codecs[i]->name, name))
            return codecs[i];
    return NULL;
}

int pl_codec_open(const struct pl_codec *codec, int level, struct pl_codec_state **out,
                  struct pl_err *e)
{
    struct pl_codec_state *state;

    if (level && (level < codec->level_min || level > codec->level_max))
        return pl_fail(e, PL_E_INVALID, "%s: level %d is outside %d to %d", codec->name, level,
                       codec->level_min, codec->level_max);
    state = calloc(1, codec->ops->state_size);
    if (!state)
        return pl_fail(e, PL_E_NOMEM, "%s: out of memory", codec->name);
    state->codec = codec;
    state->level = level;
    *out = state;
    return 0;
}

void pl_codec_close(struct pl_codec_state *state)
{
    if (state)
        state->codec->ops->release(state);
    free(state);
}

const struct pl_codec *pl_codec_of(const struct pl_codec_state *state)
{
    return state->codec;
}

int pl_codec_no_memory(const struct pl_codec_state *state, struct pl_err *e)
{
    return pl_fail(e, PL_E_NOMEM, "%s: out of memory", state->codec->name);
}

int pl_pack(struct pl_codec_state *state, const void *src, size_t len, void *dst,
            size_t *packed_len, struct pl_err *e)
{
    const struct pl_codec_unit unit = { src, len, dst, *packed_len };

    return state->codec->ops->pack(state, &unit, packed_len, e);
}

int pl_unpack(struct pl_codec_state *state, const void *packed, size_t packed_len, void *dst,
              size_t len, struct pl_err *e)
{
    const struct pl_codec_unit unit = { packed, packed_len, dst, len };

    return state->codec->ops->unpack(state, &unit, e);
}

size_t pl_pack_bound(const struct pl_codec *codec, size_t len)
{
    return codec->ops->bound(codec, len);
}

bool pl_can_reframe(const struct pl_codec *from, const struct pl_codec *to)
{
    return from != to && from->ops == to->ops && to->ops->reframe;
}

int pl_reframe(struct pl_codec_state *state, const struct pl_foreign_unit *foreign, void *dst,
               size_t *dst_len, struct pl_err *e)
{
    return state->codec->ops->reframe(state, foreign, dst, dst_len, e);
}
