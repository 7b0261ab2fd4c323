#include "core/storage/overlay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/change.h"

struct patch {
    uint64_t off, len; /* off + len does not wrap */
    uint8_t *bytes;    /* null: zeros */
};

struct overlay {
    struct pl_storage base;
    struct pl_storage *under;
    uint64_t size;
    struct patch *patches; /* in the order they came */
    size_t count, room;
};

static struct overlay *overlay_of(struct pl_storage *st)
{
    return (struct overlay *)st;
}

/* Whether the patch and [off, off + len) have bytes in common, and which. */
static bool common(const struct patch *patch, uint64_t off, uint64_t len, uint64_t *from,
                   uint64_t *to)
{
    *from = PL_MAX(off, patch->off);
    *to = PL_MIN(off + len, patch->off + patch->len);
    return *from < *to;
}

static int overlay_read(struct pl_storage *st, uint64_t off, void *buf, size_t len,
                        struct pl_err *e)
{
    const struct overlay *o = overlay_of(st);

    if (!pl_inside(off, len, o->size))
        return pl_past_end(st, off, len, o->size, e);
    if (pl_storage_read_padded(o->under, off, buf, len, e) < 0)
        return -1;
    for (size_t i = 0; i < o->count; i++) {
        const struct patch *patch = &o->patches[i];
        uint64_t from, to;

        if (!common(patch, off, len, &from, &to))
            continue;
        if (patch->bytes)
            memcpy((uint8_t *)buf + (from - off), patch->bytes + (from - patch->off), to - from);
        else
            memset((uint8_t *)buf + (from - off), 0, to - from);
    }
    return 0;
}

/* A run ends where a patch begins or ends; a patch is never a hole. */
static int overlay_map(struct pl_storage *st, uint64_t off, uint64_t *len, bool *hole,
                       struct pl_err *e)
{
    const struct overlay *o = overlay_of(st);
    const uint64_t end = pl_storage_size(o->under);
    bool patched = false;

    for (size_t i = 0; i < o->count; i++) {
        const struct patch *patch = &o->patches[i];

        if (patch->off > off)
            *len = PL_MIN(*len, patch->off - off);
        else if (off - patch->off < patch->len)
            patched = true;
    }
    *hole = !patched;
    if (patched) {
        *len = 1;
        for (size_t i = 0; i < o->count; i++)
            if (off >= o->patches[i].off && off - o->patches[i].off < o->patches[i].len)
                *len = PL_MAX(*len, o->patches[i].len - (off - o->patches[i].off));
        return 0;
    }
    if (off >= end)
        return 0;
    *len = PL_MIN(*len, end - off);
    return pl_storage_map(o->under, off, len, hole, e);
}

static int overlay_map_clipped(struct pl_storage *st, uint64_t off, uint64_t *len, bool *hole,
                               struct pl_err *e)
{
    const uint64_t wanted = *len;

    if (overlay_map(st, off, len, hole, e) < 0)
        return -1;
    *len = PL_MIN(*len, wanted);
    return 0;
}

static uint64_t overlay_size(struct pl_storage *st)
{
    return overlay_of(st)->size;
}

static uint64_t overlay_disk_usage(struct pl_storage *st)
{
    return pl_storage_disk_usage(overlay_of(st)->under);
}

static int overlay_close(struct pl_storage *st, struct pl_err *e)
{
    struct overlay *o = overlay_of(st);

    (void)e;
    for (size_t i = 0; i < o->count; i++)
        free(o->patches[i].bytes);
    free(o->patches);
    free(st->name);
    free(st->path);
    free(st);
    return 0;
}

static const struct pl_storage_ops overlay_ops = {
    .kind = "overlay",
    .read = overlay_read,
    .map = overlay_map_clipped,
    .size = overlay_size,
    .disk_usage = overlay_disk_usage,
    .close = overlay_close,
};

int pl_overlay_storage(struct pl_storage *under, struct pl_storage **out, struct pl_err *e)
{
    PL_FREE struct overlay *o = calloc(1, sizeof *o);
    PL_FREE char *name = strdup(under->name);
    PL_FREE char *path = under->path ? strdup(under->path) : NULL;

    if (!o || !name || (under->path && !path))
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for a view of it", under->name);
    o->base = (struct pl_storage){
        .ops = &overlay_ops,
        .name = pl_take(name),
        .path = pl_take(path),
        .block = under->block,
    };
    o->under = under;
    o->size = pl_storage_size(under);
    *out = &pl_take(o)->base;
    return 0;
}

int pl_overlay_put(struct pl_storage *overlay, uint64_t off, const void *bytes, uint64_t len,
                   struct pl_err *e)
{
    struct overlay *o = overlay_of(overlay);
    uint8_t *copy = NULL;

    if (!pl_inside(off, len, PL_OFFSET_MAX))
        return pl_past_end(overlay, off, len, PL_OFFSET_MAX, e);
    if (len == 0)
        return 0;
    if (o->count == o->room) {
        const size_t room = o->room ? 2 * o->room : 64;
        struct patch *more = reallocarray(o->patches, room, sizeof *more);

        if (!more)
            return pl_fail(e, PL_E_NOMEM, "%s: no memory for %zu changes", overlay->name, room);
        o->patches = more;
        o->room = room;
    }
    if (bytes) {
        copy = malloc(len);
        if (!copy)
            return pl_fail(e, PL_E_NOMEM, "%s: no memory for changed bytes", overlay->name);
        memcpy(copy, bytes, len);
    }
    o->patches[o->count++] = (struct patch){ .off = off, .len = len, .bytes = copy };
    pl_overlay_grow(overlay, off + len);
    return 0;
}

void pl_overlay_grow(struct pl_storage *overlay, uint64_t size)
{
    struct overlay *o = overlay_of(overlay);

    o->size = PL_MAX(o->size, size);
}
