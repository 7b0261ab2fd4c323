/* vmdk_rig.h - a sparse VMDK extent in any storage, driven the way vmdk.c and the core drive it:
 * the extent locates, the rig moves the bytes.  One thread at a time, but for extent_write on
 * granules that are apart. */
#ifndef TESTS_SUPPORT_VMDK_RIG_H
#define TESTS_SUPPORT_VMDK_RIG_H

#include "formats/vmdk/extent.h"

struct extent_rig {
    struct pl_storage *st; /* the caller's */
    const uint8_t *parent; /* what the parent has; null: no parent */
    uint64_t parent_len;
    uint64_t size; /* by the extent line; 0: the header's */
    bool read_only, check_only;
    uint32_t cache_bytes;
    const struct pl_report *report;
    struct vmdk_extent x; /* while open */
};

/* Opens, for writing unless read_only. */
int extent_open(struct extent_rig *rig, struct pl_err *e) PL_CHECK;

/* Closes without flushing. */
void extent_close(struct extent_rig *rig);

/* Any range of the extent. */
int extent_read(struct extent_rig *rig, uint64_t at, void *buf, uint64_t len, struct pl_err *e)
    PL_CHECK;

/* Any range; what a granule has besides is kept. */
int extent_write(struct extent_rig *rig, uint64_t at, const void *buf, uint64_t len,
                 struct pl_err *e) PL_CHECK;

/* Makes granules zeros as the core does: writes them where the extent cannot. */
int extent_zero(struct extent_rig *rig, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
    PL_CHECK;

/* Checks; findings go to *result. */
int extent_check(struct extent_rig *rig, enum pl_repair repair, struct pl_check_result *result,
                 struct pl_err *e) PL_CHECK;

#endif
