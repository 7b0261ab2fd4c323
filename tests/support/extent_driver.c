/* extent_driver.c - see extent_driver.h. */
#include "tests/support/extent_driver.h"

#include <stdlib.h>

static int extent_create(const struct pl_create_args *args, struct pl_err *e)
{
    struct vmdk_sparse_new what = { .size = args->size };

    if (pl_options_size(args->options, "grain_size", &what.grain_size, e) < 0 ||
        pl_options_bool(args->options, "cowd", &what.cowd, e) < 0 ||
        pl_options_bool(args->options, "zeroed_grain", &what.zeroed_grain, e) < 0)
        return -1;
    what.descriptor = pl_options_text(args->options, "descriptor");
    return vmdk_sparse_create(args->file, &what, e);
}

static int extent_open(const struct pl_open_args *args, struct pl_layer *layer, struct pl_err *e)
{
    const struct rig *rig = args->ctx;
    const struct vmdk_extent_args how = {
        .file = args->file,
        .size = rig->extent_size,
        .writable = args->writable,
        .check_only = args->check_only,
        .has_parent = rig->parent,
        .cache_bytes = args->cache_bytes,
        .report = args->report,
    };
    struct vmdk_extent *x = calloc(1, sizeof *x);

    if (vmdk_sparse_open(&how, x, e) < 0) {
        free(x);
        return -1;
    }
    layer->state = x;
    layer->size = x->size;
    layer->granule = layer->cluster_size = x->granule;
    layer->codec = x->codec;
    layer->unit_len = x->unit_len;
    return 0;
}

static void extent_close(void *state)
{
    struct vmdk_extent *x = state;

    x->ops->close(x->state);
    free(x);
}

static int extent_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out,
                      struct pl_err *e)
{
    const struct vmdk_extent *x = state;

    return x->ops->map(x->state, at, len, out, e);
}

static int extent_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out,
                           struct pl_err *e)
{
    const struct vmdk_extent *x = state;

    return x->ops->allocate(x->state, at, len, out, e);
}

static int extent_link(void *state, const struct pl_place *place, struct pl_err *e)
{
    const struct vmdk_extent *x = state;

    return x->ops->link(x->state, place, e);
}

static void extent_cancel(void *state, const struct pl_place *place)
{
    const struct vmdk_extent *x = state;

    x->ops->cancel(x->state, place);
}

static int extent_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    const struct vmdk_extent *x = state;

    return x->ops->zero(x->state, at, len, unmap, e);
}

static int extent_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    const struct vmdk_extent *x = state;

    return x->ops->discard(x->state, at, len, e);
}

static int extent_forget(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    const struct vmdk_extent *x = state;

    return x->ops->forget(x->state, at, len, e);
}

static int extent_set_parent(void *state, const struct pl_parent_ref *parent, struct pl_err *e)
{
    const struct vmdk_extent *x = state;

    (void)e;
    x->ops->set_parent(x->state, parent->name);
    return 0;
}

static int extent_flush(void *state, struct pl_err *e)
{
    const struct vmdk_extent *x = state;

    return x->ops->flush(x->state, e);
}

static int extent_resize_slot(void *state, uint64_t size, bool shrink, enum pl_prealloc how,
                              struct pl_err *e)
{
    const struct vmdk_extent *x = state;

    (void)shrink;
    return x->ops->resize(x->state, size, how, e);
}

static int extent_compact(void *state, const struct pl_report *report, uint64_t *freed,
                          struct pl_err *e)
{
    const struct vmdk_extent *x = state;

    return x->ops->compact(x->state, report, freed, e);
}

static int extent_check(void *state, enum pl_repair repair, const struct pl_report *report,
                        struct pl_check_result *result, struct pl_err *e)
{
    const struct vmdk_extent *x = state;

    return x->ops->check(x->state, repair, report, result, e);
}

const struct pl_driver extent_driver = {
    .name = "extent",
    .create = extent_create,
    .open = extent_open,
    .close = extent_close,
    .map = extent_map,
    .allocate = extent_allocate,
    .link = extent_link,
    .cancel = extent_cancel,
    .zero = extent_zero,
    .discard = extent_discard,
    .forget = extent_forget,
    .set_parent = extent_set_parent,
    .flush = extent_flush,
    .resize = extent_resize_slot,
    .compact = extent_compact,
    .check = extent_check,
};
