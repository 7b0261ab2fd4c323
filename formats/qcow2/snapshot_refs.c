/* snapshot_refs.c - walks the tables of a disk's state, and counts who refers to what; see
 * snapshot.h. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/shadow.h"
#include "formats/qcow2/snapshot.h"

/* One L2 table of many, in memory. */
struct table {
    struct qcow2 *q;
    uint64_t off;   /* in the file */
    uint64_t index; /* guest cluster of its first entry */
    bool empty;     /* a hole in the file: no entries */
    uint8_t *bytes; /* a cluster */
};

static struct qcow2_entry entry_at(const struct table *t, uint32_t i)
{
    return qcow2_load_entry(t->q, t->bytes + (size_t)i * t->q->l2_entry_size);
}

int qcow2_count_tables(const struct qcow2 *q, const uint64_t *l1, uint32_t entries, uint64_t *count,
                       struct pl_err *e)
{
    const uint64_t clusters = q->file_end >> q->cluster_bits;

    *count = 0;
    for (uint32_t i = 0; i < entries; i++)
        *count += (l1[i] & QCOW2_OFFSET_MASK) != 0;
    if (*count <= clusters)
        return 0;
    pl_fail(e, PL_E_CORRUPT,
            "the L1 table names %" PRIu64 " L2 tables, but the file has %" PRIu64 " clusters",
            *count, clusters);
    return pl_hint(e, "check and repair the image first");
}

/* Reads the table that an L1 entry names.  1: there is none. */
static int read_table(struct table *t, uint32_t i, uint64_t l1_entry, struct pl_err *e)
{
    const struct qcow2 *q = t->q;

    if (qcow2_l1_entry(q, i, l1_entry, &t->off, e) < 0)
        return -1;
    if (!t->off)
        return 1;
    t->index = (uint64_t)i * q->l2_entries;
    t->empty = q->file->device ? false : t->off >= pl_storage_size(q->file);
    if (!t->empty && pl_storage_read_padded(q->file, t->off, t->bytes, q->cluster_size, e) < 0)
        return pl_within(e, "L2 table");
    return 0;
}

/* A call for each run of clusters that the table refers to. */
struct visit {
    int (*run)(struct qcow2 *q, uint64_t off, uint64_t count, struct pl_err *e);
    uint64_t off, count; /* the run so far */
};

static int end_run(struct qcow2 *q, struct visit *v, struct pl_err *e)
{
    const uint64_t count = v->count;

    v->count = 0;
    return count ? v->run(q, v->off, count, e) : 0;
}

static int add_to_run(struct qcow2 *q, struct visit *v, uint64_t off, uint64_t count,
                      struct pl_err *e)
{
    if (v->count && v->off + (v->count << q->cluster_bits) != off && end_run(q, v, e) < 0)
        return -1;
    if (!v->count)
        v->off = off;
    v->count += count;
    return 0;
}

static int visit_entry(struct table *t, uint32_t i, struct visit *v, struct pl_err *e)
{
    const struct qcow2_entry entry = entry_at(t, i);
    uint64_t off = entry.word & QCOW2_OFFSET_MASK, count = 1;
    enum qcow2_kind kind;

    if (!entry.word && !entry.bitmap)
        return 0;
    if (qcow2_classify(t->q, entry, 0, t->index + i, &kind, e) < 0)
        return -1;
    if (kind == QCOW2_COMPRESSED)
        qcow2_packed_clusters(t->q, entry.word, &off, &count);
    return off ? add_to_run(t->q, v, off, count, e) : 0;
}

static int visit_entries(struct table *t, struct visit *v, struct pl_err *e)
{
    for (uint32_t i = 0; !t->empty && i < t->q->l2_entries; i++)
        if (visit_entry(t, i, v, e) < 0)
            return -1;
    return end_run(t->q, v, e);
}

static int drop_run(struct qcow2 *q, uint64_t off, uint64_t count, struct pl_err *e)
    PL_NEEDS(&q->lock);
static int drop_run(struct qcow2 *q, uint64_t off, uint64_t count, struct pl_err *e)
{
    return qcow2_reference(q, off, count, -1, e);
}

/* The table with the flags of its entries cleared in memory; *any: one was set. */
static void clear_flags(struct table *t, bool *any)
{
    *any = false;
    for (uint32_t i = 0; !t->empty && i < t->q->l2_entries; i++) {
        struct qcow2_entry entry = entry_at(t, i);

        if (!(entry.word & QCOW2_COPIED))
            continue;
        *any = true;
        entry.word &= ~QCOW2_COPIED;
        qcow2_store_entry(t->q, t->bytes + (size_t)i * t->q->l2_entry_size, entry);
    }
}

/* Writes the table to a new cluster. */
static int write_copy(struct qcow2 *q, struct table *t, uint64_t *off, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    if (qcow2_shadow_allocate(q, 1, off, e) < 0)
        return -1;
    return pl_storage_write(q->file, *off, t->bytes, q->cluster_size, e);
}

/* ---- one state ---- */

static int share_table(struct qcow2 *q, struct table *t, uint64_t *l1_entry, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    struct visit v = { .run = qcow2_share };
    uint64_t off, count;
    bool flags;

    if (visit_entries(t, &v, e) < 0 || qcow2_refcount(q, t->off >> q->cluster_bits, &count, e) < 0)
        return -1;
    clear_flags(t, &flags);
    if (flags || count == q->refcount_max) {
        if (write_copy(q, t, &off, e) < 0)
            return -1;
        *l1_entry = off | QCOW2_COPIED;
        return 0;
    }
    *l1_entry = t->off;
    return qcow2_share(q, t->off, 1, e);
}

int qcow2_share_tables(struct qcow2 *q, const uint64_t *l1, uint32_t entries, uint64_t *shared,
                       struct pl_err *e)
{
    PL_FREE uint8_t *bytes = pl_buffer(q->cluster_size);
    struct table t = { .q = q, .bytes = bytes };

    if (!bytes)
        return pl_fail(e, PL_E_NOMEM, "no memory for an L2 table");
    for (uint32_t i = 0; i < entries; i++) {
        const int r = read_table(&t, i, l1[i], e);

        shared[i] = 0;
        if (r < 0 || (r == 0 && share_table(q, &t, &shared[i], e) < 0))
            return -1;
    }
    return 0;
}

int qcow2_release_tables(struct qcow2 *q, const uint64_t *l1, uint32_t entries, struct pl_err *e)
{
    PL_FREE uint8_t *bytes = pl_buffer(q->cluster_size);
    struct table t = { .q = q, .bytes = bytes };

    if (!bytes)
        return pl_fail(e, PL_E_NOMEM, "no memory for an L2 table");
    for (uint32_t i = 0; i < entries; i++) {
        struct visit v = { .run = drop_run };
        const int r = read_table(&t, i, l1[i], e);

        if (r < 0 ||
            (r == 0 && (visit_entries(&t, &v, e) < 0 || qcow2_shadow_drop_table(q, t.off, e) < 0)))
            return -1;
    }
    return 0;
}

/* ---- flags ---- */

/* Whether the cluster at `off` has one reference, as the flag says. */
static int flag_for(struct qcow2 *q, uint64_t off, uint64_t *flag, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    uint64_t count;

    if (qcow2_refcount(q, off >> q->cluster_bits, &count, e) < 0)
        return -1;
    *flag = count == 1 ? QCOW2_COPIED : 0;
    return 0;
}

/* Sets the flags of the entries in memory. */
static int set_flags(struct qcow2 *q, struct table *t, bool *changed, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    *changed = false;
    for (uint32_t i = 0; !t->empty && i < q->l2_entries; i++) {
        struct qcow2_entry entry = entry_at(t, i);
        uint64_t flag;

        if (entry.word & QCOW2_PACKED || !(entry.word & QCOW2_OFFSET_MASK))
            continue;
        if (flag_for(q, entry.word & QCOW2_OFFSET_MASK, &flag, e) < 0)
            return -1;
        if (flag == (entry.word & QCOW2_COPIED))
            continue;
        *changed = true;
        entry.word ^= QCOW2_COPIED;
        qcow2_store_entry(q, t->bytes + (size_t)i * q->l2_entry_size, entry);
    }
    return 0;
}

static int follow_table(struct qcow2 *q, struct table *t, uint64_t *l1_entry, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    bool changed;
    uint64_t off, flag;

    if (set_flags(q, t, &changed, e) < 0)
        return -1;
    if (changed) {
        if (write_copy(q, t, &off, e) < 0 || qcow2_shadow_drop_table(q, t->off, e) < 0)
            return -1;
        *l1_entry = off | QCOW2_COPIED;
        return 0;
    }
    if (flag_for(q, t->off, &flag, e) < 0)
        return -1;
    *l1_entry = t->off | flag;
    return 0;
}

int qcow2_follow_counts(struct qcow2 *q, uint64_t *l1, uint32_t entries, bool *changed,
                        struct pl_err *e)
{
    PL_FREE uint8_t *bytes = pl_buffer(q->cluster_size);
    struct table t = { .q = q, .bytes = bytes };

    *changed = false;
    if (!bytes)
        return pl_fail(e, PL_E_NOMEM, "no memory for an L2 table");
    for (uint32_t i = 0; i < entries; i++) {
        const uint64_t before = l1[i];
        const int r = read_table(&t, i, l1[i], e);

        if (r < 0 || (r == 0 && follow_table(q, &t, &l1[i], e) < 0))
            return -1;
        *changed = *changed || l1[i] != before;
    }
    return 0;
}
