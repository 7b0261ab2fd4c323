#include "core/engine/bitmap_change.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/graph/node.h"

/* The most memory for the bits of one bitmap. */
#define BITS_MAX (512 * PL_MIB)

/* Granularities of a bitmap for which none was asked, as QEMU chooses them. */
#define GRANULARITY_LEAST (4 * PL_KIB)
#define GRANULARITY_MOST (64 * PL_KIB)

static int check_changeable(const struct pl_image *img, struct pl_err *e)
{
    if (!img->driver->bitmap_store || !img->driver->bitmap_remove || !img->driver->bitmap_load)
        return pl_no_slot(img, "a persistent bitmap", e);
    if (!img->layer.bitmaps) {
        pl_fail(e, PL_E_UNSUPPORTED, "%s: this version of %s cannot hold bitmaps", img->path,
                img->driver->name);
        return pl_hint(e, "platter amend -o compat=1.1 makes it one that can");
    }
    if (!img->writable)
        return pl_fail(e, PL_E_INVALID, "%s: it is open for reading only", img->path);
    return 0;
}

/* Fills *out with the bitmap of that name.  1: there is none. */
static int look_up(struct pl_image *img, const char *name, struct pl_bitmap *out, struct pl_err *e)
{
    PL_FREE struct pl_bitmap *list = NULL;
    size_t count;

    if (pl_bitmaps(img, &list, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].name, name) == 0) {
            *out = list[i];
            return 0;
        }
    return 1;
}

/* The same; there must be one. */
static int find(struct pl_image *img, const char *name, struct pl_bitmap *out, struct pl_err *e)
{
    const int r = look_up(img, name, out, e);

    if (r == 1)
        return pl_fail(e, PL_E_NOT_FOUND, "%s: there is no bitmap '%s' in it", img->path, name);
    return r;
}

/* The same; its bits must be right. */
static int find_usable(struct pl_image *img, const char *name, struct pl_bitmap *out,
                       struct pl_err *e)
{
    if (find(img, name, out, e) < 0)
        return -1;
    if (!out->in_use)
        return 0;
    pl_fail(e, PL_E_CORRUPT, "%s: bitmap '%s' is inconsistent and cannot be used", img->path, name);
    return pl_hint(e, "platter bitmap --remove takes it away");
}

/* Room for its bits, none of which is set. */
static int make_bits(const struct pl_image *img, const struct pl_bitmap *bitmap, uint8_t **bits,
                     size_t *len, struct pl_err *e)
{
    const uint64_t bytes = pl_div_up(pl_div_up(pl_size(img), bitmap->granularity), 8);

    if (bytes > BITS_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "%s: bitmap '%s' would have %" PRIu64 " bytes of bits (at most %" PRIu64 ")",
                       img->path, bitmap->name, bytes, BITS_MAX);
    *len = bytes;
    *bits = calloc(1, bytes ? bytes : 1);
    return *bits ? 0
                 : pl_fail(e, PL_E_NOMEM, "%s: no memory for bitmap '%s'", img->path, bitmap->name);
}

static int load(struct pl_image *img, const struct pl_bitmap *bitmap, uint8_t **bits, size_t *len,
                struct pl_err *e)
{
    if (make_bits(img, bitmap, bits, len, e) < 0)
        return -1;
    return img->driver->bitmap_load(img->layer.state, bitmap->name, *bits, *len, e) < 0
               ? pl_within(e, "%s", img->path)
               : 0;
}

static int store(struct pl_image *img, const struct pl_bitmap *bitmap, const uint8_t *bits,
                 size_t len, struct pl_err *e)
{
    return img->driver->bitmap_store(img->layer.state, bitmap, bits, len, e) < 0
               ? pl_within(e, "%s", img->path)
               : 0;
}

static uint64_t default_granularity(const struct pl_image *img)
{
    const uint64_t cluster = pl_cluster_size(img) ? pl_cluster_size(img) : GRANULARITY_MOST;

    return PL_MIN(PL_MAX(cluster, GRANULARITY_LEAST), GRANULARITY_MOST);
}

static int check_new(struct pl_image *img, const char *name, uint64_t granularity, struct pl_err *e)
{
    struct pl_bitmap other;
    const size_t room = sizeof other.name;
    int r;

    if (!*name || strnlen(name, room) == room)
        return pl_fail(e, PL_E_INVALID, "%s: the name of a bitmap must have 1 to %zu bytes",
                       img->path, room - 1);
    if (!pl_is_pow2(granularity) || granularity < 512 || granularity > 2 * PL_GIB)
        return pl_fail(e, PL_E_INVALID,
                       "%s: a granularity of %" PRIu64 " bytes is no power of two from 512 bytes "
                       "to 2 GiB",
                       img->path, granularity);
    r = look_up(img, name, &other, e);
    if (r == 0)
        return pl_fail(e, PL_E_EXISTS, "%s: there is a bitmap '%s' in it already", img->path, name);
    return r < 0 ? -1 : 0;
}

int pl_bitmap_add(struct pl_image *img, const char *name, uint64_t granularity, struct pl_err *e)
{
    struct pl_bitmap bitmap = { .enabled = true };
    PL_FREE uint8_t *bits = NULL;
    size_t len;

    bitmap.granularity = granularity ? granularity : default_granularity(img);
    if (check_changeable(img, e) < 0 || check_new(img, name, bitmap.granularity, e) < 0)
        return -1;
    memcpy(bitmap.name, name, strlen(name) + 1);
    if (make_bits(img, &bitmap, &bits, &len, e) < 0)
        return -1;
    return store(img, &bitmap, bits, len, e);
}

int pl_bitmap_remove(struct pl_image *img, const char *name, struct pl_err *e)
{
    struct pl_bitmap bitmap;

    if (check_changeable(img, e) < 0 || find(img, name, &bitmap, e) < 0)
        return -1;
    return img->driver->bitmap_remove(img->layer.state, name, e) < 0
               ? pl_within(e, "%s: removing bitmap '%s'", img->path, name)
               : 0;
}

int pl_bitmap_clear(struct pl_image *img, const char *name, struct pl_err *e)
{
    PL_FREE uint8_t *bits = NULL;
    struct pl_bitmap bitmap;
    size_t len;

    if (check_changeable(img, e) < 0 || find_usable(img, name, &bitmap, e) < 0 ||
        make_bits(img, &bitmap, &bits, &len, e) < 0)
        return -1;
    return store(img, &bitmap, bits, len, e);
}

int pl_bitmap_enable(struct pl_image *img, const char *name, bool enabled, struct pl_err *e)
{
    PL_FREE uint8_t *bits = NULL;
    struct pl_bitmap bitmap;
    size_t len;

    if (check_changeable(img, e) < 0 || find_usable(img, name, &bitmap, e) < 0)
        return -1;
    if (bitmap.enabled == enabled)
        return 0;
    if (load(img, &bitmap, &bits, &len, e) < 0)
        return -1;
    bitmap.enabled = enabled;
    return store(img, &bitmap, bits, len, e);
}

/* ---- merging ---- */

/* Bits with what a bit stands for. */
struct bits {
    uint8_t *bytes;
    size_t len;
    uint64_t granularity;
};

static void set_bits(uint8_t *bytes, uint64_t first, uint64_t last)
{
    for (uint64_t i = first; i <= last; i++)
        bytes[i / 8] |= (uint8_t)(1u << i % 8);
}

/* Sets all bits of `to` that stand for something that bit i of `from` stands for. */
static void add_bit(const struct bits *to, const struct bits *from, uint64_t i, uint64_t size)
{
    const uint64_t at = i * from->granularity;
    const uint64_t end = PL_MIN(at + from->granularity, size);

    set_bits(to->bytes, at / to->granularity, (end - 1) / to->granularity);
}

static void add_bits(const struct bits *to, const struct bits *from, uint64_t size)
{
    for (size_t k = 0; k < from->len; k++) {
        if (to->granularity == from->granularity) {
            to->bytes[k] |= from->bytes[k];
            continue;
        }
        for (unsigned bit = 0; bit < 8; bit++)
            if (from->bytes[k] >> bit & 1)
                add_bit(to, from, 8 * (uint64_t)k + bit, size);
    }
}

static int check_sizes(const struct pl_image *img, const struct pl_image *from, struct pl_err *e)
{
    if (pl_size(img) == pl_size(from))
        return 0;
    return pl_fail(e, PL_E_INVALID,
                   "bitmaps are only merged between disks of one size: %s has %" PRIu64
                   " bytes, %s %" PRIu64,
                   from->path, pl_size(from), img->path, pl_size(img));
}

int pl_bitmap_merge(struct pl_image *img, const char *name, struct pl_image *from,
                    const char *source, struct pl_err *e)
{
    struct pl_bitmap into, other;
    struct bits to = { 0 }, add = { 0 };
    int r = -1;

    if (check_changeable(img, e) < 0 || find_usable(img, name, &into, e) < 0)
        return -1;
    if (!from->driver->bitmap_load)
        return pl_no_slot(from, "a persistent bitmap", e);
    if (find_usable(from, source, &other, e) < 0 || check_sizes(img, from, e) < 0)
        return -1;
    if (load(img, &into, &to.bytes, &to.len, e) == 0 &&
        load(from, &other, &add.bytes, &add.len, e) == 0) {
        to.granularity = into.granularity;
        add.granularity = other.granularity;
        add_bits(&to, &add, pl_size(img));
        r = store(img, &into, to.bytes, to.len, e);
    }
    free(to.bytes);
    free(add.bytes);
    return r;
}
