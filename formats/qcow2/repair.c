/* repair.c - mends what a check found, in an order in which every step by itself makes the image no
 * worse: entries that cannot be right are cut, then counts follow the references, then the copied
 * flags follow the counts.
 *
 * Where something that may refer to clusters could not be followed ("blind"), counts are raised but
 * never lowered, and nothing is rebuilt. */
#include <inttypes.h>

#include "core/base/checked.h"
#include "formats/qcow2/check.h"

/* Everything in memory that is a copy of what the pass wrote. */
static int reload(struct qcow2 *q, struct pl_err *e) PL_NEEDS(&q->lock)
{
    if (qcow2_write_back(q, true, e) < 0)
        return -1;
    pl_table_cache_drop(q->l2_cache, 0, PL_OFFSET_MAX);
    pl_table_cache_drop(q->refcount_cache, 0, PL_OFFSET_MAX);
    q->free_hint = 0;
    q->packed_next = 0;
    return 0;
}

/* A new refcount structure: the references are counted again, without the old one and without a
 * word. */
static int rebuild(struct qcow2_check *c, struct pl_err *e) PL_NEEDS(&c->q->lock) PL_UNCHECKED;
static int rebuild(struct qcow2_check *c, struct pl_err *e)
{
    struct qcow2_check fresh = { .q = c->q, .file_size = pl_storage_size(c->q->file) };
    int r;

    if (c->tell)
        pl_warn(c->report, "Rebuilding refcount structure");
    if (qcow2_tally_make(&fresh.refs, c->refs.clusters, e) < 0 ||
        qcow2_tally_make(&fresh.tables, c->refs.clusters, e) < 0) {
        qcow2_tally_free(&fresh.refs);
        return -1;
    }
    r = qcow2_walk(&fresh, e);
    if (r == 0 && fresh.blind)
        r = pl_fail(e, PL_E_CORRUPT, "not all tables can be read any more");
    if (r == 0)
        r = qcow2_rebuild(&fresh, e);
    qcow2_tally_free(&fresh.refs);
    qcow2_tally_free(&fresh.tables);
    return r;
}

int qcow2_mend(struct qcow2_check *c, struct pl_err *e)
{
    bool all = c->repair == PL_REPAIR_ALL, unusable = c->before->rebuild;

    if (qcow2_clear_autoclear(c->q, ~QCOW2_AUTOCLEAR_KNOWN, e) < 0 || qcow2_walk(c, e) < 0 ||
        reload(c->q, e) < 0 || qcow2_walk_refcounts(c, e) < 0)
        return -1;
    if (!unusable || c->blind) {
        if (qcow2_compare(c, e) < 0)
            return -1;
    } else if (all && rebuild(c, e) < 0) {
        return -1;
    }
    if (reload(c->q, e) < 0)
        return -1;
    if (!all)
        return 0;
    return qcow2_check_copied(c, e) < 0 ? -1 : reload(c->q, e);
}
