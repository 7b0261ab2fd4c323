/* sparse_check.c - whether an extent's tables are sound: its check.
 *
 * A check is one pass.  A repair is a pass that mends and one that tells what is left; room that
 * nothing uses is then taken back by moving grains into it (sparse_compact.c).
 *
 * Room counts as lost when nothing points at it and the host keeps bytes for it: what is a hole of
 * the file costs nothing, and what shares a block of the host with bytes in use costs no more.
 * Differences between the copies are expected after a crash, and harmless, because copy 0 alone is
 * read; in an extent that was closed properly they are a defect.  Compressed grains are looked at
 * from outside: markers, lengths, overlaps. */
#include "formats/vmdk/sparse_check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/base/checked.h"

#define TOLD_MAX 1000       /* findings told one by one */
#define HOST_BLOCK_MAX 4096 /* what a file system gives back; some name a larger one for speed */

bool vmdk_found(struct vmdk_check *c, enum vmdk_finding kind, const char *fmt, ...)
{
    const bool mend = (kind == VMDK_LEAK && c->repair != PL_REPAIR_NONE) ||
                      (kind == VMDK_CORRUPTION && c->repair == PL_REPAIR_ALL);
    char text[400];
    va_list args;

    if (kind == VMDK_UNREADABLE)
        c->result.check_errors++;
    else if (kind == VMDK_LEAK)
        c->result.leaks++;
    else
        c->result.corruptions++;
    /* A pass that mends tells what it mends; what is left is told by the pass after it. */
    if (!c->tell || (c->repair != PL_REPAIR_NONE && !mend) || c->told > TOLD_MAX)
        return mend;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (c->told++ == TOLD_MAX)
        pl_warn(c->report, "there is more, which is not shown");
    else
        pl_warn(c->report, "%s %s",
                mend                ? "Repairing"
                : kind == VMDK_LEAK ? "Leaked"
                                    : "ERROR",
                text);
    return mend;
}

void vmdk_check_end(struct vmdk_check *c)
{
    vmdk_bits_free(&c->metadata);
    vmdk_bits_free(&c->grains);
    vmdk_bits_free(&c->walked);
}

/* ---- entries ---- */

/* The bytes of the file that an entry, which points, stands for; -1: it is wrong. */
static int grain_place(struct vmdk_check *c, uint32_t entry, uint64_t grain, struct vmdk_run *out,
                       struct pl_err *e) PL_NEEDS(&c->s->lock);
static int grain_place(struct vmdk_check *c, uint32_t entry, uint64_t grain, struct vmdk_run *out,
                       struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;

    *out = (struct vmdk_run){ vmdk_entry_offset(entry), s->grain_size };
    if (vmdk_check_entry(s, entry, grain, s->file_end, e) < 0)
        return -1;
    if (s->compressed) {
        uint64_t data;
        uint32_t len;

        if (vmdk_packed_place(s, entry, grain, &data, &len, e) < 0)
            return -1;
        out->len = data + len - out->off;
    }
    if (vmdk_bits_any(&c->metadata, out->off, out->len))
        return pl_fail(e, PL_E_CORRUPT,
                       "grain table entry 0x%08" PRIx32 " of grain %" PRIu64
                       ": it points into the extent's own tables",
                       entry, grain);
    return 0;
}

static bool is_sound(struct vmdk_check *c, uint32_t entry, uint64_t grain) PL_NEEDS(&c->s->lock);
static bool is_sound(struct vmdk_check *c, uint32_t entry, uint64_t grain)
{
    struct vmdk_run place;

    return !vmdk_entry_points(c->s, entry) || grain_place(c, entry, grain, &place, NULL) == 0;
}

static void count_grain(struct vmdk_check *c, const struct vmdk_run *place)
{
    struct pl_check_result *r = &c->result;

    r->allocated_clusters++;
    r->compressed_clusters += c->s->compressed;
    r->fragmented_clusters +=
        c->s->compressed || (c->last_grain_end && c->last_grain_end != place->off);
    r->image_end_offset = PL_MAX(r->image_end_offset, place->off + place->len);
    c->last_grain_end = place->off + place->len;
    c->grain_bytes += place->len;
}

/* One grain's entry in the copy that is read; `other`: what the other copy has, if it can be used.
 * *entry becomes what it is after mending. */
static int check_entry(struct vmdk_check *c, unsigned copy, uint64_t grain, uint32_t *entry,
                       const uint32_t *other, struct pl_err *e) PL_NEEDS(&c->s->lock);
static int check_entry(struct vmdk_check *c, unsigned copy, uint64_t grain, uint32_t *entry,
                       const uint32_t *other, struct pl_err *e)
{
    struct vmdk_run place;
    struct pl_err why;
    int before;

    if (vmdk_entry_points(c->s, *entry) && grain_place(c, *entry, grain, &place, &why) < 0) {
        if (!vmdk_found(c, why.kind == PL_E_CORRUPT ? VMDK_CORRUPTION : VMDK_UNREADABLE, "%s",
                        why.msg))
            return 0;
        *entry = other && is_sound(c, *other, grain) ? *other : VMDK_ENTRY_NONE;
        if (vmdk_mend_entry(c, copy, grain, *entry, e) < 0)
            return -1;
    }
    if (!vmdk_entry_points(c->s, *entry) || grain_place(c, *entry, grain, &place, NULL) < 0)
        return 0;
    before = vmdk_bits_set(&c->grains, place.off, place.len, e);
    if (before > 0 &&
        vmdk_found(c, c->s->compressed ? VMDK_OVERLAP : VMDK_CORRUPTION,
                   "grain %" PRIu64 " at 0x%" PRIx64 " overlaps another grain", grain, place.off)) {
        if (vmdk_mend_shared(c, grain, entry, e) < 0 ||
            vmdk_mend_entry(c, copy, grain, *entry, e) < 0)
            return -1;
        place.off = vmdk_entry_offset(*entry);
    }
    if (before >= 0)
        count_grain(c, &place);
    return before < 0 ? -1 : 0;
}

/* ---- tables ---- */

/* The same entries of both copies; count 0: the copy has none that can be read. */
struct pair {
    uint64_t grain;
    uint32_t count;
    struct vmdk_entries copy[VMDK_COPIES];
};

static int read_pair(struct vmdk_check *c, const uint64_t *table, struct pair *p)
    PL_NEEDS(&c->s->lock);
static int read_pair(struct vmdk_check *c, const uint64_t *table, struct pair *p)
{
    struct vmdk_sparse *s = c->s;
    const uint64_t at = (p->grain & (s->table_entries - 1)) * VMDK_ENTRY_BYTES;

    for (unsigned copy = 0; copy < VMDK_COPIES; copy++) {
        struct vmdk_entries *io = &p->copy[copy];
        struct pl_err why;

        io->keep_lock = true;
        io->count = table[copy] ? p->count : 0;
        if (io->count && vmdk_read_entries(c->s, s->table_cache, table[copy] + at, io, &why) < 0) {
            io->count = 0;
            vmdk_found(c, VMDK_UNREADABLE, "grain table at 0x%" PRIx64 ": %s", table[copy],
                       why.msg);
        }
    }
    return p->copy[0].count || p->copy[1].count;
}

static int check_pair(struct vmdk_check *c, struct pair *p, struct pl_err *e) PL_NEEDS(&c->s->lock);
static int check_pair(struct vmdk_check *c, struct pair *p, struct pl_err *e)
{
    const unsigned read = p->copy[0].count ? 0 : 1;
    const bool both = p->copy[0].count && p->copy[1].count;

    for (uint32_t i = 0; i < p->count; i++) {
        const uint64_t grain = p->grain + i;
        const uint32_t *other = both ? &p->copy[1].entry[i] : NULL;
        uint32_t *entry = &p->copy[read].entry[i];

        if (check_entry(c, read, grain, entry, other, e) < 0)
            return -1;
        if (other && *other != *entry &&
            vmdk_found(c, c->s->was_unclean ? VMDK_LEAK : VMDK_CORRUPTION,
                       "grain %" PRIu64 ": the redundant grain table has entry 0x%08" PRIx32
                       " instead of 0x%08" PRIx32,
                       grain, *other, *entry) &&
            vmdk_mend_entry(c, 1, grain, *entry, e) < 0)
            return -1;
    }
    return 0;
}

static int check_entries(struct vmdk_check *c, uint64_t index, const uint64_t *table,
                         struct pl_err *e) PL_NEEDS(&c->s->lock);
static int check_entries(struct vmdk_check *c, uint64_t index, const uint64_t *table,
                         struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;
    const uint64_t grains = pl_div_up(s->size, s->grain_size);
    const uint64_t first = index << s->table_bits;
    const uint64_t end = PL_MIN(first + s->table_entries, grains);
    struct pair p; /* not cleared: it is big */
    const int before =
        vmdk_bits_set(&c->walked, table[0] ? table[0] : table[1], vmdk_table_bytes(s), e);

    /* Directory entries without number may name one table: the survey told that. */
    if (before)
        return before < 0 ? -1 : 0;
    for (p.grain = first; p.grain < end; p.grain += p.count) {
        p.count = (uint32_t)PL_MIN(end - p.grain, VMDK_LOOK_ENTRIES);
        if (read_pair(c, table, &p) && check_pair(c, &p, e) < 0)
            return -1;
    }
    return 0;
}

/* Finds the tables that entry `index` of the directories names; true: one of them is wrong. */
static bool find_tables(struct vmdk_check *c, uint64_t index, uint64_t *table, bool *sound,
                        struct pl_err *why) PL_NEEDS(&c->s->lock);
static bool find_tables(struct vmdk_check *c, uint64_t index, uint64_t *table, bool *sound,
                        struct pl_err *why)
{
    struct vmdk_sparse *s = c->s;
    bool wrong = false;

    for (unsigned copy = 0; copy < VMDK_COPIES; copy++) {
        table[copy] = 0;
        sound[copy] =
            !s->directory[copy] || vmdk_find_table(c->s, copy, index, true, &table[copy], why) == 0;
        if (!sound[copy])
            table[copy] = 0;
        wrong = wrong || !sound[copy];
    }
    if (wrong || !s->directory[0] || !s->directory[1] || !table[0] == !table[1])
        return wrong;
    sound[table[0] ? 1 : 0] = false;
    pl_fail(why, PL_E_CORRUPT,
            "grain directory entry %" PRIu64 ": only one of the two copies has a grain table",
            index);
    return true;
}

static int check_table(struct vmdk_check *c, uint64_t index, struct pl_err *e)
    PL_NEEDS(&c->s->lock);
static int check_table(struct vmdk_check *c, uint64_t index, struct pl_err *e)
{
    uint64_t table[VMDK_COPIES];
    bool sound[VMDK_COPIES];
    struct pl_err why;

    if (find_tables(c, index, table, sound, &why) &&
        vmdk_found(c, why.kind == PL_E_CORRUPT ? VMDK_CORRUPTION : VMDK_UNREADABLE, "%s",
                   why.msg)) {
        if (vmdk_mend_table(c, index, sound, e) < 0)
            return -1;
        find_tables(c, index, table, sound, &why);
    }
    return table[0] || table[1] ? check_entries(c, index, table, e) : 0;
}

/* ---- lost room ---- */

/* Grains that would fit into the bytes that the host keeps in whole blocks for [off, end).  A piece
 * of a grain at the end of the file counts as one: the file grows from the next whole grain on. */
static uint64_t lost_grains(const struct vmdk_sparse *s, uint64_t off, uint64_t end)
{
    const uint64_t block = PL_MIN(s->file->block, HOST_BLOCK_MAX);
    const bool last = !s->cowd && end == pl_storage_size(s->file);
    uint64_t kept = last ? pl_round_up(end, s->grain_size) - end : 0;

    off = pl_round_up(off, block);
    end = last ? end : pl_round_down(end, block);
    while (off < end) {
        uint64_t len = end - off;
        bool hole = false;

        if (pl_storage_map(s->file, off, &len, &hole, NULL) < 0)
            return (kept + (end - off)) / s->grain_size;
        kept += hole ? 0 : len;
        off += len;
    }
    return kept / s->grain_size;
}

static void count_lost(struct vmdk_check *c) PL_NEEDS(&c->s->lock);
static void count_lost(struct vmdk_check *c)
{
    struct vmdk_sparse *s = c->s;
    const uint64_t size = pl_storage_size(s->file);
    uint64_t from = vmdk_grains_from(s), len;

    for (uint64_t at = from; at < size; at += len) {
        const enum vmdk_use use = vmdk_use_at(c, at, &len);
        const uint64_t end = use == VMDK_UNUSED ? PL_MIN(at + len, size) : at;

        if (use == VMDK_UNUSED && end < size)
            continue;
        for (uint64_t n = from < end ? lost_grains(s, from, end) : 0, i = 0; i < n; i++)
            vmdk_found(c, VMDK_LEAK, "grain at 0x%" PRIx64, from + i * s->grain_size);
        from = at + len;
    }
}

/* ---- passes ---- */

static int check_directories(struct vmdk_check *c, struct pl_err *e) PL_NEEDS(&c->s->lock);
static int check_directories(struct vmdk_check *c, struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;
    const bool redundant =
        s->header.flags & VMDK_FLAG_REDUNDANT && s->header.rgdOffset != s->header.gdOffset;

    if (s->cowd || (s->directory[0] && (s->directory[1] || !redundant)))
        return 0;
    if (!vmdk_found(c, VMDK_CORRUPTION, "the %sgrain directory lies outside the file",
                    s->directory[0] ? "redundant " : ""))
        return 0;
    return vmdk_mend_directories(c, e);
}

int vmdk_check_pass(struct vmdk_check *c, struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;

    c->result.has_allocation = true;
    c->result.total_clusters = pl_div_up(s->size, s->grain_size);
    if (check_directories(c, e) < 0 || vmdk_survey(c, e) < 0)
        return -1;
    c->result.image_end_offset = c->metadata_end;
    for (uint64_t i = 0; i < s->directory_entries; i++) {
        if (pl_check_cancelled(c->report, e) < 0 || check_table(c, i, e) < 0)
            return -1;
        pl_progress(c->report, (i + 1) * vmdk_table_span(s),
                    s->directory_entries * vmdk_table_span(s));
    }
    /* Where something could not be followed nobody knows what is lost; nor between markers. */
    if (c->repair == PL_REPAIR_NONE && !s->compressed && !c->result.corruptions &&
        !c->result.check_errors)
        count_lost(c);
    return 0;
}

/* Mends, then looks again: *last is what is left. */
static int repair_tables(struct vmdk_check *last, enum pl_repair repair,
                         struct pl_check_result *first, struct pl_err *e)
    PL_NEEDS(&last->s->lock) PL_UNCHECKED;
static int repair_tables(struct vmdk_check *last, enum pl_repair repair,
                         struct pl_check_result *first, struct pl_err *e)
{
    struct vmdk_check c = *last;
    int r;

    c.repair = repair;
    c.tell = true;
    r = vmdk_check_pass(&c, e);
    vmdk_check_end(&c);
    *first = c.result;
    if (r < 0 || vmdk_sparse_write_back(last->s, true, e) < 0)
        return -1;
    return vmdk_check_pass(last, e);
}

/* Takes lost room back, unless something else is wrong as well; what is left is told. */
static int repair_leaks(struct vmdk_check *last, struct pl_err *e) PL_NEEDS(&last->s->lock);
static int repair_leaks(struct vmdk_check *last, struct pl_err *e)
{
    struct vmdk_check again = { .s = last->s, .report = last->report, .tell = true };
    const bool sound = !last->result.corruptions && !last->result.check_errors;

    if (sound && !last->result.leaks)
        return 0;
    if (sound && vmdk_move_down(last, e) < 0)
        return -1;
    vmdk_check_end(last);
    *last = again;
    return vmdk_check_pass(last, e);
}

static uint64_t less(uint64_t before, uint64_t now)
{
    return before > now ? before - now : 0;
}

static int repair_extent(struct vmdk_check *c, enum pl_repair repair, struct pl_err *e)
    PL_NEEDS(&c->s->lock);
static int repair_extent(struct vmdk_check *c, enum pl_repair repair, struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;
    struct pl_check_result first;
    uint64_t lost;

    if (repair_tables(c, repair, &first, e) < 0)
        return -1;
    lost = first.leaks + c->result.leaks;
    if (repair_leaks(c, e) < 0)
        return -1;
    c->result.corruptions_fixed = less(first.corruptions, c->result.corruptions);
    c->result.leaks_fixed = less(lost, c->result.leaks);
    if (c->result.corruptions || c->result.check_errors || s->broken)
        return 0;
    s->was_unclean = false;
    if (s->marked && (vmdk_sync(c->s, e) < 0 || vmdk_write_mark(c->s, false, e) < 0))
        return -1;
    return vmdk_sync(c->s, e);
}

static void add(struct pl_check_result *sum, const struct pl_check_result *r)
{
    sum->corruptions += r->corruptions;
    sum->leaks += r->leaks;
    sum->corruptions_fixed += r->corruptions_fixed;
    sum->leaks_fixed += r->leaks_fixed;
    sum->check_errors += r->check_errors;
    sum->total_clusters += r->total_clusters;
    sum->allocated_clusters += r->allocated_clusters;
    sum->fragmented_clusters += r->fragmented_clusters;
    sum->compressed_clusters += r->compressed_clusters;
    sum->image_end_offset = PL_MAX(sum->image_end_offset, r->image_end_offset);
    sum->has_allocation = true;
}

int vmdk_sparse_check(void *state, enum pl_repair repair, const struct pl_report *report,
                      struct pl_check_result *result, struct pl_err *e)
{
    struct vmdk_check c = { .s = state, .report = report, .tell = repair == PL_REPAIR_NONE };
    int r;

    PL_LOCKED(&c.s->lock);
    if (repair != PL_REPAIR_NONE && !c.s->compressed && !c.s->writable)
        return pl_fail(e, PL_E_INVALID, "the extent is open for reading only");
    if (c.s->writable && !c.s->compressed && !c.s->broken && c.s->directory[0] &&
        vmdk_sparse_write_back(c.s, true, e) < 0)
        return -1;
    c.tell = c.tell || c.s->compressed;
    r = repair == PL_REPAIR_NONE || c.s->compressed ? vmdk_check_pass(&c, e)
                                                    : repair_extent(&c, repair, e);
    vmdk_check_end(&c);
    if (r == 0)
        add(result, &c.result);
    return r;
}
