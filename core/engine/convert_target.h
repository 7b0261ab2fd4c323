/* convert_target.h - the target of a convert: a new image, or one that exists. */
#ifndef PL_CORE_ENGINE_CONVERT_TARGET_H
#define PL_CORE_ENGINE_CONVERT_TARGET_H

#include "core/engine/convert.h"
#include "core/engine/disk.h"
#include "core/engine/new_image.h"

struct pl_convert_target {
    const char *path;
    const struct pl_convert_options *options;
    uint64_t size;               /* of the source's disk, in bytes */
    struct pl_new_image created; /* a new image, or ... */
    struct pl_image *existing;   /* ... this one */
    struct pl_image *img;        /* whichever it is, open */
};

/* Creates or opens it for writing.  Refuses one that is an input, and one that is too small. */
int pl_convert_open_target(struct pl_convert_target *target, const struct pl_disk *source,
                           const char *path, const struct pl_convert_options *options,
                           struct pl_err *e) PL_CHECK;

/* Everything is written: makes target->img show what the file says now. */
int pl_convert_reread_target(struct pl_convert_target *target, struct pl_err *e) PL_CHECK;

/* Closes it, and gives a new image its name.  On failure a new image is removed. */
int pl_convert_finish_target(struct pl_convert_target *target, struct pl_err *e) PL_CHECK;

/* Removes a new image; closes an existing one. */
void pl_convert_drop_target(struct pl_convert_target *target);

#endif
