/* amend.h - what the parts that change the options of an image offer each other.  Each change
 * appears by one write of the header. */
#ifndef PL_FORMATS_QCOW2_AMEND_H
#define PL_FORMATS_QCOW2_AMEND_H

#include "formats/qcow2/qcow2.h"

/* ---- amend_refcounts.c ---- */
/* Gives the reference counts of an image that was settled 2^order bits.  PL_E_LIMIT: a count does
 * not fit. */
int qcow2_set_refcount_order(struct qcow2 *q, uint32_t order, const struct pl_report *report,
                             struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);

/* ---- amend_compat.c ---- */
/* Version 3 from version 2. */
int qcow2_upgrade(struct qcow2 *q, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* Whether version 2 can hold everything there is, once counts have 16 bits.  PL_E_UNSUPPORTED. */
int qcow2_check_downgrade(struct qcow2 *q, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* Says "zeros" in the way of version 2: no cluster, or one of zeros over a parent.  Takes the lock
 * itself. */
int qcow2_expand_zeros(struct qcow2 *q, const struct pl_report *report, struct pl_err *e) PL_CHECK;
/* Version 2 from version 3, after both. */
int qcow2_downgrade(struct qcow2 *q, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);

#endif
