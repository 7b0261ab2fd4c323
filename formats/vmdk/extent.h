/* extent.h - one extent file of a VMDK disk: the contract between vmdk.c, which puts the extents of
 * a descriptor behind each other, and the kinds of extents (sparse.h, sesparse.h, stream_write.c;
 * flat and zero ones are in flat.c).
 *
 * The slots are those of pl_driver with addresses that count from the extent's start; what
 * core/driver.h says about threads, order and errors holds for each.  A null slot: the kind cannot
 * do that.  vmdk.c clips ranges to the extent before it calls. */
#ifndef PL_FORMATS_VMDK_EXTENT_H
#define PL_FORMATS_VMDK_EXTENT_H

#include "core/driver.h"

#define VMDK_SECTOR 512u

struct vmdk_extent_ops {
    const char *kind; /* for messages: "sparse", "flat" ... */
    int (*map)(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e);
    int (*allocate)(void *state, uint64_t at, uint64_t len, struct pl_place *out, struct pl_err *e);
    int (*allocate_packed)(void *state, uint64_t at, uint32_t packed_len, struct pl_place *out,
                           struct pl_err *e);
    int (*link)(void *state, const struct pl_place *place, struct pl_err *e);
    void (*cancel)(void *state, const struct pl_place *place);
    int (*zero)(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e);
    int (*discard)(void *state, uint64_t at, uint64_t len, struct pl_err *e);
    int (*forget)(void *state, uint64_t at, uint64_t len, struct pl_err *e);
    int (*flush)(void *state, struct pl_err *e);
    int (*finish)(void *state, struct pl_err *e);
    int (*resize)(void *state, uint64_t size, enum pl_prealloc prealloc, struct pl_err *e);
    int (*compact)(void *state, const struct pl_report *report, uint64_t *freed, struct pl_err *e);
    /* Adds to the counts of *result. */
    int (*check)(void *state, enum pl_repair repair, const struct pl_report *report,
                 struct pl_check_result *result, struct pl_err *e);
    /* What the extent does not say is the parent's from now on, or nobody's.  Null: it says all. */
    void (*set_parent)(void *state, bool has_parent);
    /* The header names this place of the descriptor from now on, on stable storage.  Both are bytes
     * in whole sectors.  Null: it cannot name one. */
    int (*place_descriptor)(void *state, uint64_t off, uint64_t len, struct pl_err *e);
    void (*close)(void *state); /* frees the state; the file is closed by vmdk.c */
};

/* What opening an extent is told. */
struct vmdk_extent_args {
    struct pl_storage *file; /* stays vmdk.c's */
    uint64_t size;           /* guest bytes by the extent line; 0: none, the file decides */
    bool writable, check_only;
    bool has_parent;      /* what the extent does not say is the parent's: zeros must be told */
    uint32_t cache_bytes; /* the most memory for cached tables; 0: the kind's default */
    const struct pl_report *report;
};

/* An extent in its disk.  The kind's open function fills all but start, file and owned. */
struct vmdk_extent {
    const struct vmdk_extent_ops *ops;
    void *state;
    uint64_t start, size;         /* guest bytes: where it begins in the disk, and how many */
    uint32_t granule;             /* as in pl_layer; 1: any */
    const struct pl_codec *codec; /* of packed units; null: none */
    uint32_t unit_len, packed_head, packed_align;
    bool packed_only;
    bool has_zeroed; /* it can say "zeros" over a parent without room for them */
    struct pl_storage *file;
    bool owned; /* the file is closed with the extent */
};

/* ---- sparse_open.c: hosted sparse extents (KDMV), compressed or not, and COWD ---- */
/* The embedded descriptor of a hosted sparse file: *text is malloc'ed, null-terminated, null where
 * the file has none (extents of a split disk).  PL_E_CORRUPT, PL_E_LIMIT. */
int vmdk_sparse_descriptor(struct pl_storage *file, char **text, struct pl_err *e) PL_CHECK;
/* Where that descriptor lies, to change it in place: *len is the room, 0: none. */
int vmdk_sparse_descriptor_place(struct pl_storage *file, uint64_t *off, uint64_t *len,
                                 struct pl_err *e) PL_CHECK;
/* Opens a hosted sparse or COWD extent by its magic. */
int vmdk_sparse_open(const struct vmdk_extent_args *args, struct vmdk_extent *out, struct pl_err *e)
    PL_CHECK;

/* What a new sparse extent is to be. */
struct vmdk_sparse_new {
    uint64_t size;          /* guest bytes */
    uint64_t grain_size;    /* bytes, a power of two from 8 KiB to 8 MiB (COWD: from 512) */
    const char *descriptor; /* embedded; null: none */
    bool zeroed_grain;      /* header version 2, zeroed-grain entries are used */
    bool cowd;              /* vmfsSparse instead of hosted sparse */
};
/* Writes an empty one (monolithicSparse, an extent of twoGbMaxExtentSparse, vmfsSparse). */
int vmdk_sparse_create(struct pl_storage *file, const struct vmdk_sparse_new *what,
                       struct pl_err *e) PL_CHECK;
/* Bytes of header, descriptor and tables of such a file. */
uint64_t vmdk_sparse_overhead(const struct vmdk_sparse_new *what);

/* ---- sesparse.c ---- */
/* Opens a seSparse extent, for reading only. */
int vmdk_sesparse_open(const struct vmdk_extent_args *args, struct vmdk_extent *out,
                       struct pl_err *e) PL_CHECK;

/* ---- stream_write.c: a new streamOptimized file ---- */
/* Writes the header and the descriptor, from the start of `file`, which may be a stream. */
int vmdk_stream_create(struct pl_storage *file, const struct vmdk_sparse_new *what,
                       struct pl_err *e) PL_CHECK;
/* Opens such a file, to which nothing was added yet, for its one writer; `size`, `grain_size` and
 * `descriptor` as at its creation. */
int vmdk_stream_open_new(struct pl_storage *file, const struct vmdk_sparse_new *what,
                         struct vmdk_extent *out, struct pl_err *e) PL_CHECK;

/* ---- flat.c ---- */
/* Bytes of `file` from `offset` on; file null: zeros. */
int vmdk_flat_open(const struct vmdk_extent_args *args, uint64_t offset, struct vmdk_extent *out,
                   struct pl_err *e) PL_CHECK;

#endif
