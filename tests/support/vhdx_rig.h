/* vhdx_rig.h - a VHDX image in any storage, driven the way the core drives it: the driver locates,
 * the rig moves the bytes.  One thread at a time, but for writes to blocks that are apart. */
#ifndef TESTS_SUPPORT_VHDX_RIG_H
#define TESTS_SUPPORT_VHDX_RIG_H

#include "core/driver.h"

extern const struct pl_driver pl_vhdx;

/* What the parent of a differencing disk is known by in these tests. */
#define VHDX_RIG_PARENT "uuid:83ed0ec3-24c8-49a6-a959-5e4bf1288bfb"

struct vhdx_rig {
    struct pl_storage *st; /* the image file; the caller's */
    const uint8_t *parent; /* what the parent has; null: no parent */
    uint64_t parent_len;
    bool read_only, check_only;
    uint32_t cache_bytes;
    const struct pl_report *report;
    struct pl_layer layer; /* while open */
};

/* Makes an image of `size` in rig->st, over a parent if rig->parent; `options` as for -o. */
int vhdx_rig_create(struct vhdx_rig *rig, const char *options, uint64_t size, struct pl_err *e)
    PL_CHECK;

/* Opens, for writing unless read_only. */
int vhdx_rig_open(struct vhdx_rig *rig, struct pl_err *e) PL_CHECK;

/* Closes without flushing, as a crash does. */
void vhdx_rig_close(struct vhdx_rig *rig);

/* Flushes, seals, closes. */
int vhdx_rig_finish(struct vhdx_rig *rig, struct pl_err *e) PL_CHECK;

/* Any range, the parent's bytes too. */
int vhdx_rig_read(struct vhdx_rig *rig, uint64_t at, void *buf, uint64_t len, struct pl_err *e)
    PL_CHECK;

/* Any range; what a granule has besides is kept. */
int vhdx_rig_write(struct vhdx_rig *rig, uint64_t at, const void *buf, uint64_t len,
                   struct pl_err *e) PL_CHECK;

/* Makes whole granules zeros as the core does: writes them where the driver cannot. */
int vhdx_rig_zero(struct vhdx_rig *rig, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
    PL_CHECK;

/* Resizes, and tells the layer. */
int vhdx_rig_resize(struct vhdx_rig *rig, uint64_t size, struct pl_err *e) PL_CHECK;

/* Checks; findings go to *result. */
int vhdx_rig_check(struct vhdx_rig *rig, enum pl_repair repair, struct pl_check_result *result,
                   struct pl_err *e) PL_CHECK;

#endif
