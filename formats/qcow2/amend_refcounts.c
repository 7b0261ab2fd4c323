/* amend_refcounts.c - wider or narrower reference counts.
 *
 * A new refcount structure is written behind everything else (rebuild.c); the write of the header
 * that shows it says how wide its counts are. */
#include <inttypes.h>

#include "core/base/checked.h"
#include "formats/qcow2/amend.h"
#include "formats/qcow2/check.h"

/* Notes the counts of one slice.  *next: the first cluster behind it. */
static int note_slice(struct qcow2 *q, struct qcow2_check *c, uint64_t cluster, uint64_t most,
                      uint64_t *next, struct pl_err *e) PL_NEEDS(&q->lock)
{
    struct qcow2_counts counts;

    if (qcow2_counts(q, cluster, &counts, e) < 0)
        return -1;
    *next = cluster + counts.count;
    for (uint64_t i = 0; counts.slice && i < counts.count; i++) {
        const uint64_t count = qcow2_count_get(counts.slice, q->refcount_bits, counts.first + i);
        uint32_t *noted;

        if (!count)
            continue;
        if (count > most)
            return pl_fail(e, PL_E_LIMIT,
                           "cluster %" PRIu64 " has %" PRIu64 " references, but the most would be "
                           "%" PRIu64,
                           cluster + i, count, most);
        noted = qcow2_tally_at(&c->refs, cluster + i);
        if (!noted)
            return pl_fail(e, PL_E_NOMEM, "no memory to note the count of cluster %" PRIu64,
                           cluster + i);
        *noted = (uint32_t)count;
    }
    return 0;
}

/* The clusters of the old structure, which are free afterwards. */
static int leave_out(struct qcow2_check *c, uint64_t off, uint64_t count, struct pl_err *e)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t *noted = qcow2_tally_at(&c->refs, (off >> c->q->cluster_bits) + i);

        if (!noted || *noted != 1)
            return pl_fail(e, PL_E_CORRUPT,
                           "cluster %" PRIu64 " of the refcount structure is not counted once",
                           (off >> c->q->cluster_bits) + i);
        *noted = 0;
    }
    return 0;
}

static int note_counts(struct qcow2 *q, struct qcow2_check *c, uint64_t most,
                       const struct pl_report *report, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t next = 0;

    for (uint64_t cluster = 0; cluster < c->refs.clusters; cluster = next) {
        pl_progress(report, cluster, c->refs.clusters);
        if (pl_check_cancelled(report, e) < 0 || note_slice(q, c, cluster, most, &next, e) < 0)
            return -1;
    }
    if (leave_out(c, q->header.refcount_table_offset, q->header.refcount_table_clusters, e) < 0)
        return -1;
    for (uint32_t i = 0; i < q->refcount_table_size; i++)
        if (q->refcount_table[i] && leave_out(c, q->refcount_table[i], 1, e) < 0)
            return -1;
    return 0;
}

static int make_new(struct qcow2 *q, struct qcow2_check *c, uint32_t order,
                    const struct pl_report *report, struct pl_err *e)
    PL_NEEDS(&q->lock) PL_UNCHECKED;
static int make_new(struct qcow2 *q, struct qcow2_check *c, uint32_t order,
                    const struct pl_report *report, struct pl_err *e)
{
    const uint64_t most = PL_MIN(UINT64_MAX >> (64 - (1u << order)), UINT32_MAX);
    const uint32_t old = q->header.refcount_order;

    if (qcow2_tally_make(&c->refs, pl_div_up(c->file_size, q->cluster_size) + 1, e) < 0 ||
        note_counts(q, c, most, report, e) < 0)
        return -1;
    q->header.refcount_order = order;
    if (qcow2_derive(q, e) == 0 && qcow2_rebuild(c, e) == 0)
        return 0;
    q->header.refcount_order = q->broken ? order : old;
    if (qcow2_derive(q, NULL) < 0)
        q->broken = true;
    return -1;
}

int qcow2_set_refcount_order(struct qcow2 *q, uint32_t order, const struct pl_report *report,
                             struct pl_err *e)
{
    struct qcow2_check c = { .q = q, .file_size = pl_storage_size(q->file) };
    int r;

    if (order == q->header.refcount_order)
        return 0;
    r = make_new(q, &c, order, report, e);
    qcow2_tally_free(&c.refs);
    q->free_hint = 0;
    return r < 0 ? pl_within(e, "refcount_bits=%u", 1u << order) : 0;
}
