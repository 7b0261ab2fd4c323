/* rig.h - an image of any format in any storage, driven the way the core drives it: the driver
 * locates, the rig moves the bytes.  One thread at a time, but for rig_write on granules that are
 * apart. */
#ifndef TESTS_SUPPORT_RIG_H
#define TESTS_SUPPORT_RIG_H

#include "core/driver.h"
#include "tests/support/programs.h"

extern const struct pl_driver pl_qcow, pl_qcow2, pl_raw, pl_vdi, pl_vhd, pl_vhdx, pl_vmdk;

struct rig {
    const struct pl_driver *driver;
    struct pl_storage *st;                       /* the image file; the caller's */
    struct pl_storage *data;                     /* external data file, null: none; the caller's */
    const uint8_t *parent;                       /* what the parent has; null: no parent */
    uint64_t parent_len;                         /* behind it the parent has zeros */
    const char *parent_format, *parent_identity; /* for rig_create; null: not said */
    uint64_t extent_size;                        /* for extent_driver alone */
    bool read_only, check_only;
    uint32_t cache_bytes;
    const struct pl_report *report;
    struct pl_layer layer; /* while open */
};

/* Makes an image of `size` in rig->st; `options` as for -o ("" for none), with a parent named
 * "parent" if rig->parent.  Leaves it closed. */
int rig_create(struct rig *rig, const char *options, uint64_t size, struct pl_err *e) PL_CHECK;

/* Opens, for writing unless read_only. */
int rig_open(struct rig *rig, struct pl_err *e) PL_CHECK;

/* Closes without flushing, as a crash does. */
void rig_close(struct rig *rig);

int rig_flush(struct rig *rig, struct pl_err *e) PL_CHECK;

/* Flushes, seals where the format has that, closes. */
int rig_finish(struct rig *rig, struct pl_err *e) PL_CHECK;

/* Any range, the parent's bytes too. */
int rig_read(struct rig *rig, uint64_t at, void *buf, uint64_t len, struct pl_err *e) PL_CHECK;

/* Any range; what a granule has besides is kept. */
int rig_write(struct rig *rig, uint64_t at, const void *buf, uint64_t len, struct pl_err *e)
    PL_CHECK;

/* Makes granules zeros as the core does: writes them where the format cannot. */
int rig_zero(struct rig *rig, uint64_t at, uint64_t len, bool unmap, struct pl_err *e) PL_CHECK;

/* Whole units, packed as well as they can be; those that cannot are written plain. */
int rig_write_packed(struct rig *rig, uint64_t at, const void *buf, uint64_t len, struct pl_err *e)
    PL_CHECK;

/* Resizes, shrinking too, and tells the layer. */
int rig_resize(struct rig *rig, uint64_t size, enum pl_prealloc how, struct pl_err *e) PL_CHECK;

/* Checks, in a pass of its own; findings go to *result. */
int rig_check(struct rig *rig, enum pl_repair repair, struct pl_check_result *result,
              struct pl_err *e) PL_CHECK;

/* Frees the texts of a layer, as the core does. */
void rig_free_texts(struct pl_layer *layer);

/* Writes the bytes of a storage to a host file. */
int rig_dump(struct pl_storage *st, const char *path, struct pl_err *e) PL_CHECK;

/* Puts a copy of a host file in memory; it may grow up to `limit`. */
int rig_load(const char *path, size_t limit, struct pl_storage **out, struct pl_err *e) PL_CHECK;

/* Takes an internal snapshot of the closed qcow2 image in *st, by means of qemu-img.  *st is
 * replaced. */
int rig_take_snapshot(struct pl_storage **st, const char *name, size_t limit, struct pl_err *e)
    PL_CHECK;

/* Ends the running cmocka test as failed, with the error's text, if result < 0. */
void must(int result, const struct pl_err *e);

/* A small generator of numbers: the same seed, the same numbers. */
uint64_t rig_random(uint64_t *state);

/* One of them from 0 to n - 1; 0 if n is 0. */
uint64_t rig_below(uint64_t *state, uint64_t n);

#endif
