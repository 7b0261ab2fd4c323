/* sparse_compact.c - a shorter file: grains from its end move into unused room, then it is cut.
 *
 * Where the file will end is known before anything moves: the first place behind which there are no
 * more grains than there is unused room for before it.  Each grain is copied, then shown at its new
 * place in the order of sparse.h; its old place is untouched until all of that is on disk.  Tables
 * that are in the way move before (sparse_move_tables.c). */
#include <inttypes.h>

#include "core/base/checked.h"
#include "formats/vmdk/sparse_check.h"

/* Grains may begin at multiples of this. */
static uint64_t alignment(const struct vmdk_check *c)
{
    return c->s->cowd ? VMDK_SECTOR : c->s->grain_size;
}

/* Where the grains can end, not before `least`. */
static uint64_t find_end(const struct vmdk_check *c, uint64_t least)
{
    const uint64_t size = c->s->grain_size, all = c->s->file_end + size;
    const uint64_t first = vmdk_grains_from(c->s);
    uint64_t before = 0;                               /* bytes of grains before `at` */
    uint64_t room = 0;                                 /* unused places before `at`, in bytes ... */
    uint64_t place = pl_round_up(first, alignment(c)); /* ... and where the next may be */
    uint64_t at = 0, len;

    while (at < all && room < c->grain_bytes - before) {
        const enum vmdk_use use = vmdk_use_at(c, at, &len);

        if (use == VMDK_GRAIN)
            before += len;
        if (use != VMDK_UNUSED)
            place = PL_MAX(place, pl_round_up(at + len, alignment(c)));
        for (; use == VMDK_UNUSED && place + size <= at + len && room < c->grain_bytes - before;
             place += size) {
            room += size;
            if (room >= c->grain_bytes - before)
                return PL_MAX(place + size, least);
        }
        at += len;
    }
    return PL_MAX(at, least);
}

/* A move in progress. */
struct move {
    struct vmdk_check *c;
    uint64_t end; /* of the file to be */
    uint64_t at;  /* unused places before it are taken */
    uint64_t done;
};

static int move_grain(struct move *m, uint64_t grain, uint32_t entry, struct pl_err *e)
    PL_NEEDS(&m->c->s->lock);
static int move_grain(struct move *m, uint64_t grain, uint32_t entry, struct pl_err *e)
{
    struct vmdk_sparse *s = m->c->s;
    uint64_t off;

    if (!vmdk_next_place(m->c, &m->at, m->end, (struct vmdk_fit){ s->grain_size, alignment(m->c) },
                         &off))
        return pl_fail(e, PL_E_CORRUPT, "no room was found for grain %" PRIu64, grain);
    if (pl_storage_copy(s->file, off, s->file, vmdk_entry_offset(entry), s->grain_size, e) < 0)
        return pl_within(e, "moving grain %" PRIu64, grain);
    m->done += s->grain_size;
    pl_progress(m->c->report, m->done, m->c->grain_bytes);
    return vmdk_change_entries(m->c->s,
                               (struct vmdk_change){
                                   .grain = grain,
                                   .count = 1,
                                   .entry = (uint32_t)(off / VMDK_SECTOR),
                                   .keep_room = true,
                               },
                               e);
}

static int move_grains(struct move *m, struct pl_err *e) PL_NEEDS(&m->c->s->lock);
static int move_grains(struct move *m, struct pl_err *e)
{
    struct vmdk_sparse *s = m->c->s;
    const uint64_t grains = pl_div_up(s->size, s->grain_size);
    struct vmdk_entries io; /* not cleared: it is big */

    for (uint64_t grain = 0; grain < grains;) {
        io.keep_lock = true;
        io.count = (uint32_t)PL_MIN(grains - grain, VMDK_LOOK_ENTRIES);
        if (pl_check_cancelled(m->c->report, e) < 0 || vmdk_look(m->c->s, grain, &io, e) < 0)
            return -1;
        for (uint32_t i = 0; i < io.count; i++)
            if (vmdk_entry_points(s, io.entry[i]) &&
                vmdk_entry_offset(io.entry[i]) + s->grain_size > m->end &&
                move_grain(m, grain + i, io.entry[i], e) < 0)
                return -1;
        grain = io.count ? grain + io.count : ((grain >> s->table_bits) + 1) << s->table_bits;
    }
    return 0;
}

/* move_grains, with the lock that the check has. */
static int move_all(struct vmdk_check *c, struct move *m, struct pl_err *e)
    PL_NEEDS(&c->s->lock) PL_UNCHECKED;
static int move_all(struct vmdk_check *c, struct move *m, struct pl_err *e)
{
    (void)c;
    return move_grains(m, e);
}

/* Moves the grains behind `end` to before it, and syncs. */
static int move_before(struct vmdk_check *c, uint64_t end, struct pl_err *e) PL_NEEDS(&c->s->lock);
static int move_before(struct vmdk_check *c, uint64_t end, struct pl_err *e)
{
    struct move m = { .c = c, .end = end, .at = vmdk_grains_from(c->s) };

    return move_all(c, &m, e) < 0 ? -1 : vmdk_sparse_write_back(c->s, true, e);
}

/* Moves grains down and cuts the file. */
static int cut_file(struct vmdk_check *c, struct pl_err *e) PL_NEEDS(&c->s->lock);
static int cut_file(struct vmdk_check *c, struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;
    const uint64_t end = find_end(c, PL_MAX(vmdk_grains_from(s), c->metadata_end));

    if (end >= pl_storage_size(s->file))
        return 0;
    if (move_before(c, end, e) < 0 || pl_storage_resize(s->file, end, e) < 0)
        return -1;
    s->file_end = end;
    if (!s->cowd)
        return vmdk_sync(c->s, e);
    s->cowd_header.freeSector = (uint32_t)PL_MIN(end / VMDK_SECTOR, UINT32_MAX);
    return vmdk_write_first_sector(c->s, e);
}

/* Looks anew. */
static int look_again(struct vmdk_check *c, struct pl_err *e) PL_NEEDS(&c->s->lock);
static int look_again(struct vmdk_check *c, struct pl_err *e)
{
    vmdk_check_end(c);
    *c = (struct vmdk_check){ .s = c->s, .report = c->report };
    return vmdk_check_pass(c, e);
}

/* Tables move into unused room, then grains do. */
static int squeeze(struct vmdk_check *c, struct pl_err *e) PL_NEEDS(&c->s->lock);
static int squeeze(struct vmdk_check *c, struct pl_err *e)
{
    const int moved = vmdk_move_tables_down(c, e);

    if (moved < 0 || (moved && look_again(c, e) < 0) || cut_file(c, e) < 0)
        return -1;
    return look_again(c, e);
}

int vmdk_move_down(struct vmdk_check *c, struct pl_err *e)
{
    int moved;

    if (c->s->file->device)
        return 0;
    /* Unused places are looked for in the file; this session's own list would name them twice. */
    c->s->free.count = 0;
    if (squeeze(c, e) < 0)
        return -1;
    moved = vmdk_move_tables_away(c, e);
    if (moved <= 0)
        return moved;
    /* Without the tables between them the grains move together. */
    if (look_again(c, e) < 0 || move_before(c, find_end(c, vmdk_grains_from(c->s)), e) < 0 ||
        look_again(c, e) < 0)
        return -1;
    return squeeze(c, e);
}

static int refuse_unsound(const struct vmdk_check *c, struct pl_err *e)
{
    pl_fail(e, PL_E_CORRUPT, "the extent has %" PRIu64 " defects: grains are not moved",
            c->result.corruptions + c->result.check_errors);
    return pl_hint(e, "platter check -r all mends them");
}

int vmdk_sparse_compact(void *state, const struct pl_report *report, uint64_t *freed,
                        struct pl_err *e)
{
    struct vmdk_check c = { .s = state, .report = report };
    struct vmdk_sparse *s = c.s;
    const uint64_t before = pl_storage_size(s->file);
    uint64_t now;
    int r;

    *freed = 0;
    PL_LOCKED(&c.s->lock);
    if (vmdk_sparse_writable(s, e) < 0 || vmdk_sparse_write_back(c.s, true, e) < 0)
        return -1;
    r = vmdk_check_pass(&c, e);
    if (r == 0 && (c.result.corruptions || c.result.check_errors))
        r = refuse_unsound(&c, e);
    if (r == 0)
        r = vmdk_move_down(&c, e);
    vmdk_check_end(&c);
    now = pl_storage_size(s->file);
    *freed = r == 0 && now < before ? before - now : 0;
    return r;
}
