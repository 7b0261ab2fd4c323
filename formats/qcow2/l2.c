/* l2.c - where guest clusters are: the L1 table, slices of L2 tables, their entries.
 *
 * Specification: docs/interop/qcow2.rst, "Cluster mapping" and "Extended L2 Entries".
 *
 * map copies what it needs of a slice and decodes it without the lock.  A slice that is not cached
 * is read without the lock too; when tables changed meanwhile it is read again, in the end under
 * the lock. One call covers at most one slice (a whole table with clusters of 64 KiB), or any
 * number of missing L2 tables. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/qcow2.h"

/* Reads of a slice that lost a race with a change before the lock is held for one. */
#define RACES_MAX 4

/* What an entry says about a run of its subclusters. */
struct part {
    enum qcow2_kind kind;
    uint32_t count; /* subclusters of that kind; 1 where the entry has no subclusters */
    uint64_t off;   /* NORMAL, ZERO_ALLOC, UNALLOC_ALLOC: byte offset of the first one */
};

/* A copy of consecutive L2 entries, from the one of a guest cluster on. */
struct view {
    uint64_t index; /* guest cluster of the first entry */
    uint32_t count; /* entries; 0: there is no L2 table */
    uint64_t end;   /* no cluster of the file starts at or after this byte offset */
    uint8_t bytes[QCOW2_SLICE_MAX];
};

struct qcow2_entry qcow2_load_entry(const struct qcow2 *q, const uint8_t *p)
{
    return (struct qcow2_entry){
        .word = load_be64(p),
        .bitmap = q->l2_entry_size == 16 ? load_be64(p + 8) : 0,
    };
}

void qcow2_store_entry(const struct qcow2 *q, uint8_t *p, struct qcow2_entry entry)
{
    store_be64(p, entry.word);
    if (q->l2_entry_size == 16)
        store_be64(p + 8, entry.bitmap);
}

void qcow2_packed_place(const struct qcow2 *q, uint64_t word, uint64_t *off, uint32_t *len)
{
    const unsigned bits = QCOW2_PACKED_OFFSET_BITS(q->cluster_bits);
    const uint64_t sectors = ((word & ~(QCOW2_COPIED | QCOW2_PACKED)) >> bits) + 1;

    *off = word & ((UINT64_C(1) << bits) - 1);
    *len = (uint32_t)(sectors * QCOW2_SECTOR - *off % QCOW2_SECTOR);
}

static int bad_entry(uint64_t index, uint64_t word, const char *why, struct pl_err *e)
{
    return pl_fail(e, PL_E_CORRUPT, "L2 entry 0x%016" PRIx64 " of guest cluster %" PRIu64 ": %s",
                   word, index, why);
}

static int check_packed(const struct qcow2 *q, uint64_t word, uint64_t index, uint64_t end,
                        struct pl_err *e)
{
    uint64_t off;
    uint32_t len;

    qcow2_packed_place(q, word, &off, &len);
    if (qcow2_has_data_file(q))
        return bad_entry(index, word, "a compressed cluster beside an external data file", e);
    if (off >> 56)
        return bad_entry(index, word, "reserved bits are set", e);
    if (off >= end)
        return bad_entry(index, word, "its compressed cluster is past the end of the file", e);
    return 0;
}

static int check_plain(const struct qcow2 *q, struct qcow2_entry entry, uint64_t index,
                       uint64_t end, struct pl_err *e)
{
    const uint64_t off = entry.word & QCOW2_OFFSET_MASK;
    const bool zero_bit = entry.word & QCOW2_ALL_ZERO;

    if (entry.word & QCOW2_L2_RESERVED)
        return bad_entry(index, entry.word, "reserved bits are set", e);
    if (zero_bit && (q->header.version < 3 || qcow2_extended(q)))
        return bad_entry(index, entry.word, "this image cannot have the zero flag", e);
    if (off & (q->cluster_size - 1))
        return bad_entry(index, entry.word, "its offset is not aligned to a cluster", e);
    if (!qcow2_has_data_file(q))
        return off < end || off == 0
                   ? 0
                   : bad_entry(index, entry.word, "its cluster is past the end of the file", e);
    if ((off || entry.word & QCOW2_COPIED) && off != index << q->cluster_bits)
        return bad_entry(index, entry.word, "its offset in the data file is not the guest's", e);
    return 0;
}

/* Offset 0 is a place in an external data file only, and marked. */
static bool has_place(const struct qcow2 *q, uint64_t word)
{
    return word & QCOW2_OFFSET_MASK || (qcow2_has_data_file(q) && word & QCOW2_COPIED);
}

static enum qcow2_kind plain_kind(bool place, bool zero)
{
    if (zero)
        return place ? QCOW2_ZERO_ALLOC : QCOW2_ZERO;
    return place ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
}

/* The run of equal subclusters that starts at `sub`. */
static int extended_part(const struct qcow2 *q, struct qcow2_entry entry, uint32_t sub,
                         uint64_t index, struct part *part, struct pl_err *e)
{
    const uint32_t data = (uint32_t)entry.bitmap >> sub;
    const uint32_t zero = (uint32_t)(entry.bitmap >> 32) >> sub;
    const uint32_t same_data = data & 1 ? ~data : data;
    const uint32_t same_zero = zero & 1 ? ~zero : zero;
    const bool place = has_place(q, entry.word);

    if ((uint32_t)entry.bitmap & (uint32_t)(entry.bitmap >> 32))
        return bad_entry(index, entry.word, "a subcluster is both data and zeros", e);
    if ((uint32_t)entry.bitmap && !place)
        return bad_entry(index, entry.word, "a subcluster of data has no place", e);
    if (data & 1)
        part->kind = QCOW2_NORMAL;
    else if (zero & 1)
        part->kind = plain_kind(place, true);
    else
        part->kind = place ? QCOW2_UNALLOC_ALLOC : QCOW2_UNALLOCATED;
    /* the lowest bit in which a later subcluster differs ends the run */
    part->count = q->subclusters - sub;
    if (same_data | same_zero)
        part->count = PL_MIN(part->count, pl_log2(same_data | same_zero));
    return 0;
}

/* Which entry is decoded, and from where on. */
struct spot {
    uint64_t index; /* guest cluster, for messages and for external data files */
    uint32_t sub;   /* first subcluster of interest */
    uint64_t end;   /* no cluster of the file starts at or after this byte offset */
};

static int decode(const struct qcow2 *q, struct qcow2_entry entry, struct spot spot,
                  struct part *part, struct pl_err *e)
{
    const uint32_t sub = spot.sub;

    part->count = q->subclusters - sub;
    if (entry.word & QCOW2_PACKED) {
        part->kind = QCOW2_COMPRESSED;
        return check_packed(q, entry.word, spot.index, spot.end, e);
    }
    part->off = (entry.word & QCOW2_OFFSET_MASK) + (uint64_t)sub * q->subcluster_size;
    if (check_plain(q, entry, spot.index, spot.end, e) < 0)
        return -1;
    if (qcow2_extended(q))
        return extended_part(q, entry, sub, spot.index, part, e);
    part->kind = plain_kind(has_place(q, entry.word), entry.word & QCOW2_ALL_ZERO);
    return 0;
}

int qcow2_classify(const struct qcow2 *q, struct qcow2_entry entry, uint32_t sub, uint64_t index,
                   enum qcow2_kind *kind, struct pl_err *e)
{
    struct part part;

    if (decode(q, entry, (struct spot){ index, sub, q->file_end }, &part, e) < 0)
        return -1;
    *kind = part.kind;
    return 0;
}

int qcow2_l1_entry(const struct qcow2 *q, uint64_t i, uint64_t entry, uint64_t *off,
                   struct pl_err *e)
{
    *off = entry & QCOW2_OFFSET_MASK;
    if (entry & QCOW2_L1_RESERVED)
        return pl_fail(e, PL_E_CORRUPT,
                       "L1 entry %" PRIu64 " (0x%016" PRIx64 "): reserved bits are set", i, entry);
    if (*off & (q->cluster_size - 1))
        return pl_fail(
            e, PL_E_CORRUPT,
            "L1 entry %" PRIu64 ": L2 table at 0x%" PRIx64 " is not aligned to a cluster", i, *off);
    if (*off >= q->file_end)
        return pl_fail(e, PL_E_CORRUPT,
                       "L1 entry %" PRIu64 ": L2 table at 0x%" PRIx64
                       " is past the end of the file (0x%" PRIx64 ")",
                       i, *off, q->file_end);
    return 0;
}

int qcow2_l2_table(const struct qcow2 *q, uint64_t cluster_index, uint64_t *off, struct pl_err *e)
{
    const uint64_t i = cluster_index >> q->l2_bits;

    return qcow2_l1_entry(q, i, i < q->l1_size ? q->l1[i] : 0, off, e);
}

/* Copies the entries of `index` and after from the bytes of their slice. */
static void fill_view(const struct qcow2 *q, uint64_t byte, const uint8_t *slice, struct view *view)
{
    const uint32_t skip = (uint32_t)(byte & (q->slice - 1));
    const uint32_t room = (q->slice - skip) / q->l2_entry_size;

    view->count = PL_MIN(view->count, room);
    if (load_be64(slice + skip) & QCOW2_PACKED)
        view->count = 1; /* a compressed cluster has no neighbours */
    memmove(view->bytes, slice + skip, (size_t)view->count * q->l2_entry_size);
}

/* Reads a slice with the lock dropped. */
static int read_meanwhile(struct qcow2 *q, uint64_t at, uint8_t *slice, struct pl_err *e)
    PL_NEEDS(&q->lock);
static int read_meanwhile(struct qcow2 *q, uint64_t at, uint8_t *slice, struct pl_err *e)
{
    int result;

    pl_lock_drop(&q->lock);
    result = pl_storage_read_padded(q->file, at, slice, q->slice, e);
    pl_lock_take(&q->lock);
    return result;
}

/* Looks in the cache, or reads the slice, the lock dropped meanwhile unless `hold`.  1: it was
 * read, but tables changed meanwhile. */
static int try_view(struct qcow2 *q, uint64_t byte, bool hold, struct view *view, struct pl_err *e)
    PL_NEEDS(&q->lock);
static int try_view(struct qcow2 *q, uint64_t byte, bool hold, struct view *view, struct pl_err *e)
{
    const uint64_t at = pl_round_down(byte, q->slice);
    const uint8_t *slice = pl_table_cache_peek(q->l2_cache, byte);
    uint64_t epoch;
    int result;

    if (slice) {
        fill_view(q, byte, slice, view);
        return 0;
    }
    epoch = pl_table_cache_epoch(q->l2_cache);
    result = hold ? pl_storage_read_padded(q->file, at, view->bytes, q->slice, e)
                  : read_meanwhile(q, at, view->bytes, e);
    if (result < 0)
        return pl_within(e, "L2 table");
    if (epoch != pl_table_cache_epoch(q->l2_cache))
        return 1;
    pl_table_cache_insert(q->l2_cache, at, view->bytes, epoch);
    fill_view(q, byte, view->bytes, view);
    return 0;
}

/* Fills the view for up to view->count clusters from view->index on. */
static int load_view(struct qcow2 *q, struct view *view, struct pl_err *e)
{
    const uint32_t wanted = view->count;
    int result = 1;

    PL_LOCKED(&q->lock);
    for (unsigned races = 0; result == 1; races++) {
        uint64_t table;

        if (qcow2_l2_table(q, view->index, &table, e) < 0)
            return -1;
        view->end = q->file_end;
        view->count = table ? wanted : 0;
        if (!table)
            return 0;
        result = try_view(q, table + (view->index & (q->l2_entries - 1)) * q->l2_entry_size,
                          races >= RACES_MAX, view, e);
    }
    return result;
}

/* How many clusters from `index` on, at least one and about `count` at most, lie in missing L2
 * tables. */
static uint64_t missing_run(struct qcow2 *q, uint64_t index, uint64_t count)
{
    const uint64_t first = index >> q->l2_bits;
    const uint64_t last = (index + count - 1) >> q->l2_bits;
    uint64_t i = first + 1;

    PL_LOCKED(&q->lock);
    while (i <= last && i < q->l1_size && !q->l1[i])
        i++;
    if (i >= q->l1_size)
        i = last + 1;
    return (i << q->l2_bits) - index;
}

/* The run of `first`, which ends with entry 0, over the entries that follow; in subclusters. */
static uint64_t merge(const struct qcow2 *q, const struct view *view, const struct part *first)
{
    const bool placed = first->kind == QCOW2_NORMAL || first->kind == QCOW2_ZERO_ALLOC;
    uint64_t run = first->count;

    for (uint32_t i = 1; i < view->count; i++) {
        struct part part;
        const struct qcow2_entry entry =
            qcow2_load_entry(q, view->bytes + (size_t)i * q->l2_entry_size);

        if (decode(q, entry, (struct spot){ view->index + i, 0, view->end }, &part, NULL) < 0 ||
            part.kind != first->kind ||
            (placed && part.off != first->off + run * q->subcluster_size))
            break;
        run += part.count;
        if (part.count < q->subclusters)
            break;
    }
    return run;
}

static void set_packed(const struct qcow2 *q, uint64_t word, uint64_t index, struct pl_extent *out)
{
    out->state = PL_PACKED;
    out->st = q->file;
    out->codec = q->codec;
    out->unit_at = index << q->cluster_bits;
    out->unit_len = q->cluster_size;
    qcow2_packed_place(q, word, &out->off, &out->packed_len);
}

static void set_plain(const struct qcow2 *q, const struct part *part, uint64_t skip,
                      struct pl_extent *out)
{
    static const enum pl_state states[] = {
        [QCOW2_UNALLOCATED] = PL_PARENT,   [QCOW2_ZERO] = PL_ZERO,   [QCOW2_ZERO_ALLOC] = PL_ZERO,
        [QCOW2_UNALLOC_ALLOC] = PL_PARENT, [QCOW2_NORMAL] = PL_DATA,
    };

    out->state = states[part->kind];
    out->allocated = part->kind == QCOW2_ZERO_ALLOC;
    if (part->kind != QCOW2_NORMAL && part->kind != QCOW2_ZERO_ALLOC)
        return;
    out->st = q->data;
    out->off = part->off + skip;
}

int qcow2_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e)
{
    struct qcow2 *q = state;
    const uint64_t inside = at & (q->cluster_size - 1);
    const uint64_t clusters = pl_div_up(inside + len, q->cluster_size);
    const uint32_t sub = (uint32_t)(inside / q->subcluster_size);
    struct view view; /* not cleared: its bytes are many */
    struct qcow2_entry entry;
    struct part part = { 0 };
    uint64_t run;

    view.index = at >> q->cluster_bits;
    view.count = (uint32_t)PL_MIN(clusters, q->slice / q->l2_entry_size);
    *out = (struct pl_extent){ .state = PL_PARENT };
    if (load_view(q, &view, e) < 0)
        return -1;
    if (view.count == 0) {
        run = missing_run(q, view.index, clusters) << q->cluster_bits;
        out->len = PL_MIN(len, run - inside);
        return 0;
    }
    entry = qcow2_load_entry(q, view.bytes);
    if (decode(q, entry, (struct spot){ view.index, sub, view.end }, &part, e) < 0)
        return -1;
    run = part.count;
    if (part.kind == QCOW2_COMPRESSED)
        set_packed(q, entry.word, view.index, out);
    else
        set_plain(q, &part, inside % q->subcluster_size, out);
    if (part.kind != QCOW2_COMPRESSED && sub + part.count == q->subclusters)
        run = merge(q, &view, &part);
    out->len = PL_MIN(len, run * q->subcluster_size - inside % q->subcluster_size);
    return 0;
}
