/* sparse_write.c - room for grains, and the entries that show it.
 *
 * A grain that exists is overwritten in place.  A new one is handed out by allocate and shown by
 * link.  Zeros: without a parent an entry that says nothing; over one the zeroed-grain entry, where
 * the header allows it, else the core writes them. */
#include <inttypes.h>

#include "core/base/checked.h"
#include "formats/vmdk/sparse.h"

static int check_range(const struct vmdk_sparse *s, uint64_t at, uint64_t len, struct pl_err *e)
{
    if (!len || !pl_inside(at, len, s->size))
        return pl_fail(e, PL_E_LIMIT, "[0x%" PRIx64 ", +0x%" PRIx64 ") is outside the extent", at,
                       len);
    return 0;
}

/* Lowers *len to whole grains, if need be. */
static int whole_grains(const struct vmdk_sparse *s, uint64_t at, uint64_t *len, struct pl_err *e)
{
    const uint64_t whole = at + *len == s->size ? *len : pl_round_down(*len, s->grain_size);

    if (at % s->grain_size || !whole)
        return pl_fail(e, PL_E_INVALID,
                       "[0x%" PRIx64 ", +0x%" PRIx64 ") is no whole number of grains of "
                       "%" PRIu32 " bytes",
                       at, *len, s->grain_size);
    *len = whole;
    return 0;
}

/* Entries of up to `wanted` grains from `grain` on that one table has; where there is no table, as
 * if it were empty. */
static int look(struct vmdk_sparse *s, uint64_t grain, uint64_t wanted, struct vmdk_entries *io,
                struct pl_err *e) PL_NEEDS(&s->lock);
static int look(struct vmdk_sparse *s, uint64_t grain, uint64_t wanted, struct vmdk_entries *io,
                struct pl_err *e)
{
    const uint64_t in_table = s->table_entries - (grain & (s->table_entries - 1));

    io->keep_lock = true;
    io->count = (uint32_t)PL_MIN(PL_MIN(wanted, in_table), VMDK_LOOK_ENTRIES);
    wanted = io->count;
    if (vmdk_look(s, grain, io, e) < 0)
        return -1;
    if (io->count)
        return 0;
    io->count = (uint32_t)wanted;
    for (uint32_t i = 0; i < io->count; i++)
        io->entry[i] = VMDK_ENTRY_NONE;
    return 0;
}

/* How many entries from entry i on, which points, show neighbours in the file. */
static uint32_t placed_run(const struct vmdk_sparse *s, const struct vmdk_entries *io, uint32_t i)
{
    const uint32_t sectors = s->grain_size / VMDK_SECTOR;
    uint32_t n = 1;

    while (i + n < io->count && io->entry[i + n] == io->entry[i] + (uint64_t)n * sectors)
        n++;
    return n;
}

/* How many entries from entry i on, which does not point, are the same (`equal`) or at least do not
 * point either. */
static uint32_t unplaced_run(const struct vmdk_sparse *s, const struct vmdk_entries *io, uint32_t i,
                             bool equal)
{
    uint32_t n = 1;

    while (i + n < io->count && !vmdk_entry_points(s, io->entry[i + n]) &&
           (!equal || io->entry[i + n] == io->entry[i]))
        n++;
    return n;
}

/* ---- room ---- */

/* Entries that lead into the tables must not become a way to overwrite them. */
static int guard_metadata(const struct vmdk_sparse *s, uint64_t off, struct pl_err *e)
{
    const uint64_t directory_bytes = s->directory_entries * VMDK_ENTRY_BYTES;
    uint64_t overhead;
    bool hit = !s->cowd && pl_mul(s->header.overHead, VMDK_SECTOR, &overhead) && off < overhead;

    for (unsigned copy = 0; copy < VMDK_COPIES; copy++)
        hit = hit || (s->directory[copy] && off < s->directory[copy] + directory_bytes &&
                      s->directory[copy] < off + s->grain_size);
    if (!hit)
        return 0;
    pl_fail(e, PL_E_CORRUPT,
            "the grain at 0x%" PRIx64 " was to be overwritten, but the extent's own tables lie "
            "there",
            off);
    return pl_hint(e, "check and repair the image first");
}

static int place_in_grain(struct vmdk_sparse *s, uint64_t grain, const struct vmdk_entries *io,
                          struct pl_place *out, struct pl_err *e) PL_NEEDS(&s->lock);
static int place_in_grain(struct vmdk_sparse *s, uint64_t grain, const struct vmdk_entries *io,
                          struct pl_place *out, struct pl_err *e)
{
    const uint32_t count = placed_run(s, io, 0), inside = (uint32_t)(out->at % s->grain_size);

    for (uint32_t i = 0; i < count; i++)
        if (vmdk_check_entry(s, io->entry[i], grain + i, s->file_end, e) < 0 ||
            guard_metadata(s, vmdk_entry_offset(io->entry[i]), e) < 0)
            return -1;
    out->off = vmdk_entry_offset(io->entry[0]) + inside;
    out->len = PL_MIN(out->len, ((uint64_t)count << s->grain_bits) - inside);
    return 0;
}

static int place_in_new_room(struct vmdk_sparse *s, const struct vmdk_entries *io,
                             struct pl_place *out, struct pl_err *e) PL_NEEDS(&s->lock);
static int place_in_new_room(struct vmdk_sparse *s, const struct vmdk_entries *io,
                             struct pl_place *out, struct pl_err *e)
{
    uint64_t room = (uint64_t)unplaced_run(s, io, 0, false) << s->grain_bits;

    out->len = PL_MIN(out->len, room);
    if (whole_grains(s, out->at, &out->len, e) < 0)
        return -1;
    room = pl_round_up(out->len, s->grain_size);
    /* A table lies in front of its grains, so that the file can be cut behind fewer of them. */
    if (vmdk_make_missing_tables(s, out->at >> s->grain_bits, e) < 0 ||
        vmdk_take_room(s, &out->off, &room, &out->zeroed, e) < 0)
        return -1;
    out->len = PL_MIN(out->len, room);
    out->fresh = true;
    return 0;
}

int vmdk_sparse_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out,
                         struct pl_err *e)
{
    struct vmdk_sparse *s = state;
    const uint64_t grain = at >> s->grain_bits;
    struct vmdk_entries io; /* not cleared: it is big */

    PL_LOCKED(&s->lock);
    if (vmdk_sparse_writable(s, e) < 0 || check_range(s, at, len, e) < 0 ||
        look(s, grain, ((at + len - 1) >> s->grain_bits) - grain + 1, &io, e) < 0)
        return -1;
    *out = (struct pl_place){ .at = at, .len = len, .st = s->file };
    return vmdk_entry_points(s, io.entry[0]) ? place_in_grain(s, grain, &io, out, e)
                                             : place_in_new_room(s, &io, out, e);
}

int vmdk_sparse_link(void *state, const struct pl_place *place, struct pl_err *e)
{
    struct vmdk_sparse *s = state;

    PL_LOCKED(&s->lock);
    if (vmdk_sparse_writable(s, e) < 0)
        return -1;
    return vmdk_change_entries(s,
                               (struct vmdk_change){
                                   .grain = place->at >> s->grain_bits,
                                   .count = pl_div_up(place->len, s->grain_size),
                                   .entry = (uint32_t)(place->off / VMDK_SECTOR),
                                   .step = s->grain_size / VMDK_SECTOR,
                               },
                               e);
}

void vmdk_sparse_cancel(void *state, const struct pl_place *place)
{
    struct vmdk_sparse *s = state;

    PL_LOCKED(&s->lock);
    if (place->fresh && !s->broken)
        vmdk_return_room(s, place->off, pl_round_up(place->len, s->grain_size));
}

/* ---- zeros ---- */

/* What becomes of grains. */
struct clearing {
    uint32_t entry; /* what those get that say something else ... */
    bool keep;      /* ... but for grains that have room: those keep it and get zeros */
    bool same;      /* all entries that do not point say the same */
};

/* Clears the run of grains that begins with the first entry; *done grains. */
static int clear_run(struct vmdk_sparse *s, uint64_t grain, const struct vmdk_entries *io,
                     const struct clearing *how, uint32_t *done, struct pl_err *e)
    PL_NEEDS(&s->lock);
static int clear_run(struct vmdk_sparse *s, uint64_t grain, const struct vmdk_entries *io,
                     const struct clearing *how, uint32_t *done, struct pl_err *e)
{
    const uint32_t entry = io->entry[0];
    const bool points = vmdk_entry_points(s, entry);
    uint64_t end;

    *done = points ? placed_run(s, io, 0) : unplaced_run(s, io, 0, true);
    for (uint32_t i = 0; points && i < *done; i++)
        if (vmdk_check_entry(s, io->entry[i], grain + i, s->file_end, e) < 0 ||
            (how->keep && guard_metadata(s, vmdk_entry_offset(io->entry[i]), e) < 0))
            return -1;
    if (points && how->keep) {
        end = PL_MIN((grain + *done) << s->grain_bits, s->size);
        return pl_storage_zero(s->file, vmdk_entry_offset(entry), end - (grain << s->grain_bits),
                               e);
    }
    if (!points && (entry == how->entry || how->same))
        return 0;
    return vmdk_change_entries(
        s, (struct vmdk_change){ .grain = grain, .count = *done, .entry = how->entry }, e);
}

static int clear_range(struct vmdk_sparse *s, uint64_t at, uint64_t len, struct clearing how,
                       struct pl_err *e) PL_NEEDS(&s->lock);
static int clear_range(struct vmdk_sparse *s, uint64_t at, uint64_t len, struct clearing how,
                       struct pl_err *e)
{
    const uint64_t end = pl_div_up(at + len, s->grain_size);
    struct vmdk_entries io; /* not cleared: it is big */
    uint32_t done;

    for (uint64_t grain = at >> s->grain_bits; grain < end; grain += done)
        if (look(s, grain, end - grain, &io, e) < 0 || clear_run(s, grain, &io, &how, &done, e) < 0)
            return -1;
    return 0;
}

static int check_grains(const struct vmdk_sparse *s, uint64_t at, uint64_t len, struct pl_err *e)
{
    uint64_t whole = len;

    if (vmdk_sparse_writable(s, e) < 0 || check_range(s, at, len, e) < 0 ||
        whole_grains(s, at, &whole, e) < 0)
        return -1;
    return whole == len
               ? 0
               : pl_fail(e, PL_E_INVALID, "0x%" PRIx64 " bytes are no whole number of grains", len);
}

/* Zeros, where an entry can say them. */
static struct clearing zeros(const struct vmdk_sparse *s, bool keep) PL_NEEDS(&s->lock);
static struct clearing zeros(const struct vmdk_sparse *s, bool keep)
{
    return (struct clearing){ .entry = s->has_parent ? VMDK_ENTRY_ZEROED : VMDK_ENTRY_NONE,
                              .keep = keep,
                              .same = !s->has_parent };
}

int vmdk_sparse_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    struct vmdk_sparse *s = state;

    PL_LOCKED(&s->lock);
    if (check_grains(s, at, len, e) < 0)
        return -1;
    if (s->has_parent && !s->may_zero)
        return 1;
    return clear_range(s, at, len, zeros(s, !unmap), e);
}

int vmdk_sparse_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    struct vmdk_sparse *s = state;

    PL_LOCKED(&s->lock);
    if (check_grains(s, at, len, e) < 0)
        return -1;
    /* An entry that says nothing would show the parent. */
    return s->has_parent && !s->may_zero ? 0 : clear_range(s, at, len, zeros(s, false), e);
}

int vmdk_sparse_forget(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    struct vmdk_sparse *s = state;

    PL_LOCKED(&s->lock);
    if (check_grains(s, at, len, e) < 0)
        return -1;
    return clear_range(s, at, len, (struct clearing){ .entry = VMDK_ENTRY_NONE }, e);
}
