#include "core/storage/alias.h"

#include <stdlib.h>
#include <string.h>

struct alias {
    struct pl_storage base;
    struct pl_storage *target;
};

static struct pl_storage *target_of(struct pl_storage *st)
{
    return ((struct alias *)st)->target;
}

static int alias_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
{
    return pl_storage_read(target_of(st), off, buf, len, e);
}

static int alias_write(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                       struct pl_err *e)
{
    return pl_storage_write(target_of(st), off, buf, len, e);
}

static int alias_zero(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    return pl_storage_zero(target_of(st), off, len, e);
}

static int alias_discard(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    return pl_storage_discard(target_of(st), off, len, e);
}

static int alias_resize(struct pl_storage *st, uint64_t size, struct pl_err *e)
{
    return pl_storage_resize(target_of(st), size, e);
}

static int alias_reserve(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    return pl_storage_preallocate(target_of(st), off, len, PL_PREALLOC_FALLOC, e);
}

static int alias_flush(struct pl_storage *st, struct pl_err *e)
{
    return pl_storage_flush(target_of(st), e);
}

static int alias_map(struct pl_storage *st, uint64_t off, uint64_t *len, bool *hole,
                     struct pl_err *e)
{
    return pl_storage_map(target_of(st), off, len, hole, e);
}

static uint64_t alias_size(struct pl_storage *st)
{
    return pl_storage_size(target_of(st));
}

static uint64_t alias_disk_usage(struct pl_storage *st)
{
    return pl_storage_disk_usage(target_of(st));
}

static bool alias_id(struct pl_storage *st, struct pl_storage_id *id)
{
    struct pl_storage *target = target_of(st);

    return target->ops->id && target->ops->id(target, id);
}

static int alias_descriptor(struct pl_storage *st, uint64_t off, uint64_t *fd_off)
{
    struct pl_storage *target = target_of(st);

    return target->ops->descriptor ? target->ops->descriptor(target, off, fd_off) : -1;
}

static void alias_settle(struct pl_storage *st, uint64_t off, uint64_t len)
{
    pl_storage_settle(target_of(st), off, len);
}

static int alias_close(struct pl_storage *st, struct pl_err *e)
{
    (void)e;
    free(st->name);
    free(st->path);
    free(st);
    return 0;
}

static const struct pl_storage_ops alias_ops = {
    .kind = "alias",
    .read = alias_read,
    .write = alias_write,
    .zero = alias_zero,
    .discard = alias_discard,
    .resize = alias_resize,
    .reserve = alias_reserve,
    .flush = alias_flush,
    .map = alias_map,
    .size = alias_size,
    .disk_usage = alias_disk_usage,
    .id = alias_id,
    .descriptor = alias_descriptor,
    .settle = alias_settle,
    .close = alias_close,
};

int pl_alias_storage(struct pl_storage *target, struct pl_storage **out, struct pl_err *e)
{
    struct alias *alias = calloc(1, sizeof *alias);

    if (!alias)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for a second handle", target->name);
    alias->target = target;
    alias->base = *target;
    alias->base.ops = &alias_ops;
    alias->base.name = strdup(target->name);
    alias->base.path = target->path ? strdup(target->path) : NULL;
    if (!alias->base.name || (target->path && !alias->base.path)) {
        alias_close(&alias->base, NULL);
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for a second handle", target->name);
    }
    *out = &alias->base;
    return 0;
}
