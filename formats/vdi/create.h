/* create.h - what -o asks for, for create.c and measure.c. */
#ifndef PL_FORMATS_VDI_CREATE_H
#define PL_FORMATS_VDI_CREATE_H

#include "core/driver.h"
#include "formats/vdi/layout.h"

struct vdi_request {
    bool fixed;
    enum pl_prealloc prealloc;
    uint32_t block_size;
    const char *uuid; /* as written; null: not given */
};

/* Reads the options and checks them against each other. */
int vdi_read_request(const struct pl_options *options, bool has_parent, struct vdi_request *request,
                     struct pl_err *e) PL_CHECK;

/* Sizes and offsets of a new image.  PL_E_LIMIT when its map does not fit. */
int vdi_plan(const struct vdi_request *request, uint64_t size, struct vdi_header *h,
             struct pl_err *e) PL_CHECK;

#endif
