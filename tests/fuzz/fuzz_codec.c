/* Compressed units from strangers: the first byte says which codec and how long a unit is meant to
 * be. What can be packed again must come back the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/codec/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void pack_again(struct pl_codec_state *state, const uint8_t *unit, size_t len)
{
    size_t packed_len = 2 * len + 1024;
    PL_FREE uint8_t *packed = malloc(packed_len), *back = malloc(len);

    if (!packed || !back || pl_pack(state, unit, len, packed, &packed_len, NULL) != 0)
        return;
    if (pl_unpack(state, packed, packed_len, back, len, NULL) < 0 || memcmp(back, unit, len) != 0)
        abort();
}

/* What another frame takes over must be the same unit there. */
static void change_frame(const struct pl_codec *from, const uint8_t *packed, size_t packed_len,
                         uint8_t *unit, size_t len)
{
    const struct pl_codec *to = from == &pl_codec_zlib ? &pl_codec_deflate : &pl_codec_zlib;
    const struct pl_foreign_unit foreign = { from, packed, packed_len, unit, len };
    size_t framed_len = packed_len + 6;
    PL_FREE uint8_t *framed = malloc(framed_len), *back = malloc(len);
    struct pl_codec_state *state;

    if (!framed || !back || pl_codec_open(to, 0, &state, NULL) < 0)
        return;
    if (pl_reframe(state, &foreign, framed, &framed_len, NULL) == 0 &&
        (pl_unpack(state, framed, framed_len, back, len, NULL) < 0 || memcmp(back, unit, len) != 0))
        abort();
    pl_codec_close(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct pl_codec *const codecs[] = { &pl_codec_deflate, &pl_codec_zlib,
                                                     &pl_codec_zstd };
    PL_FREE uint8_t *unit = NULL;
    struct pl_codec_state *state;
    size_t len;

    if (size < 1)
        return 0;
    len = (size_t)512 << (data[0] >> 2) % 12;
    unit = malloc(len);
    if (!unit || pl_codec_open(codecs[data[0] % PL_COUNT(codecs)], 0, &state, NULL) < 0)
        return 0;
    if (pl_unpack(state, data + 1, size - 1, unit, len, NULL) == 0)
        pack_again(state, unit, len);
    if (pl_codec_of(state) != &pl_codec_zstd)
        change_frame(pl_codec_of(state), data + 1, size - 1, unit, len);
    pl_codec_close(state);
    return 0;
}
