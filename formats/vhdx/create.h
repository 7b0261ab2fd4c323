/* create.h - what a new VHDX image is to be. */
#ifndef PL_FORMATS_VHDX_CREATE_H
#define PL_FORMATS_VHDX_CREATE_H

#include "formats/vhdx/vhdx.h"

struct vhdx_request {
    uint64_t size; /* of the disk; whole sectors */
    uint64_t block_size, log_size;
    uint32_t sector_size, physical_sector_size;
    bool fixed, zero_state, has_parent;
    enum pl_prealloc prealloc;
};

/* Reads the options, with qemu-img's defaults, and checks them.  PL_E_INVALID, PL_E_LIMIT. */
int vhdx_read_request(const struct pl_options *options, uint64_t size, bool has_parent,
                      struct vhdx_request *request, struct pl_err *e) PL_CHECK;

/* Where the parts of a new file are: fills log, bat, metadata, and what the sizes imply, in *v;
 * *data is where blocks begin. */
int vhdx_plan(const struct vhdx_request *request, struct vhdx *v, uint64_t *data, struct pl_err *e)
    PL_CHECK;

#endif
