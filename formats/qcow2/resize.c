/* resize.c - a larger or a smaller virtual disk.
 *
 * Growing: what lies behind the old end in clusters that exist is zeroed, a longer L1 table is
 * written to a new place, all of that synced; then one write of the header's first sector shows
 * size and table.  Over a parent, which may be longer than the disk was, the core still has to zero
 * what the parent would show: there the new size waits for the next flush.
 *
 * Shrinking: the header first, then clusters behind the new end lose their entries and are freed,
 * then the file is cut.  A crash in between leaves entries behind the disk's end, which growing
 * removes. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/tables.h"

#define PREALLOCATE_AT_ONCE (256 * PL_MIB)

/* Guest bytes that one L2 table describes. */
static uint64_t table_bytes(const struct qcow2 *q)
{
    return (uint64_t)q->l2_entries << q->cluster_bits;
}

static int check_request(struct qcow2 *q, uint64_t size, bool shrink, struct pl_err *e)
{
    if (size < q->header.size && !shrink) {
        pl_fail(e, PL_E_INVALID,
                "shrinking from %" PRIu64 " to %" PRIu64 " bytes would lose what lies "
                "behind",
                q->header.size, size);
        return pl_hint(e, "shrink file systems and partitions first, then use --shrink");
    }
    if (size % QCOW2_SECTOR)
        return pl_fail(e, PL_E_INVALID, "the new size of %" PRIu64 " bytes is no multiple of 512",
                       size);
    if (size > PL_OFFSET_MAX || pl_div_up(size, table_bytes(q)) > QCOW2_L1_BYTES_MAX / 8)
        return pl_fail(e, PL_E_LIMIT,
                       "%" PRIu64 " bytes are more than clusters of %" PRIu32 " bytes "
                       "allow",
                       size, q->cluster_size);
    if (q->header.nb_snapshots && q->header.version < 3)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "an image of version 2 that has snapshots cannot be resized: "
                       "its snapshots do not record their own size");
    return 0;
}

/* ---- the bytes behind the end of the disk ---- */

/* The kind of the last guest cluster at `at`, and its place. */
static int look_at(struct qcow2 *q, uint64_t at, struct qcow2_entry *entry, enum qcow2_kind *kind,
                   struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint32_t sub = (uint32_t)((at & (q->cluster_size - 1)) / q->subcluster_size);
    struct qcow2_l2_view view;

    *entry = (struct qcow2_entry){ 0 };
    *kind = QCOW2_UNALLOCATED;
    if (qcow2_l2_look(q, at >> q->cluster_bits, &view, e) < 0)
        return -1;
    if (!view.entries)
        return 0;
    *entry = qcow2_load_entry(q, view.entries);
    return qcow2_classify(q, *entry, sub, at >> q->cluster_bits, kind, e);
}

/* Zeroes from the end of the disk to the end of its last granule, where that has bytes. */
static int zero_last_granule(struct qcow2 *q, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t end = q->header.size, in = end & (q->cluster_size - 1);
    uint64_t rest = pl_round_up(end, q->subcluster_size) - end;
    struct qcow2_entry entry;
    enum qcow2_kind kind;

    if (look_at(q, end, &entry, &kind, e) < 0)
        return -1;
    if (kind == QCOW2_COMPRESSED ||
        (kind == QCOW2_NORMAL && !(entry.word & QCOW2_COPIED) && !qcow2_has_data_file(q))) {
        if (qcow2_unshare(q, end >> q->cluster_bits, e) < 0 ||
            look_at(q, end, &entry, &kind, e) < 0)
            return -1;
    }
    if (kind != QCOW2_NORMAL || !rest)
        return 0;
    return pl_storage_zero(q->data, (entry.word & QCOW2_OFFSET_MASK) + in, rest, e);
}

/* Makes everything that L1 table and entries have behind the end of the disk read as zeros. */
static int zero_behind(struct qcow2 *q, uint64_t size, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t end = q->header.size, from = pl_round_up(end, q->subcluster_size);
    uint64_t to = PL_MIN(pl_round_up(size, q->cluster_size), q->l1_size * table_bytes(q));

    if (end & (q->cluster_size - 1) && zero_last_granule(q, e) < 0)
        return -1;
    return from < to && qcow2_punch(q, from, to - from, QCOW2_PUNCH_FORGET, e) < 0 ? -1 : 0;
}

/* An external data file grows with the disk, by zeros.  A raw one is the disk: it gets its very
 * size, after zeroing went to the end of the last cluster. */
static int grow_data_file(struct qcow2 *q, uint64_t size, struct pl_err *e)
{
    uint64_t old = q->header.size, now;

    if (q->data == q->file || q->data->device)
        return 0;
    now = pl_storage_size(q->data);
    if (now > old && pl_storage_zero(q->data, old, PL_MIN(now, size) - old, e) < 0)
        return -1;
    if (now < size || (qcow2_data_file_raw(q) && now <= pl_round_up(size, q->cluster_size)))
        return pl_storage_resize(q->data, size, e);
    return 0;
}

/* ---- growing ---- */

/* The header keeps the size that it has until the next flush. */
static void let_size_wait(struct qcow2 *q)
{
    if (!q->size_waits)
        q->size_shown = q->header.size;
    q->size_waits = true;
}

static int write_header(struct qcow2 *q, struct pl_err *e) PL_NEEDS(&q->lock)
{
    if (qcow2_write_header(q, e) == 0 && qcow2_sync(q, e) == 0)
        return 0;
    q->broken = true; /* nobody knows which header the disk has */
    return -1;
}

/* Longer arrays in memory. */
static int enlarge_l1(struct qcow2 *q, uint32_t entries, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t *l1 = reallocarray(q->l1, entries, sizeof *l1);
    uint8_t *dirty;

    if (l1)
        q->l1 = l1;
    dirty = l1 ? realloc(q->l1_dirty, (size_t)entries * 8 / QCOW2_SECTOR + 2) : NULL;
    if (!dirty)
        return pl_fail(e, PL_E_NOMEM, "no memory for an L1 table of %" PRIu32 " entries", entries);
    q->l1_dirty = dirty;
    memset(l1 + q->l1_size, 0, (size_t)(entries - q->l1_size) * sizeof *l1);
    memset(dirty, 0, (size_t)entries * 8 / QCOW2_SECTOR + 2);
    return 0;
}

/* Writes the L1 table, made longer, to a new place, and shows it and the new size. */
static int move_l1(struct qcow2 *q, uint32_t entries, uint64_t size, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    uint64_t old_off = q->header.l1_table_offset, off;
    uint64_t old_clusters = pl_div_up((uint64_t)q->l1_size * 8, q->cluster_size);

    if (qcow2_allocate_clusters(q, pl_div_up((uint64_t)entries * 8, q->cluster_size), true, &off,
                                NULL, e) < 0 ||
        qcow2_write_back(q, false, e) < 0 || enlarge_l1(q, entries, e) < 0 ||
        qcow2_write_table(q, off, q->l1, entries, e) < 0 || qcow2_cover_file(q, e) < 0 ||
        qcow2_sync(q, e) < 0)
        return pl_within(e, "new L1 table");
    q->l1_size = q->header.l1_size = entries;
    q->header.l1_table_offset = off;
    q->header.size = size;
    if (write_header(q, e) < 0)
        return -1;
    return old_clusters ? qcow2_free_later(q, old_off, old_clusters, false, e) : 0;
}

static int grow(struct qcow2 *q, uint64_t size, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t entries = pl_div_up(size, table_bytes(q));

    if (zero_behind(q, size, e) < 0 || grow_data_file(q, size, e) < 0 ||
        qcow2_write_back(q, true, e) < 0)
        return -1;
    if (entries > q->l1_size)
        return move_l1(q, (uint32_t)entries, size, e);
    q->header.size = size;
    return q->size_waits ? 0 : write_header(q, e);
}

/* ---- room ahead of data ---- */

/* Makes the bytes of new room zeros, in the way asked for. */
static int fill_room(const struct pl_place *place, enum pl_prealloc how, struct pl_err *e)
{
    if (!place->zeroed && how != PL_PREALLOC_FULL &&
        pl_storage_zero(place->st, place->off, place->len, e) < 0)
        return -1;
    return pl_storage_preallocate(place->st, place->off, place->len, how, e);
}

int qcow2_preallocate(struct qcow2 *q, uint64_t at, uint64_t len, enum pl_prealloc how,
                      struct pl_err *e)
{
    for (uint64_t end = at + len; at < end;) {
        struct pl_place place;

        if (qcow2_allocate(q, at, PL_MIN(end - at, PREALLOCATE_AT_ONCE), &place, e) < 0)
            return -1;
        if (place.fresh && (fill_room(&place, how, e) < 0 || qcow2_link(q, &place, e) < 0)) {
            qcow2_cancel(q, &place);
            return pl_within(e, "preallocation");
        }
        at += place.len;
    }
    return 0;
}

/* ---- shrinking ---- */

/* Frees the L2 tables that describe nothing inside the disk; their entries are empty already. */
static int drop_tables(struct qcow2 *q, struct pl_err *e) PL_NEEDS(&q->lock)
{
    for (uint64_t i = pl_div_up(q->header.size, table_bytes(q)); i < q->l1_size; i++) {
        uint64_t off;

        if (qcow2_pending_room(q, 1, e) < 0 || qcow2_l2_table(q, i * q->l2_entries, &off, e) < 0)
            return -1;
        if (!off)
            continue;
        q->l1[i] = 0;
        q->l1_dirty[i * 8 / QCOW2_SECTOR] = 1;
        pl_table_cache_drop(q->l2_cache, off, q->cluster_size);
        if (qcow2_free_later(q, off, 1, true, e) < 0)
            return -1;
    }
    return 0;
}

/* How many clusters the file needs; refcount blocks at its end that count only themselves are given
 * up. */
static int clusters_in_use(struct qcow2 *q, uint64_t *clusters, struct pl_err *e) PL_NEEDS(&q->lock)
{
    for (*clusters = q->file_end >> q->cluster_bits; *clusters > 1; --*clusters) {
        uint64_t count;
        int r = 0;

        if (qcow2_refcount(q, *clusters - 1, &count, e) < 0)
            return -1;
        if (count)
            r = qcow2_drop_own_block(q, *clusters - 1, e);
        if (r < 0)
            return -1;
        if (count && r == 0)
            break;
    }
    return 0;
}

/* Cuts the file behind its last cluster in use. */
static int cut_file(struct qcow2 *q, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t clusters;

    if (q->file->device)
        return 0;
    if (clusters_in_use(q, &clusters, e) < 0 || qcow2_write_back(q, true, e) < 0)
        return -1;
    q->file_end = clusters << q->cluster_bits;
    return pl_storage_size(q->file) > q->file_end ? pl_storage_resize(q->file, q->file_end, e) : 0;
}

static int shrink_to(struct qcow2 *q, uint64_t size, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t from = pl_round_up(size, q->cluster_size);
    uint64_t to = PL_MIN(pl_round_up(q->header.size, q->cluster_size), q->l1_size * table_bytes(q));

    if (qcow2_write_back(q, true, e) < 0)
        return -1;
    q->size_waits = false;
    q->header.size = size;
    if (write_header(q, e) < 0)
        return -1;
    if (from < to && qcow2_punch(q, from, to - from, QCOW2_PUNCH_FORGET, e) < 0)
        return -1;
    if (drop_tables(q, e) < 0 || qcow2_write_back(q, true, e) < 0 || cut_file(q, e) < 0)
        return -1;
    if (q->data == q->file || q->data->device || pl_storage_size(q->data) <= size)
        return 0;
    return pl_storage_resize(q->data, size, e);
}

int qcow2_resize(void *state, uint64_t size, bool shrink, enum pl_prealloc prealloc,
                 struct pl_err *e)
{
    struct qcow2 *q = state;
    struct qcow2_kept_bitmaps kept = { 0 };
    uint64_t before, old;
    int r;

    pl_lock_take(&q->lock);
    before = old = q->header.size;
    r = qcow2_check_writable(q, e);
    if (r == 0)
        r = check_request(q, size, shrink, e);
    if (r == 0 && size != old)
        r = qcow2_keep_bitmaps(q, size, &kept, e);
    if (r == 0 && size != old)
        r = qcow2_begin_change(q, e);
    if (r == 0 && size > old && q->parent_name && !kept.count) /* bitmaps must fit the header */
        let_size_wait(q);
    if (r == 0 && size != old)
        r = size > old ? grow(q, size, e) : shrink_to(q, size, e);
    pl_lock_drop(&q->lock);
    old = pl_round_up(old, q->cluster_size);
    if (qcow2_data_file_raw(q) && prealloc == PL_PREALLOC_OFF)
        prealloc = PL_PREALLOC_METADATA; /* no cluster of a raw data file is ever unallocated */
    if (r == 0 && prealloc != PL_PREALLOC_OFF && size > old)
        r = qcow2_preallocate(q, old, size - old, prealloc, e);
    if (r < 0 && q->size_waits)
        q->header.size = before; /* no flush may show what the core will not zero */
    if (qcow2_restore_bitmaps(q, &kept, r == 0 ? e : NULL) < 0)
        r = -1;
    return r == 0 && !q->size_waits ? qcow2_flush(q, e) : r;
}
