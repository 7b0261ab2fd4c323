/* sparse_room.c - room in the file: handing it out, and taking it back.
 *
 * The format keeps no account of free room.  What this session freed is used first, the lowest
 * first; then the file grows.  Grains of a hosted extent begin at a multiple of their size, as
 * VMware's do. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "formats/vmdk/sparse.h"

#define FREE_RUNS_MAX ((size_t)1 << 20) /* runs beyond that are forgotten: 16 MiB of memory */

/* The first run that does not end before `off`. */
static size_t find_run(const struct vmdk_runs *runs, uint64_t off)
{
    size_t low = 0, high = runs->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (runs->run[middle].off + runs->run[middle].len < off)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void remove_run(struct vmdk_runs *runs, size_t i)
{
    runs->count--;
    memmove(runs->run + i, runs->run + i + 1, (runs->count - i) * sizeof *runs->run);
}

static int insert_run(struct vmdk_runs *runs, size_t i, struct vmdk_run run, struct pl_err *e)
{
    if (runs->count == runs->room) {
        const size_t room = runs->room ? 2 * runs->room : 64;
        struct vmdk_run *grown = reallocarray(runs->run, room, sizeof *grown);

        if (!grown)
            return pl_fail(e, PL_E_NOMEM, "no memory for a list of %zu free runs", room);
        runs->run = grown;
        runs->room = room;
    }
    memmove(runs->run + i + 1, runs->run + i, (runs->count - i) * sizeof *runs->run);
    runs->run[i] = run;
    runs->count++;
    return 0;
}

/* Makes run `i` longer by a piece that touches it; false: the piece does not. */
static bool extend_run(struct vmdk_runs *runs, size_t i, uint64_t off, uint64_t len)
{
    struct vmdk_run *at = &runs->run[i];

    if (at->off == off + len) {
        at->off = off;
        at->len += len;
        return true;
    }
    if (at->off + at->len != off)
        return false;
    at->len += len;
    if (i + 1 < runs->count && at[1].off == at->off + at->len) {
        at->len += at[1].len;
        remove_run(runs, i + 1);
    }
    return true;
}

int vmdk_runs_add(struct vmdk_runs *runs, uint64_t off, uint64_t len, struct pl_err *e)
{
    const size_t i = find_run(runs, off);

    if (i < runs->count && extend_run(runs, i, off, len))
        return 0;
    return insert_run(runs, i, (struct vmdk_run){ off, len }, e);
}

/* The first free run of at least `want` bytes, else the first one; null: nothing is free. */
static struct vmdk_run *choose_run(struct vmdk_sparse *s, uint64_t want) PL_NEEDS(&s->lock);
static struct vmdk_run *choose_run(struct vmdk_sparse *s, uint64_t want)
{
    for (size_t i = 0; i < s->free.count; i++)
        if (s->free.run[i].len >= want)
            return &s->free.run[i];
    return s->free.count ? &s->free.run[0] : NULL;
}

/* Where the file can grow from.  What a COWD header says of it counts only as far as the file goes:
 * behind its end is nothing. */
static uint64_t unused_from(const struct vmdk_sparse *s)
{
    return pl_round_up(s->file_end, s->cowd ? VMDK_SECTOR : s->grain_size);
}

static int file_full(struct pl_err *e)
{
    pl_fail(e, PL_E_LIMIT, "the file would grow past 2 TiB, the most that entries can address");
    return pl_hint(e, "platter compact may make room; so do extents of a split disk");
}

int vmdk_append_room(struct vmdk_sparse *s, uint64_t len, uint64_t *off, struct pl_err *e)
{
    *off = unused_from(s);
    if (!pl_inside(*off, len, VMDK_FILE_MAX))
        return file_full(e);
    s->file_end = *off + len;
    return 0;
}

int vmdk_take_room(struct vmdk_sparse *s, uint64_t *off, uint64_t *len, bool *zeroed,
                   struct pl_err *e)
{
    struct vmdk_run *run = choose_run(s, *len);

    *zeroed = !run && !s->file->device;
    if (!run) {
        *off = unused_from(s);
        if (!pl_inside(*off, s->grain_size, VMDK_FILE_MAX))
            return file_full(e);
        *len = PL_MIN(*len, pl_round_down(VMDK_FILE_MAX - *off, s->grain_size));
        s->file_end = *off + *len;
        return 0;
    }
    *off = run->off;
    *len = PL_MIN(*len, run->len);
    run->off += *len;
    run->len -= *len;
    if (!run->len)
        remove_run(&s->free, (size_t)(run - s->free.run));
    return 0;
}

void vmdk_return_room(struct vmdk_sparse *s, uint64_t off, uint64_t len)
{
    /* Without memory for it the room is lost until the file is compacted. */
    if (s->free.count < FREE_RUNS_MAX && vmdk_runs_add(&s->free, off, len, NULL) < 0)
        return;
}

int vmdk_free_later(struct vmdk_sparse *s, uint64_t off, struct pl_err *e)
{
    return vmdk_runs_add(&s->pending, off, s->grain_size, e);
}

void vmdk_free_pending(struct vmdk_sparse *s)
{
    const uint64_t size = pl_storage_size(s->file);

    for (size_t i = 0; i < s->pending.count; i++) {
        const struct vmdk_run *run = &s->pending.run[i];

        /* The host may ignore or refuse it: the room is free all the same. */
        if (run->off < size &&
            pl_storage_discard(s->file, run->off, PL_MIN(run->len, size - run->off), NULL) < 0)
            (void)0;
        vmdk_return_room(s, run->off, run->len);
    }
    s->pending.count = 0;
}
