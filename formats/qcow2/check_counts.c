/* check_counts.c - the refcount structure against the references found. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/check.h"

/* Something that only a new structure can mend. */
static void found_broken(struct qcow2_check *c, const char *what, uint64_t index, uint64_t value)
{
    c->rebuild = true;
    qcow2_found(c, c->blind ? QCOW2_ERROR_KEPT : QCOW2_ERROR,
                "refcount block %" PRIu64 " %s (%" PRIx64 ")", index, what, value);
}

/* Whether the entry of the refcount table can be a refcount block. */
static bool is_block(const struct qcow2_check *c, uint64_t entry)
{
    return entry && !(entry & (c->q->cluster_size - 1)) && entry < c->file_size;
}

static int walk_block(struct qcow2_check *c, uint32_t i, struct pl_err *e) PL_NEEDS(&c->q->lock)
{
    uint64_t entry = c->q->refcount_table[i];

    if (!entry)
        return 0;
    if (entry & QCOW2_REFCOUNT_TABLE_RESERVED)
        found_broken(c, "has reserved bits set", i, entry);
    else if (entry & (c->q->cluster_size - 1))
        found_broken(c, "is not cluster aligned; refcount table entry corrupted", i, entry);
    else if (entry >= c->file_size)
        found_broken(c, "is outside image", i, entry);
    else
        return qcow2_count_range(c, entry, c->q->cluster_size, 1, e);
    return 0;
}

int qcow2_walk_refcounts(struct qcow2_check *c, struct pl_err *e)
{
    struct qcow2 *q = c->q;
    uint64_t bytes = (uint64_t)q->header.refcount_table_clusters << q->cluster_bits;
    int r;

    if (!q->refcount_table_size || q->header.refcount_table_offset & (q->cluster_size - 1)) {
        c->rebuild = true;
        qcow2_found(c, QCOW2_ERROR, "refcount table at 0x%" PRIx64 " cannot be used",
                    q->header.refcount_table_offset);
        return 0;
    }
    r = qcow2_count_range(c, q->header.refcount_table_offset, bytes, 1, e);
    c->rebuild = c->rebuild || r > 0;
    for (uint32_t i = 0; i < q->refcount_table_size && r >= 0; i++)
        r = walk_block(c, i, e);
    for (uint32_t i = 0; i < q->refcount_table_size && r >= 0; i++) {
        uint64_t entry = q->refcount_table[i];
        uint32_t refs = qcow2_tally_get(&c->refs, entry >> q->cluster_bits);

        if (is_block(c, entry) && refs != 1)
            found_broken(c, "is used for something else too, references", i, refs);
    }
    return r < 0 ? -1 : 0;
}

/* A walk over the counts of the file. */
struct walk {
    struct qcow2_check *c;
    uint64_t index; /* of the block in `bytes` */
    uint64_t off;   /* where it is, 0: there is none */
    bool usable;    /* false: there is one that cannot be used, so nothing is known */
    bool changed;
    uint8_t *bytes;
    uint64_t end; /* behind the last cluster in use */
};

static int store_block(struct walk *w, struct pl_err *e)
{
    struct qcow2 *q = w->c->q;

    if (!w->changed)
        return 0;
    w->changed = false;
    return pl_storage_write(q->file, w->off, w->bytes, q->cluster_size, e);
}

/* Loads block `index`, after the one before was stored. */
static int load_block(struct walk *w, uint64_t index, struct pl_err *e)
{
    struct qcow2_check *c = w->c;
    struct qcow2 *q = c->q;
    uint64_t entry = index < q->refcount_table_size ? q->refcount_table[index] : 0;
    struct pl_err why;

    if (w->index == index)
        return 0;
    if (store_block(w, e) < 0)
        return -1;
    w->index = index;
    w->usable =
        !entry || (is_block(c, entry) && qcow2_tally_get(&c->refs, entry >> q->cluster_bits) == 1);
    w->off = w->usable ? entry : 0;
    if (!w->off)
        return 0;
    if (pl_storage_read_padded(q->file, w->off, w->bytes, q->cluster_size, &why) == 0)
        return 0;
    w->usable = false;
    w->off = 0;
    c->blind = true;
    qcow2_found(c, QCOW2_UNREADABLE, "refcount block %" PRIu64 ": %s", index, why.msg);
    return 0;
}

static void compare_one(struct walk *w, uint64_t cluster)
{
    struct qcow2_check *c = w->c;
    const struct qcow2 *q = c->q;
    uint64_t i = cluster % q->refcounts_per_block;
    uint64_t stored = w->off ? qcow2_count_get(w->bytes, q->refcount_bits, i) : 0;
    uint64_t refs = qcow2_tally_get(&c->refs, cluster);
    enum qcow2_finding kind = stored > refs ? QCOW2_LEAK : QCOW2_ERROR;

    if (stored || refs)
        w->end = cluster + 1;
    if (stored == refs)
        return;
    if (kind == QCOW2_ERROR && !w->off)
        c->rebuild = true;
    if (refs > q->refcount_max)
        kind = QCOW2_ERROR_KEPT;
    /* What could not be followed may refer to the cluster: it stays. */
    if (kind == QCOW2_LEAK && c->blind && c->repair != PL_REPAIR_NONE)
        return;
    if (qcow2_found(c, kind, "cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64, cluster,
                    stored, refs) &&
        w->off) {
        qcow2_count_put(w->bytes, q->refcount_bits, i, refs);
        w->changed = true;
    }
}

/* The first cluster from `cluster` on that belongs to another block or another page of the tally.
 */
static uint64_t segment_end(const struct qcow2_check *c, uint64_t cluster)
{
    uint64_t block = pl_round_down(cluster, c->q->refcounts_per_block) + c->q->refcounts_per_block;

    return PL_MIN(block, pl_round_down(cluster, QCOW2_TALLY_PAGE) + QCOW2_TALLY_PAGE);
}

/* Whether nothing refers to a cluster of the segment, and nothing is counted for it. */
static bool is_empty(const struct qcow2_check *c, uint64_t cluster)
{
    uint64_t index = cluster / c->q->refcounts_per_block;
    uint64_t entry = index < c->q->refcount_table_size ? c->q->refcount_table[index] : 0;

    if (c->refs.page[cluster / QCOW2_TALLY_PAGE])
        return false;
    return !is_block(c, entry) || qcow2_in_hole(c->q, entry);
}

/* Counts behind the end of the file, `count` clusters, in the block of its last cluster: they would
 * be believed when the file grows. */
static void compare_behind(struct walk *w, uint64_t count)
{
    const uint64_t per_block = w->c->q->refcounts_per_block;
    const uint64_t end = pl_round_up(count, per_block), image_end = w->end;

    if (!count || w->index != (count - 1) / per_block || !w->off)
        return;
    for (uint64_t i = count; i < end; i++)
        compare_one(w, i);
    w->end = image_end;
}

static int compare_all(struct walk *w, uint64_t count, struct pl_err *e)
{
    struct qcow2_check *c = w->c;

    for (uint64_t cluster = 0, end; cluster < count; cluster = end) {
        end = PL_MIN(segment_end(c, cluster), count);
        if (is_empty(c, cluster))
            continue;
        if (pl_check_cancelled(c->report, e) < 0 ||
            load_block(w, cluster / c->q->refcounts_per_block, e) < 0)
            return -1;
        for (uint64_t i = cluster; w->usable && i < end; i++)
            compare_one(w, i);
    }
    compare_behind(w, count);
    return store_block(w, e);
}

int qcow2_compare(struct qcow2_check *c, struct pl_err *e)
{
    PL_FREE uint8_t *bytes = pl_buffer(c->q->cluster_size);
    struct walk w = { .c = c, .index = UINT64_MAX, .bytes = bytes };
    uint64_t count = pl_div_up(c->file_size, c->q->cluster_size);

    if (!bytes)
        return pl_fail(e, PL_E_NOMEM, "no memory for a refcount block");
    /* References may reach into a last cluster that the file does not have. */
    if (qcow2_tally_get(&c->refs, count))
        count++;
    if (compare_all(&w, count, e) < 0)
        return -1;
    c->result.image_end_offset = w.end << c->q->cluster_bits;
    return 0;
}
