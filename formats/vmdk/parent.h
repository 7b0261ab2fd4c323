/* parent.h - what a descriptor says of a disk's parent. */
#ifndef PL_FORMATS_VMDK_PARENT_H
#define PL_FORMATS_VMDK_PARENT_H

#include "core/base/uuid.h"
#include "formats/vmdk/vmdk.h"

/* What the parent is known by. */
struct vmdk_parent_id {
    uint32_t cid;            /* VMDK_CID_NONE: there is no parent */
    char uuid[PL_UUID_TEXT]; /* "": it has none */
};

/* Reads the identity.  PL_E_INVALID for a parent that is no VMDK disk or has no CID, and for a name
 * that a descriptor cannot hold. */
int vmdk_read_parent(const struct pl_parent_ref *parent, struct vmdk_parent_id *id,
                     struct pl_err *e) PL_CHECK;

/* That a descriptor, where nothing is escaped, can hold the name between quotes.  PL_E_INVALID. */
int vmdk_check_name(const char *name, struct pl_err *e) PL_CHECK;

/* The driver's set_parent. */
int vmdk_set_parent(void *state, const struct pl_parent_ref *parent, struct pl_err *e);

#endif
