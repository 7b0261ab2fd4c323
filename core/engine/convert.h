/* convert.h - copies the content of images into a new image or onto an existing one. */
#ifndef PL_CORE_ENGINE_CONVERT_H
#define PL_CORE_ENGINE_CONVERT_H

#include "core/base/options.h"
#include "core/base/report.h"
#include "core/graph/image.h"

/* A part of a disk, as far as the disk goes. */
struct pl_part {
    uint64_t skip; /* bytes in front of it */
    uint64_t len;
};

struct pl_convert_options {
    const char *format;               /* of the new image; null: raw */
    const struct pl_options *options; /* -o for creating it, and compression_level; may be null */
    bool compress;                    /* -c */
    const char *parent;        /* -B: the new image is a child of this one: what both read alike is
                                         not copied; null: none */
    const char *parent_format; /* -F */
    uint64_t sparse; /* -S: zeros of at least this many bytes become sparse; 0: none, the new image
                               is fully allocated.  PL_SPARSE_DEFAULT for qemu-img's 4096 */
    bool existing;   /* -n: the target exists; its content is overwritten in place */
    const char *target_format; /* of an existing target; null: found out */
    bool target_is_zero;       /* the existing target reads as zeros: zeros need not be written */
    bool salvage;              /* --salvage: unreadable parts are read as zeros, with a warning */
    bool bitmaps;              /* --bitmaps: copy the persistent bitmaps of the (one) source */
    bool skip_broken_bitmaps;
    bool
        unsynced; /* qemu-img's -t unsafe: leave it to the host when a new image reaches the disk */
    bool no_share; /* never share blocks with the source (qemu-img's default: copy-range off) */
    /* Read the result again and compare.  Compressed units that are taken over as they are get
     * unpacked only then. */
    bool verify; /* read the result again and compare; compressed units that are taken over as
                    they are get unpacked only then */
    const char *checksum; /* digest of the guest's bytes: an algorithm's name; null: none */
    bool reproducible;
    unsigned workers;           /* threads; 0: one a processor */
    uint64_t rate_limit;        /* bytes a second; 0: none */
    const struct pl_part *part; /* of the sources that is copied; null: all */
    const char *const *allowed_dirs;
    const struct pl_report *report;
};

#define PL_SPARSE_DEFAULT 4096u

struct pl_convert_result {
    uint64_t size;      /* virtual size of the target */
    uint64_t copied;    /* bytes of data that were moved */
    uint64_t shared;    /* of them: shared by the host or copied inside the kernel */
    uint64_t passed;    /* of them: compressed units taken over as they are */
    uint64_t zero;      /* bytes known or found to be zero */
    char checksum[130]; /* hexadecimal; empty: not asked for */
};

/* Copies `count` sources (opened by the caller, one behind the other) to `path`.  The target
 * appears under its name only when complete; "-" writes raw to standard output.  A target that is
 * one of the sources or one of their parents is refused (PL_E_INVALID).  Memory: a fixed number of
 * buffers a worker. */
PL_API int pl_convert(struct pl_image *const *sources, size_t count, const char *path,
                      const struct pl_convert_options *options, struct pl_convert_result *result,
                      struct pl_err *e) PL_CHECK;

/* The digest of the guest's bytes of an image; hex gets at most 129 characters. */
PL_API int pl_checksum(struct pl_image *img, const char *algorithm, char hex[static 130],
                       const struct pl_report *report, struct pl_err *e) PL_CHECK;

#endif
