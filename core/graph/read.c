/* read.c - guest bytes from where the map says they are.  No driver has a read loop of its own. */
#include <inttypes.h>
#include <string.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/graph/node.h"

static void free_unpacker(struct pl_unpacker *u)
{
    pl_codec_close(u->codec);
    free(u->packed);
    free(u->unit);
    free(u);
}

static int make_room(uint8_t **buf, size_t *room, size_t len, struct pl_err *e)
{
    if (*room >= len)
        return 0;
    free(*buf);
    *room = 0;
    *buf = pl_buffer(len);
    if (!*buf)
        return pl_fail(e, PL_E_NOMEM, "no memory for a compressed unit of %zu bytes", len);
    *room = len;
    return 0;
}

static struct pl_unpacker *take_idle(struct pl_image *img)
{
    struct pl_unpacker *u;

    PL_LOCKED(&img->unpackers_lock);
    u = img->unpackers;
    if (u)
        img->unpackers = u->next;
    return u;
}

int pl_unpacker_get(struct pl_image *img, const struct pl_codec *codec, size_t packed_len,
                    size_t unit_len, struct pl_unpacker **out, struct pl_err *e)
{
    struct pl_unpacker *u = take_idle(img);

    if (!u && !(u = calloc(1, sizeof *u)))
        return pl_fail(e, PL_E_NOMEM, "no memory for unpacking");
    if (u->codec && pl_codec_of(u->codec) != codec) {
        pl_codec_close(u->codec);
        u->codec = NULL;
    }
    if ((!u->codec && pl_codec_open(codec, 0, &u->codec, e) < 0) ||
        make_room(&u->packed, &u->packed_room, packed_len, e) < 0 ||
        make_room(&u->unit, &u->unit_room, unit_len, e) < 0) {
        free_unpacker(u);
        return -1;
    }
    *out = u;
    return 0;
}

void pl_unpacker_put(struct pl_image *img, struct pl_unpacker *unpacker)
{
    PL_LOCKED(&img->unpackers_lock);
    unpacker->next = img->unpackers;
    img->unpackers = unpacker;
}

void pl_unpackers_free(struct pl_image *img)
{
    struct pl_unpacker *u;

    while ((u = take_idle(img)))
        free_unpacker(u);
}

static int unpack(struct pl_unpacker *u, const struct pl_extent *x, uint64_t at, uint8_t *buf,
                  size_t len, struct pl_err *e)
{
    const uint64_t skip = at - x->unit_at;
    const bool whole = skip == 0 && len == x->unit_len;
    uint8_t *unit = whole ? buf : u->unit;

    if (pl_storage_read_padded(x->st, x->off, u->packed, x->packed_len, e) < 0)
        return -1;
    if (pl_unpack(u->codec, u->packed, x->packed_len, unit, x->unit_len, e) < 0)
        return pl_within(e, "compressed unit of guest address 0x%" PRIx64 " at offset 0x%" PRIx64,
                         x->unit_at, x->off);
    if (!whole)
        memcpy(buf, unit + skip, len);
    return 0;
}

static int read_packed(const struct pl_located *located, uint64_t at, uint8_t *buf, size_t len,
                       struct pl_err *e)
{
    const struct pl_extent *x = &located->extent;
    struct pl_unpacker *u;
    int result;

    if (pl_unpacker_get(located->image, x->codec, x->packed_len, x->unit_len, &u, e) < 0)
        return -1;
    result = unpack(u, x, at, buf, len, e);
    pl_unpacker_put(located->image, u);
    return result;
}

int pl_read_located(const struct pl_located *located, uint64_t at, void *buf, size_t len,
                    struct pl_err *e)
{
    const struct pl_extent *x = &located->extent;
    int result = 0;

    if (x->state == PL_ZERO)
        memset(buf, 0, len);
    else if (x->state == PL_DATA)
        result = pl_storage_read_padded(x->st, x->off, buf, len, e);
    else
        result = read_packed(located, at, buf, len, e);
    return result < 0 ? pl_within(e, "%s", located->image->path) : 0;
}

int pl_read_unlocked(struct pl_image *img, uint64_t at, uint8_t *buf, size_t len, struct pl_err *e)
{
    while (len > 0) {
        struct pl_located located;
        size_t piece;

        if (pl_locate(img, at, len, &located, e) < 0)
            return -1;
        piece = PL_MIN(len, located.extent.len);
        if (pl_read_located(&located, at, buf, piece, e) < 0)
            return -1;
        at += piece;
        buf += piece;
        len -= piece;
    }
    return 0;
}

int pl_read(struct pl_image *img, uint64_t at, void *buf, size_t len, struct pl_err *e)
{
    struct pl_range range;
    int result;

    if (pl_check_range(img, at, len, e) < 0)
        return -1;
    if (!img->writable)
        return pl_read_unlocked(img, at, buf, len, e);
    /* a cluster that is freed and given to another guest address meanwhile must not be read */
    pl_range_take(&img->ranges, &range, at, at + len, false);
    result = pl_read_unlocked(img, at, buf, len, e);
    pl_range_drop(&img->ranges, &range);
    return result;
}
