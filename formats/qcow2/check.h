/* check.h - one pass over an image that counts who refers to each cluster, and what it finds.
 *
 * Passes work on the file, not on the caches (which are written back before and emptied after a
 * repair). Everything is bounded by the file: an L2 table is walked once, however many L1 entries
 * point at it, and L1 tables together are not longer than the file. */
#ifndef PL_FORMATS_QCOW2_CHECK_H
#define PL_FORMATS_QCOW2_CHECK_H

#include "formats/qcow2/change.h"

/* A number for each cluster of the file; memory only for the parts of the file where one was set.
 */
struct qcow2_tally {
    uint64_t clusters; /* beyond that nothing is counted */
    uint32_t **page;   /* of QCOW2_TALLY_PAGE clusters; null: all 0 */
};
#define QCOW2_TALLY_PAGE 65536

/* What the tally `tables` says of a cluster, in its upper bits; the lower ones count the L1 entries
 * that say an L2 table lies there. */
#define QCOW2_TABLE_ACTIVE (UINT32_C(1) << 31)    /* the active L1 table is among them */
#define QCOW2_TABLE_BAD (UINT32_C(1) << 30)       /* it has entries that contradict the format */
#define QCOW2_TABLE_STRUCTURE (UINT32_C(1) << 29) /* header, L1 or snapshot table: no L2 table */
#define QCOW2_TABLE_WALKED (UINT32_C(1) << 28)
#define QCOW2_TABLE_FLAGS_SEEN (UINT32_C(1) << 27) /* its copied flags were checked */
#define QCOW2_TABLE_ALIEN (UINT32_C(1) << 26) /* bad, and something else is known to be there */
#define QCOW2_TABLE_COUNT (QCOW2_TABLE_ALIEN - 1)

enum qcow2_finding {
    QCOW2_LEAK,
    QCOW2_ERROR,
    QCOW2_ERROR_KEPT, /* repair cannot do anything about it */
    QCOW2_UNREADABLE, /* what follows from it is unknown */
};

struct qcow2_check {
    struct qcow2 *q;
    const struct pl_report *report;
    enum pl_repair repair;            /* what this pass mends */
    bool tell;                        /* findings become warnings */
    const struct qcow2_check *before; /* while mending: the pass that found what is to be mended */
    struct pl_check_result result;    /* of this pass */
    uint64_t file_size;
    struct qcow2_tally refs;   /* references found */
    struct qcow2_tally tables; /* see above */
    uint64_t l1_bytes;         /* of all L1 tables read so far */
    bool blind;                /* something that may refer to clusters could not be followed */
    bool rebuild;              /* the refcount structure cannot be mended in place */
    unsigned told;
};

/* ---- check_tally.c ---- */
/* An empty tally; its pages come as they are needed. */
int qcow2_tally_make(struct qcow2_tally *t, uint64_t clusters, struct pl_err *e) PL_CHECK;
/* Frees the pages. */
void qcow2_tally_free(struct qcow2_tally *t);
/* Null when there is no memory for its page, or the cluster is beyond the tally. */
uint32_t *qcow2_tally_at(struct qcow2_tally *t, uint64_t cluster);
/* 0 where nothing was set. */
uint32_t qcow2_tally_get(const struct qcow2_tally *t, uint64_t cluster);
/* Counts a finding and tells it.  True: this pass is to mend it. */
bool qcow2_found(struct qcow2_check *c, enum qcow2_finding kind, const char *fmt, ...)
    PL_PRINTF(3, 4);
/* Counts `times` references for each cluster that [off, off + len) touches; a range that leaves the
 * file by a cluster or more is a finding.  1: it was such a range, and is to be mended; 0; -1. */
int qcow2_count_range(struct qcow2_check *c, uint64_t off, uint64_t len, uint32_t times,
                      struct pl_err *e) PL_CHECK;
/* Notes that the image's own structure lies there. */
int qcow2_mark_structure(struct qcow2_check *c, uint64_t off, uint64_t len, struct pl_err *e)
    PL_CHECK;
/* Whether the whole cluster is a hole in the file: zeros. */
bool qcow2_in_hole(struct qcow2 *q, uint64_t off);

/* ---- check_walk.c ---- */
/* Counts everything but the refcount structure; mends entries. */
int qcow2_walk(struct qcow2_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->q->lock);

/* ---- check_entries.c ---- */
/* Walks the L2 table at `off`; `index` is the first guest cluster that it describes, where known
 * (the table is active). */
int qcow2_walk_table(struct qcow2_check *c, uint64_t off, uint64_t index, struct pl_err *e)
    PL_CHECK PL_NEEDS(&c->q->lock);
/* Compares the copied flags of the active tables with the counts of the file; mends them. */
int qcow2_check_copied(struct qcow2_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->q->lock);

/* ---- check_counts.c ---- */
/* Counts the refcount structure itself. */
int qcow2_walk_refcounts(struct qcow2_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->q->lock);
/* Compares references with the counts of the file; mends those that can be in place. */
int qcow2_compare(struct qcow2_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->q->lock);

/* ---- repair.c ---- */
/* Mends what the pass c->before found, as far as c->repair says. */
int qcow2_mend(struct qcow2_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->q->lock);

/* ---- rebuild.c ---- */
/* Writes the refcount structure anew, at the end of the file, from references that were counted
 * without the old one. */
int qcow2_rebuild(struct qcow2_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->q->lock);

/* ---- bitmap_store.c ---- */
/* Clears bits of the autoclear features, synced. */
int qcow2_clear_autoclear(struct qcow2 *q, uint64_t bits, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

#endif
