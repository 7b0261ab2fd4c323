/* check.h - what the parts of `check` share. */
#ifndef PL_FORMATS_VHD_CHECK_H
#define PL_FORMATS_VHD_CHECK_H

#include "formats/vhd/change.h"

/* The most findings that are told one by one. */
#define TOLD_MAX 1000

struct vhd_check {
    struct vhd *v;
    const struct pl_report *report;
    bool tell;     /* findings are warnings of the report too ... */
    unsigned told; /* ... and so many were, up to a limit */
    struct pl_check_result result;
};

/* ---- repair.c ---- */
/* Mends every corruption: entries that point nowhere are given up, blocks in one place get places
 * of their own, footers and header are written anew. */
int vhd_mend(struct vhd_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->v->lock);

#endif
