/* drive.h - an image of any format in any storage, driven the way the core drives it: the driver
 * locates, this moves the bytes.  One thread at a time, but for drive_write on blocks that are
 * apart. */
#ifndef TESTS_SUPPORT_DRIVE_H
#define TESTS_SUPPORT_DRIVE_H

#include "core/driver.h"

struct drive {
    const struct pl_driver *driver;
    struct pl_storage *st; /* the image file; the caller's */
    const uint8_t *parent; /* what the parent has; null: no parent */
    uint64_t parent_len;
    const char *parent_identity; /* as the parent's layer would say it */
    bool read_only, check_only;
    uint32_t cache_bytes;
    const struct pl_report *report;
    struct pl_layer layer; /* while open */
};

/* Makes an image of `size` in d->st, over a parent if d->parent; `options` as for -o ("": none). */
int drive_create(struct drive *d, const char *options, uint64_t size, struct pl_err *e) PL_CHECK;

/* Opens, for writing unless read_only. */
int drive_open(struct drive *d, struct pl_err *e) PL_CHECK;

/* Closes without flushing. */
void drive_close(struct drive *d);

/* Any range, the parent's bytes too. */
int drive_read(struct drive *d, uint64_t at, void *buf, uint64_t len, struct pl_err *e) PL_CHECK;

/* Any range; what a granule has besides is kept. */
int drive_write(struct drive *d, uint64_t at, const void *buf, uint64_t len, struct pl_err *e)
    PL_CHECK;

/* Makes whole granules zeros as the core does: writes them where the driver cannot. */
int drive_zero(struct drive *d, uint64_t at, uint64_t len, bool unmap, struct pl_err *e) PL_CHECK;

/* Resizes, and tells the layer. */
int drive_resize(struct drive *d, uint64_t size, enum pl_prealloc how, struct pl_err *e) PL_CHECK;

/* Checks; findings go to *result. */
int drive_check(struct drive *d, enum pl_repair repair, struct pl_check_result *result,
                struct pl_err *e) PL_CHECK;

#endif
