/* check_walk.c - counts the references that header, L1 tables, snapshots and bitmaps hold, and
 * finds the L2 tables. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/tables.h"

/* An L1 table, and how many snapshots have that very table. */
struct l1 {
    uint64_t off;
    uint64_t *entries;
    uint32_t count, times;
    bool active;
};

static const char *const lost = "the L2 table that it named is gone";

/* Whether the table that the pass before found there is garbage inside something else. */
static bool is_alien(const struct qcow2_check *c, uint64_t cluster)
{
    return c->before && qcow2_tally_get(&c->before->tables, cluster) & QCOW2_TABLE_ALIEN;
}

/* Notes an L2 table that `times` L1 entries name. */
static int note_table(struct qcow2_check *c, uint64_t cluster, const struct l1 *l1,
                      struct pl_err *e)
{
    uint32_t *n = qcow2_tally_at(&c->tables, cluster), count;

    if (!n)
        return pl_fail(e, PL_E_NOMEM, "no memory to note an L2 table");
    count = *n & QCOW2_TABLE_COUNT;
    count = l1->times > QCOW2_TABLE_COUNT - count ? QCOW2_TABLE_COUNT : count + l1->times;
    *n = (*n & ~QCOW2_TABLE_COUNT) | count | (l1->active ? QCOW2_TABLE_ACTIVE : 0);
    return 0;
}

/* Checks one entry that names a table at `off`.  1: it must go; 0; -1. */
static int check_l1_entry(struct qcow2_check *c, const struct l1 *l1, uint64_t off,
                          struct pl_err *e)
{
    uint64_t cluster = off >> c->q->cluster_bits;
    int r;

    if (off & (c->q->cluster_size - 1))
        return qcow2_found(c, QCOW2_ERROR,
                           "l2_offset=%" PRIx64 ": Table is not cluster aligned; L1 "
                           "entry corrupted",
                           off);
    if (is_alien(c, cluster))
        return qcow2_found(c, QCOW2_ERROR,
                           "l2_offset=%" PRIx64 ": Not an L2 table but other data; L1 "
                           "entry corrupted",
                           off);
    if (qcow2_tally_get(&c->tables, cluster) & QCOW2_TABLE_STRUCTURE &&
        qcow2_found(c, QCOW2_ERROR,
                    "l2_offset=%" PRIx64 ": Table overlaps other metadata; L1 entry "
                    "corrupted",
                    off))
        return 1;
    r = qcow2_count_range(c, off, c->q->cluster_size, l1->times, e);
    if (r != 0)
        return r;
    return cluster < c->refs.clusters ? note_table(c, cluster, l1, e) : 0;
}

/* Writes a mended entry. */
static int put_l1_entry(struct qcow2_check *c, struct l1 *l1, uint32_t i, uint64_t entry,
                        struct pl_err *e) PL_NEEDS(&c->q->lock)
{
    uint8_t raw[8];

    if (!entry && l1->entries[i] & QCOW2_OFFSET_MASK && c->tell)
        pl_warn(c->report, "L1 entry %" PRIu32 ": %s", i, lost);
    l1->entries[i] = entry;
    if (l1->active) {
        c->q->l1_dirty[(uint64_t)i * 8 / QCOW2_SECTOR] = 1;
        return 0;
    }
    store_be64(raw, entry);
    return pl_storage_write(c->q->file, l1->off + 8 * (uint64_t)i, raw, sizeof raw, e);
}

static int walk_l1(struct qcow2_check *c, struct l1 *l1, struct pl_err *e) PL_NEEDS(&c->q->lock)
{
    if (qcow2_count_range(c, l1->off, (uint64_t)l1->count * 8, l1->times, e) < 0)
        return -1;
    for (uint32_t i = 0; i < l1->count; i++) {
        uint64_t entry = l1->entries[i];
        int r = 0;

        if (entry & QCOW2_L1_RESERVED &&
            qcow2_found(c, QCOW2_ERROR, "found L1 entry with reserved bits set: %" PRIx64, entry))
            entry &= ~QCOW2_L1_RESERVED;
        if (entry & QCOW2_OFFSET_MASK)
            r = check_l1_entry(c, l1, entry & QCOW2_OFFSET_MASK, e);
        if (r < 0)
            return -1;
        if (r > 0)
            entry = 0;
        if (entry != l1->entries[i] && put_l1_entry(c, l1, i, entry, e) < 0)
            return -1;
    }
    return 0;
}

/* ---- snapshots ---- */

static int by_l1(const void *a, const void *b)
{
    const struct qcow2_snapshot *x = a, *y = b;

    if (x->l1_table_offset != y->l1_table_offset)
        return x->l1_table_offset < y->l1_table_offset ? -1 : 1;
    return (x->l1_size > y->l1_size) - (x->l1_size < y->l1_size);
}

/* Something refers to clusters in a way that cannot be followed: no count can be called too high.
 */
static int go_blind(struct qcow2_check *c, const struct pl_err *why)
{
    c->blind = true;
    qcow2_found(c, QCOW2_ERROR_KEPT, "%s", why->msg);
    return 0;
}

/* Walks the L1 table that `times` snapshots have. */
static int walk_snapshot(struct qcow2_check *c, const struct qcow2_snapshot *s, uint32_t times,
                         struct pl_err *e) PL_NEEDS(&c->q->lock)
{
    const struct qcow2_place place = { .off = s->l1_table_offset,
                                       .entries = s->l1_size,
                                       .bytes_max = QCOW2_L1_BYTES_MAX };
    struct l1 l1 = { .off = place.off, .count = s->l1_size, .times = times };
    PL_FREE uint64_t *entries = NULL;
    struct pl_err why;

    c->l1_bytes += 8 * (uint64_t)s->l1_size;
    if (c->l1_bytes > c->file_size) {
        pl_fail(&why, PL_E_CORRUPT, "the L1 tables of the snapshots overlap");
        return go_blind(c, &why);
    }
    if (qcow2_load_table(c->q, "L1 table", place, &entries, &why) < 0) {
        pl_within(&why, "snapshot %s (%s)", s->shown.id, s->shown.name);
        return go_blind(c, &why);
    }
    l1.entries = entries;
    return walk_l1(c, &l1, e);
}

static int walk_snapshots(struct qcow2_check *c, const struct qcow2_snapshot *list, size_t count,
                          struct pl_err *e) PL_NEEDS(&c->q->lock)
{
    for (size_t i = 0, next; i < count; i = next) {
        for (next = i + 1; next < count && !by_l1(&list[i], &list[next]);)
            next++;
        if (walk_snapshot(c, &list[i], (uint32_t)(next - i), e) < 0)
            return -1;
    }
    return 0;
}

/* ---- bitmaps ---- */

static int walk_bitmap(struct qcow2_check *c, const struct qcow2_bitmap *b, struct pl_err *e)
{
    const struct qcow2_place place = { .off = b->entry.bitmap_table_offset,
                                       .entries = b->entry.bitmap_table_size,
                                       .bytes_max = 8 * (uint64_t)QCOW2_BITMAP_TABLE_ENTRIES_MAX };
    PL_FREE uint64_t *table = NULL;
    struct pl_err why;

    if (qcow2_load_table(c->q, "bitmap table", place, &table, &why) < 0) {
        pl_within(&why, "bitmap '%s'", b->shown.name);
        return go_blind(c, &why);
    }
    if (qcow2_count_range(c, place.off, 8 * place.entries, 1, e) < 0)
        return -1;
    for (uint64_t i = 0; i < place.entries; i++) {
        uint64_t off = table[i] & QCOW2_OFFSET_MASK;

        if (table[i] & QCOW2_BITMAP_TABLE_RESERVED || off & (c->q->cluster_size - 1))
            qcow2_found(c, QCOW2_ERROR_KEPT,
                        "bitmap table entry %" PRIu64 " (%" PRIx64 ") is corrupted", i, table[i]);
        else if (off && qcow2_count_range(c, off, c->q->cluster_size, 1, e) < 0)
            return -1;
    }
    return 0;
}

/* The directory and what it names; tables may not be longer than the file, all together. */
static int walk_bitmaps(struct qcow2_check *c, const struct qcow2_bitmap *list, size_t count,
                        struct pl_err *e)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        struct pl_err why;

        bytes += 8 * (uint64_t)list[i].entry.bitmap_table_size;
        if (bytes > c->file_size) {
            pl_fail(&why, PL_E_CORRUPT, "the bitmap tables overlap");
            return go_blind(c, &why);
        }
        if (walk_bitmap(c, &list[i], e) < 0)
            return -1;
    }
    return 0;
}

/* ---- all of it ---- */

/* The lists that say where structure lies. */
struct lists {
    struct qcow2_snapshot *snapshots;
    struct qcow2_bitmap *bitmaps;
    size_t snapshot_count, bitmap_count;
    uint64_t snapshot_bytes;
    struct qcow2_bitmaps_ext ext;
};

static int load_lists(struct qcow2_check *c, struct lists *l) PL_NEEDS(&c->q->lock)
{
    struct pl_err why;

    if (c->q->header.nb_snapshots &&
        qcow2_load_snapshots(c->q, &l->snapshots, &l->snapshot_count, &l->snapshot_bytes, &why) < 0)
        return go_blind(c, &why);
    if (l->snapshot_count)
        qsort(l->snapshots, l->snapshot_count, sizeof *l->snapshots, by_l1);
    if (qcow2_bitmaps_extension(c->q, false, &l->ext, &why) < 0 ||
        qcow2_load_bitmaps(c->q, false, &l->bitmaps, &l->bitmap_count, &why) < 0)
        return go_blind(c, &why);
    return 0;
}

/* The L1 tables of the snapshots, which are sorted by their place; where they overlap, once. */
static int mark_snapshots(struct qcow2_check *c, const struct lists *l, struct pl_err *e)
{
    uint64_t marked = 0;

    for (size_t i = 0; i < l->snapshot_count; i++) {
        uint64_t off = l->snapshots[i].l1_table_offset, end;

        if (l->snapshots[i].l1_size > QCOW2_L1_BYTES_MAX / 8 ||
            !pl_add(off, 8 * (uint64_t)l->snapshots[i].l1_size, &end) || end <= marked)
            continue;
        off = PL_MAX(off, marked);
        if (qcow2_mark_structure(c, off, end - off, e) < 0)
            return -1;
        marked = end;
    }
    return 0;
}

/* Notes where the image's own tables are, so that nothing else is believed to be there.  Not the
 * refcount structure: it can be made anew, so what claims to be there wins. */
static int mark_all(struct qcow2_check *c, const struct lists *l, struct pl_err *e)
    PL_NEEDS(&c->q->lock)
{
    const struct qcow2_header *h = &c->q->header;

    if (qcow2_mark_structure(c, 0, c->q->cluster_size, e) < 0 ||
        qcow2_mark_structure(c, h->l1_table_offset, (uint64_t)h->l1_size * 8, e) < 0 ||
        qcow2_mark_structure(c, h->snapshots_offset, l->snapshot_bytes, e) < 0)
        return -1;
    return mark_snapshots(c, l, e);
}

/* The tables that the active L1 table names come first, in guest order. */
static int walk_tables(struct qcow2_check *c, struct pl_err *e) PL_NEEDS(&c->q->lock)
{
    struct qcow2 *q = c->q;

    for (uint32_t i = 0; i < q->l1_size; i++) {
        uint64_t off = q->l1[i] & QCOW2_OFFSET_MASK;

        pl_progress(c->report, i, q->l1_size);
        if (pl_check_cancelled(c->report, e) < 0 ||
            qcow2_walk_table(c, off, (uint64_t)i * q->l2_entries, e) < 0)
            return -1;
    }
    for (uint64_t cluster = 0; cluster < c->tables.clusters; cluster++) {
        if (!c->tables.page[cluster / QCOW2_TALLY_PAGE]) {
            cluster |= QCOW2_TALLY_PAGE - 1;
            continue;
        }
        if (qcow2_walk_table(c, cluster << q->cluster_bits, UINT64_MAX, e) < 0)
            return -1;
    }
    return 0;
}

/* Marks the bad tables that lie where other things were counted too. */
static void mark_aliens(struct qcow2_check *c)
{
    for (uint64_t cluster = 0; cluster < c->tables.clusters; cluster++) {
        uint32_t *page = c->tables.page[cluster / QCOW2_TALLY_PAGE];
        uint32_t *table = page ? page + cluster % QCOW2_TALLY_PAGE : NULL;

        if (!table)
            cluster |= QCOW2_TALLY_PAGE - 1;
        else if (*table & QCOW2_TABLE_BAD &&
                 qcow2_tally_get(&c->refs, cluster) != (*table & QCOW2_TABLE_COUNT))
            *table |= QCOW2_TABLE_ALIEN;
    }
}

static int walk_lists(struct qcow2_check *c, const struct lists *l, struct pl_err *e)
    PL_NEEDS(&c->q->lock)
{
    struct qcow2 *q = c->q;
    struct l1 active = { .off = q->header.l1_table_offset,
                         .entries = q->l1,
                         .count = q->l1_size,
                         .times = 1,
                         .active = true };

    if (mark_all(c, l, e) < 0 || qcow2_count_range(c, 0, q->cluster_size, 1, e) < 0 ||
        walk_l1(c, &active, e) < 0 || walk_snapshots(c, l->snapshots, l->snapshot_count, e) < 0 ||
        qcow2_count_range(c, q->header.snapshots_offset, l->snapshot_bytes, 1, e) < 0 ||
        walk_tables(c, e) < 0)
        return -1;
    if (qcow2_count_range(c, l->ext.bitmap_directory_offset, l->ext.bitmap_directory_size, 1, e) <
            0 ||
        walk_bitmaps(c, l->bitmaps, l->bitmap_count, e) < 0)
        return -1;
    mark_aliens(c);
    return 0;
}

int qcow2_walk(struct qcow2_check *c, struct pl_err *e)
{
    struct lists l = { 0 };
    int r = load_lists(c, &l);

    if (r == 0)
        r = walk_lists(c, &l, e);
    free(l.snapshots);
    free(l.bitmaps);
    return r;
}
