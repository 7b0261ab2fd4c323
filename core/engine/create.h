/* create.h - new images, and what they will cost. */
#ifndef PL_CORE_ENGINE_CREATE_H
#define PL_CORE_ENGINE_CREATE_H

#include "core/base/options.h"
#include "core/base/report.h"
#include "core/graph/image.h"

struct pl_create_options {
    const char *format;               /* null: raw */
    uint64_t size;                    /* bytes; rounded up to 512 as the formats need it */
    bool size_given;                  /* false: the parent's size */
    const struct pl_options *options; /* -o; may be null */
    const char *parent;               /* name of the parent as the image will say it; null: none */
    const char *parent_format;        /* null: found out, and stored */
    bool unsafe_parent; /* qemu-img's -u: the parent need not exist (size is needed then) */
    bool reproducible;  /* identifiers derived, not random */
    const char *const *allowed_dirs; /* see pl_open_options */
    const struct pl_report *report;
};

/* Makes a new image at `path`, replacing an older file only when the new one is complete.  A name
 * of a parent is taken relative to the folder of `path`.  PL_E_INVALID (options), PL_E_NOT_FOUND
 * (parent), PL_E_LOCKED, PL_E_NO_SPACE, PL_E_SYS. */
PL_API int pl_create(const char *path, const struct pl_create_options *options, struct pl_err *e)
    PL_CHECK;

/* Bytes that a new image in `format` would take: of `size` (img null), or of a copy of img. */
PL_API int pl_measure(struct pl_image *img, const char *format, uint64_t size,
                      const struct pl_options *options, struct pl_measure_result *result,
                      struct pl_err *e) PL_CHECK;

/* One row for each format, and for each kind of package. */
struct pl_format_info {
    const char *name;
    const char *spec;
    bool is_package; /* it holds disks, as an appliance does, and is none */
    bool can_write;  /* in place */
    bool can_convert_to, can_create, can_resize, can_check, has_snapshots;
    bool can_stream; /* a new image can go into a pipe; perhaps with certain options only */
    const struct pl_option_help *create_options; /* ends with a row of nulls; may be null */
    const struct pl_option_help *amend_options;  /* the same, for pl_amend */
};

/* The index-th format; false past the last. */
PL_API bool pl_format_at(size_t index, struct pl_format_info *info);

/* The format of that name or alias.  PL_E_INVALID lists the names there are. */
PL_API int pl_format_find(const char *name, struct pl_format_info *info, struct pl_err *e) PL_CHECK;

#endif
