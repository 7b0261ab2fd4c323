#include "core/storage/window.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "core/storage/change.h"

struct window {
    struct pl_storage base;
    struct pl_storage *under;
    uint64_t off, len; /* off + len does not wrap */
};

static struct window *window_of(struct pl_storage *st)
{
    return (struct window *)st;
}

static int window_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
{
    struct window *w = window_of(st);

    if (!pl_inside(off, len, w->len))
        return pl_past_end(st, off, len, w->len, e);
    return pl_storage_read(w->under, w->off + off, buf, len, e);
}

/* The generic functions have checked the ranges that are changed or mapped. */
static int window_write(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                        struct pl_err *e)
{
    struct window *w = window_of(st);

    return pl_storage_write(w->under, w->off + off, buf, len, e);
}

static int window_zero(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    struct window *w = window_of(st);

    return pl_storage_zero(w->under, w->off + off, len, e);
}

static int window_discard(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    struct window *w = window_of(st);

    return pl_storage_discard(w->under, w->off + off, len, e);
}

static int window_reserve(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    struct window *w = window_of(st);

    return pl_storage_preallocate(w->under, w->off + off, len, PL_PREALLOC_FALLOC, e);
}

static void window_reserve_ahead(struct pl_storage *st, uint64_t off, uint64_t len)
{
    pl_storage_reserve_ahead(window_of(st)->under, window_of(st)->off + off, len);
}

static int window_flush(struct pl_storage *st, struct pl_err *e)
{
    return pl_storage_flush(window_of(st)->under, e);
}

static int window_map(struct pl_storage *st, uint64_t off, uint64_t *len, bool *hole,
                      struct pl_err *e)
{
    struct window *w = window_of(st);

    return pl_storage_map(w->under, w->off + off, len, hole, e);
}

static uint64_t window_size(struct pl_storage *st)
{
    return window_of(st)->len;
}

static int window_descriptor(struct pl_storage *st, uint64_t off, uint64_t *fd_off)
{
    struct window *w = window_of(st);
    const struct pl_storage_ops *ops = w->under->ops;

    return ops->descriptor ? ops->descriptor(w->under, w->off + off, fd_off) : -1;
}

static void window_settle(struct pl_storage *st, uint64_t off, uint64_t len)
{
    pl_storage_settle(window_of(st)->under, window_of(st)->off + off, len);
}

static int window_close(struct pl_storage *st, struct pl_err *e)
{
    (void)e;
    free(st->name);
    free(st);
    return 0;
}

static const struct pl_storage_ops window_ops = {
    .kind = "window",
    .read = window_read,
    .write = window_write,
    .zero = window_zero,
    .discard = window_discard,
    .reserve = window_reserve,
    .reserve_ahead = window_reserve_ahead,
    .flush = window_flush,
    .map = window_map,
    .size = window_size,
    .descriptor = window_descriptor,
    .settle = window_settle,
    .close = window_close,
};

/* The largest power of two up to under's block that divides the window's start. */
static uint32_t block_at(const struct pl_storage *under, uint64_t off)
{
    uint32_t block = under->block;

    while (block > 512 && off % block != 0)
        block /= 2;
    return block;
}

int pl_window_storage(struct pl_storage *under, uint64_t off, uint64_t len, struct pl_storage **out,
                      struct pl_err *e)
{
    struct window *w;
    char *name;

    if (!pl_inside(off, len, pl_storage_size(under)))
        return pl_past_end(under, off, len, pl_storage_size(under), e);
    w = calloc(1, sizeof *w);
    if (!w || asprintf(&name, "%s[0x%" PRIx64 "+0x%" PRIx64 "]", under->name, off, len) < 0) {
        free(w);
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for a window on it", under->name);
    }
    w->base = (struct pl_storage){
        .ops = &window_ops,
        .name = name,
        .block = block_at(under, off),
        .writable = under->writable,
    };
    w->under = under;
    w->off = off;
    w->len = len;
    *out = &w->base;
    return 0;
}
