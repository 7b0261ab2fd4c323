/* rewrite.h - puts another text in the place of a disk's descriptor, so that a crash leaves the old
 * one or the new one. */
#ifndef PL_FORMATS_VMDK_REWRITE_H
#define PL_FORMATS_VMDK_REWRITE_H

#include "formats/vmdk/vmdk.h"

/* Makes *changed the descriptor on stable storage, and that of v, which the old one is freed for:
 * *changed is empty then.  *done, also on failure: that is so, although the file may be left in
 * need of vmdk_bring_home.  Needs the disk for itself.  PL_E_UNSUPPORTED where there is no room for
 * both texts. */
int vmdk_rewrite(struct vmdk *v, struct vmdk_descriptor *changed, bool *done, struct pl_err *e)
    PL_CHECK;

/* Whether a crash left the descriptor away from its place. */
int vmdk_is_away(const struct vmdk *v, bool *away, struct pl_err *e) PL_CHECK;

/* Moves an embedded descriptor that a crash left away from its place back there.  Does nothing for
 * any other. */
int vmdk_bring_home(struct vmdk *v, struct pl_err *e) PL_CHECK;

#endif
