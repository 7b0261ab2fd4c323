/* shadow.h - changes of the whole image that one write of the header shows.
 *
 * From begin to commit the file stays as it is.  Refcount blocks that change are copied to free
 * clusters first and so is the refcount table; whatever else changes is written by the caller to
 * clusters from qcow2_shadow_allocate.  Only clusters are handed out that are free before the
 * change and during it.  Then one write of the header's first sector, with a sync before and after
 * it, shows all of it: a crash leaves the old state or the new one, each with exact counts, and the
 * clusters of the other one are free in it.
 *
 * No L2 table may be changed through the cache in between.  Memory: the refcount table twice. */
#ifndef PL_FORMATS_QCOW2_SHADOW_H
#define PL_FORMATS_QCOW2_SHADOW_H

#include "formats/qcow2/qcow2.h"

/* What a change will write besides refcount blocks and refcount table. */
struct qcow2_shadow_need {
    uint64_t tables;     /* clusters that are asked for one by one, at most */
    uint64_t contiguous; /* clusters that are asked for in runs, at most */
};

/* The bytes that such a change takes at most, before it frees any. */
uint64_t qcow2_shadow_room(const struct qcow2 *q, struct qcow2_shadow_need need);

/* Begins a change of an image whose caches are clean (qcow2_settle).  PL_E_NO_SPACE, PL_E_LIMIT,
 * PL_E_NOMEM. */
int qcow2_shadow_begin(struct qcow2 *q, struct qcow2_shadow_need need, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

/* `count` neighbouring clusters, referenced once. */
int qcow2_shadow_allocate(struct qcow2 *q, uint64_t count, uint64_t *off, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

/* A cluster that holds a table loses a reference. */
int qcow2_shadow_drop_table(struct qcow2 *q, uint64_t off, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

/* Shows the change: `header` is the new one but for the refcount table.  Ends it, whatever happens;
 * nothing has changed on failure, unless q->broken says otherwise. */
int qcow2_shadow_commit(struct qcow2 *q, const struct qcow2_header *header, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

/* Ends the change: all is as before begin. */
void qcow2_shadow_abort(struct qcow2 *q) PL_NEEDS(&q->lock);

/* Before a count of the cluster changes: gives it a block of its own that the file does not show
 * yet.  Outside a change it does nothing. */
int qcow2_own_block(struct qcow2 *q, uint64_t cluster, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

#endif
