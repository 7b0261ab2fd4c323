/* storage.c - what every kind of storage shares: checks of ranges and abilities, and the stand-ins
 * for slots that a kind leaves empty.
 *
 * Reads past the end are found by the kinds themselves, while they read: asking for the size
 * first would cost a system call for each read of a file. */
#include "core/storage/storage.h"

#include <inttypes.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/storage/change.h"

int pl_storage_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
{
    return len ? st->ops->read(st, off, buf, len, e) : 0;
}

int pl_storage_read_padded(struct pl_storage *st, uint64_t off, void *buf, size_t len,
                           struct pl_err *e)
{
    const uint64_t size = pl_storage_size(st);
    const size_t inside = off < size ? (size_t)PL_MIN(len, size - off) : 0;

    memset((uint8_t *)buf + inside, 0, len - inside);
    return pl_storage_read(st, off, buf, inside, e);
}

int pl_storage_write(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                     struct pl_err *e)
{
    if (pl_check_change(st, off, len, e) < 0)
        return -1;
    return len ? st->ops->write(st, off, buf, len, e) : 0;
}

int pl_storage_zero(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    if (pl_check_change(st, off, len, e) < 0)
        return -1;
    if (len == 0)
        return 0;
    return st->ops->zero ? st->ops->zero(st, off, len, e) : pl_write_zeros(st, off, len, e);
}

int pl_storage_discard(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    const uint64_t size = pl_storage_size(st);

    if (off >= size || len == 0)
        return 0;
    len = PL_MIN(len, size - off);
    if (pl_check_change(st, off, len, e) < 0)
        return -1;
    return st->ops->discard ? st->ops->discard(st, off, len, e) : 0;
}

int pl_storage_resize(struct pl_storage *st, uint64_t size, struct pl_err *e)
{
    if (!st->ops->resize)
        return pl_fail(e, PL_E_UNSUPPORTED, "%s: the size of this %s is fixed", st->name,
                       st->ops->kind);
    if (pl_check_change(st, size, 0, e) < 0)
        return -1;
    return st->ops->resize(st, size, e);
}

/* Only the size: what writes to the range need at least. */
static int grow(struct pl_storage *st, uint64_t end, struct pl_err *e)
{
    return pl_is_fixed(st) || end <= pl_storage_size(st) ? 0 : pl_storage_resize(st, end, e);
}

int pl_storage_preallocate(struct pl_storage *st, uint64_t off, uint64_t len, enum pl_prealloc how,
                           struct pl_err *e)
{
    if (pl_check_change(st, off, len, e) < 0)
        return -1;
    if (len == 0)
        return 0;
    switch (how) {
    case PL_PREALLOC_FALLOC:
        if (!st->ops->reserve)
            return pl_fail(e, PL_E_UNSUPPORTED, "%s: a %s cannot reserve space", st->name,
                           st->ops->kind);
        return st->ops->reserve(st, off, len, e);
    case PL_PREALLOC_FULL:
        return pl_write_zeros(st, off, len, e);
    default:
        return grow(st, off + len, e);
    }
}

int pl_storage_flush(struct pl_storage *st, struct pl_err *e)
{
    return st->ops->flush && !st->sync_later ? st->ops->flush(st, e) : 0;
}

int pl_storage_replace(struct pl_storage *st, const void *bytes, size_t len, bool *done,
                       struct pl_err *e)
{
    *done = false;
    if (pl_check_change(st, 0, len, e) < 0)
        return -1;
    if (!st->ops->replace || st->device)
        return pl_fail(e, PL_E_UNSUPPORTED, "%s: its content cannot be replaced at once", st->name);
    return st->ops->replace(st, bytes, len, done, e);
}

int pl_storage_map(struct pl_storage *st, uint64_t off, uint64_t *len, bool *hole, struct pl_err *e)
{
    if (*len == 0 || !pl_inside(off, *len, pl_storage_size(st)))
        return pl_fail(e, PL_E_INVALID,
                       "%s: [0x%" PRIx64 ", +0x%" PRIx64 ") is not a range inside 0x%" PRIx64
                       " bytes",
                       st->name, off, *len, pl_storage_size(st));
    *hole = false;
    return st->ops->map ? st->ops->map(st, off, len, hole, e) : 0;
}

uint64_t pl_storage_size(struct pl_storage *st)
{
    return st->ops->size(st);
}

uint64_t pl_storage_disk_usage(struct pl_storage *st)
{
    return st->ops->disk_usage ? st->ops->disk_usage(st) : pl_storage_size(st);
}

bool pl_storage_same(struct pl_storage *a, struct pl_storage *b)
{
    struct pl_storage_id x, y;

    if (a == b)
        return true;
    return a->ops->id && b->ops->id && a->ops->id(a, &x) && b->ops->id(b, &y) &&
           x.device == y.device && x.inode == y.inode;
}

void pl_storage_reserve_ahead(struct pl_storage *st, uint64_t off, uint64_t len)
{
    if (st->ops->reserve_ahead && len > 0 && pl_check_change(st, off, len, NULL) == 0)
        st->ops->reserve_ahead(st, off, len);
}

void pl_storage_settle(struct pl_storage *st, uint64_t off, uint64_t len)
{
    if (st->ops->settle && len > 0)
        st->ops->settle(st, off, len);
}

int pl_storage_close(struct pl_storage *st, struct pl_err *e)
{
    return st ? st->ops->close(st, e) : 0;
}
