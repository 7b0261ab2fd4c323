/* undo_file.c - the storage that stands for a file while it is repaired.
 *
 * Small changes wait in blocks of UNDO_PIECE, which lie over the file for everybody who reads
 * through here.  Large ones (zeros, a new size) go to the file at once, behind what waits. */
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/storage/change.h"
#include "core/storage/undo_state.h"

/* Longer runs of zeros are not written byte by byte. */
#define ZERO_MIN (4 * (uint64_t)UNDO_PIECE)

struct undo_view {
    struct pl_storage base;
    struct pl_undo *undo; /* its lock guards the slots */
    struct undo_file *file;
};

static struct undo_view *view_of(struct pl_storage *st)
{
    return (struct undo_view *)st;
}

static uint64_t size_now(const struct undo_view *v) PL_NEEDS(&v->undo->lock);
static uint64_t size_now(const struct undo_view *v)
{
    uint64_t size = pl_storage_size(v->file->under);

    for (unsigned i = 0; i < UNDO_SLOTS; i++) {
        const struct undo_slot *slot = &v->undo->slots[i];

        if (slot->file == v->file)
            size = PL_MAX(size, slot->at + slot->to);
    }
    return size;
}

static uint64_t view_size(struct pl_storage *st)
{
    struct undo_view *v = view_of(st);

    PL_LOCKED(&v->undo->lock);
    return size_now(v);
}

/* What waits of a block lies over the bytes that were read. */
static void lay_over(const struct undo_slot *slot, uint64_t off, uint8_t *buf, size_t len)
{
    const uint64_t from = PL_MAX(off, slot->at + slot->from);
    const uint64_t to = PL_MIN(off + len, slot->at + slot->to);

    if (from < to)
        memcpy(buf + (from - off), slot->bytes + (from - slot->at), (size_t)(to - from));
}

static int view_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
{
    struct undo_view *v = view_of(st);

    PL_LOCKED(&v->undo->lock);
    if (!pl_inside(off, len, size_now(v)))
        return pl_past_end(st, off, len, size_now(v), e);
    if (pl_storage_read_padded(v->file->under, off, buf, len, e) < 0)
        return -1;
    for (unsigned i = 0; i < UNDO_SLOTS; i++)
        if (v->undo->slots[i].file == v->file)
            lay_over(&v->undo->slots[i], off, buf, len);
    return 0;
}

/* ---- changes that wait ---- */

/* The slot of that block, else a free one, else null. */
static struct undo_slot *find_slot(struct undo_view *v, uint64_t at) PL_NEEDS(&v->undo->lock);
static struct undo_slot *find_slot(struct undo_view *v, uint64_t at)
{
    struct undo_slot *free_slot = NULL;

    for (unsigned i = 0; i < UNDO_SLOTS; i++) {
        struct undo_slot *slot = &v->undo->slots[i];

        if (slot->file == v->file && slot->at == at)
            return slot;
        if (!slot->file && !free_slot)
            free_slot = slot;
    }
    return free_slot;
}

static int fill_slot(struct undo_view *v, struct undo_slot *slot, uint64_t at, struct pl_err *e)
    PL_NEEDS(&v->undo->lock);
static int fill_slot(struct undo_view *v, struct undo_slot *slot, uint64_t at, struct pl_err *e)
{
    if (!slot->bytes && !(slot->bytes = malloc(UNDO_PIECE)))
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for a changed block", v->base.name);
    if (pl_storage_read_padded(v->file->under, at, slot->bytes, UNDO_PIECE, e) < 0)
        return -1;
    slot->at = at;
    slot->from = UNDO_PIECE;
    slot->to = 0;
    slot->file = v->file;
    return 0;
}

/* A change within one block; null: zeros. */
static int change_block(struct undo_view *v, uint64_t off, const uint8_t *bytes, size_t len,
                        struct pl_err *e) PL_NEEDS(&v->undo->lock);
static int change_block(struct undo_view *v, uint64_t off, const uint8_t *bytes, size_t len,
                        struct pl_err *e)
{
    const uint64_t at = pl_round_down(off, UNDO_PIECE);
    const uint32_t in = (uint32_t)(off - at);
    struct undo_slot *slot = find_slot(v, at);

    if (!slot) {
        if (undo_drain(v->undo, e) < 0)
            return -1;
        slot = find_slot(v, at);
    }
    if (undo_save(v->undo, v->file, off, len, e) < 0 ||
        (!slot->file && fill_slot(v, slot, at, e) < 0))
        return -1;
    if (bytes)
        memcpy(slot->bytes + in, bytes, len);
    else
        memset(slot->bytes + in, 0, len);
    slot->from = PL_MIN(slot->from, in);
    slot->to = PL_MAX(slot->to, in + (uint32_t)len);
    return 0;
}

static int change(struct undo_view *v, uint64_t off, const uint8_t *bytes, uint64_t len,
                  struct pl_err *e) PL_NEEDS(&v->undo->lock);
static int change(struct undo_view *v, uint64_t off, const uint8_t *bytes, uint64_t len,
                  struct pl_err *e)
{
    while (len > 0) {
        const size_t now = (size_t)PL_MIN(len, UNDO_PIECE - off % UNDO_PIECE);

        if (change_block(v, off, bytes, now, e) < 0)
            return -1;
        bytes = bytes ? bytes + now : NULL;
        off += now;
        len -= now;
    }
    return 0;
}

static int view_write(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                      struct pl_err *e)
{
    struct undo_view *v = view_of(st);

    PL_LOCKED(&v->undo->lock);
    return change(v, off, buf, len, e);
}

/* ---- changes that do not ---- */

/* What waits is written, and a range of the file may change. */
static int open_range(struct undo_view *v, uint64_t off, uint64_t len, struct pl_err *e)
    PL_NEEDS(&v->undo->lock);
static int open_range(struct undo_view *v, uint64_t off, uint64_t len, struct pl_err *e)
{
    return undo_drain(v->undo, e) < 0 || undo_save(v->undo, v->file, off, len, e) < 0 ||
                   undo_secure(v->undo, e) < 0
               ? -1
               : 0;
}

static int view_zero(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    struct undo_view *v = view_of(st);

    PL_LOCKED(&v->undo->lock);
    if (len < ZERO_MIN)
        return change(v, off, NULL, len, e);
    return open_range(v, off, len, e) < 0 ? -1 : pl_storage_zero(v->file->under, off, len, e);
}

static int view_resize(struct pl_storage *st, uint64_t size, struct pl_err *e)
{
    struct undo_view *v = view_of(st);
    uint64_t old;

    PL_LOCKED(&v->undo->lock);
    if (undo_drain(v->undo, e) < 0)
        return -1;
    old = pl_storage_size(v->file->under);
    if (size == old)
        return 0;
    return open_range(v, size, old > size ? old - size : 0, e) < 0
               ? -1
               : pl_storage_resize(v->file->under, size, e);
}

static int view_reserve(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
{
    struct undo_view *v = view_of(st);

    PL_LOCKED(&v->undo->lock);
    return open_range(v, off, 0, e) < 0
               ? -1
               : pl_storage_preallocate(v->file->under, off, len, PL_PREALLOC_FALLOC, e);
}

static int view_replace(struct pl_storage *st, const void *bytes, size_t len, bool *done,
                        struct pl_err *e)
{
    struct undo_view *v = view_of(st);

    PL_LOCKED(&v->undo->lock);
    return open_range(v, 0, pl_storage_size(v->file->under), e) < 0
               ? -1
               : pl_storage_replace(v->file->under, bytes, len, done, e);
}

static int view_flush(struct pl_storage *st, struct pl_err *e)
{
    struct undo_view *v = view_of(st);

    PL_LOCKED(&v->undo->lock);
    return undo_drain(v->undo, e) < 0 ? -1 : pl_storage_flush(v->file->under, e);
}

static int view_map(struct pl_storage *st, uint64_t off, uint64_t *len, bool *hole,
                    struct pl_err *e)
{
    struct undo_view *v = view_of(st);

    PL_LOCKED(&v->undo->lock);
    return undo_drain(v->undo, e) < 0 ? -1 : pl_storage_map(v->file->under, off, len, hole, e);
}

static uint64_t view_disk_usage(struct pl_storage *st)
{
    return pl_storage_disk_usage(view_of(st)->file->under);
}

static bool view_id(struct pl_storage *st, struct pl_storage_id *id)
{
    struct pl_storage *under = view_of(st)->file->under;

    return under->ops->id && under->ops->id(under, id);
}

/* What waits is written even after an error elsewhere: the driver meant it. */
static int view_close(struct pl_storage *st, struct pl_err *e)
{
    struct undo_view *v = view_of(st);
    int result;

    pl_lock_take(&v->undo->lock);
    result = v->undo->broken ? 0 : undo_drain(v->undo, e);
    pl_lock_drop(&v->undo->lock);
    free(st->name);
    free(st->path);
    free(st);
    return result;
}

static const struct pl_storage_ops view_ops = {
    .kind = "file",
    .read = view_read,
    .write = view_write,
    .zero = view_zero,
    .resize = view_resize,
    .reserve = view_reserve,
    .flush = view_flush,
    .replace = view_replace,
    .map = view_map,
    .size = view_size,
    .disk_usage = view_disk_usage,
    .id = view_id,
    .close = view_close,
};

/* A device, a window: the size is fixed. */
static const struct pl_storage_ops fixed_view_ops = {
    .kind = "device",
    .read = view_read,
    .write = view_write,
    .zero = view_zero,
    .flush = view_flush,
    .map = view_map,
    .size = view_size,
    .disk_usage = view_disk_usage,
    .id = view_id,
    .close = view_close,
};

int undo_file_storage(struct pl_undo *undo, struct undo_file *file, struct pl_storage **out,
                      struct pl_err *e)
{
    const struct pl_storage *under = file->under;
    PL_FREE struct undo_view *v = calloc(1, sizeof *v);
    PL_FREE char *name = strdup(under->name);
    PL_FREE char *path = under->path ? strdup(under->path) : NULL;

    if (!v || !name || (under->path && !path))
        return pl_fail(e, PL_E_NOMEM, "%s: no memory to open it for a repair", under->name);
    v->base = *under;
    v->base.ops = pl_is_fixed(under) ? &fixed_view_ops : &view_ops;
    v->base.name = pl_take(name);
    v->base.path = pl_take(path);
    v->undo = undo;
    v->file = file;
    *out = &pl_take(v)->base;
    return 0;
}
