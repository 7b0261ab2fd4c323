/* check.h - what looking for defects and mending them share. */
#ifndef PL_FORMATS_VHDX_CHECK_H
#define PL_FORMATS_VHDX_CHECK_H

#include "formats/vhdx/vhdx.h"

/* One pass over the image. */
struct vhdx_check {
    struct vhdx *v;
    const struct pl_report *report;
    bool tell;               /* findings become warnings */
    bool mend;               /* defects are mended instead of counted */
    struct vhdx_tally tally; /* who owns what */
    uint64_t next;           /* where the block at hand would continue the one before */
    struct pl_check_result result;
};

/* Mends an entry whose place cannot be right: the block has no data any more. */
int vhdx_mend_place(struct vhdx_check *c, const struct vhdx_item *item, struct pl_err *e)
    PL_CHECK PL_NEEDS(&c->v->lock);
/* Gives a block that lies on another one a copy of its own. */
int vhdx_mend_overlap(struct vhdx_check *c, const struct vhdx_item *item, struct pl_err *e)
    PL_CHECK PL_NEEDS(&c->v->lock);
/* Writes damaged copies of header and region table anew. */
int vhdx_mend_copies(struct vhdx *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Makes parts of the file that nobody owns holes, and cuts its end. */
int vhdx_mend_leaks(struct vhdx *v, const struct vhdx_tally *tally, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* How many MiB that nobody owns take room: those with bytes that are not zero. */
int vhdx_count_leaks(struct vhdx *v, const struct vhdx_tally *tally, uint64_t *leaks,
                     struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);

#endif
