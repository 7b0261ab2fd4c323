/* create.h - what was asked of a new VMDK disk, and what follows from it. */
#ifndef PL_FORMATS_VMDK_CREATE_H
#define PL_FORMATS_VMDK_CREATE_H

#include "formats/vmdk/extent.h"

enum vmdk_subformat {
    VMDK_MONOLITHIC_SPARSE,
    VMDK_MONOLITHIC_FLAT,
    VMDK_TWO_GB_SPARSE,
    VMDK_TWO_GB_FLAT,
    VMDK_STREAM_OPTIMIZED,
    VMDK_VMFS_DISK,
    VMDK_VMFS_SPARSE,
};

struct vmdk_request {
    enum vmdk_subformat subformat;
    const char *adapter, *hw_version, *tools_version; /* as the descriptor says them */
    bool zeroed_grain;
    uint64_t grain_size; /* bytes */
    enum pl_prealloc prealloc;
    uint64_t size;        /* bytes, whole sectors */
    uint64_t extent_size; /* of all extents but the last */
    uint64_t extents;
};

/* What -o takes; ends with a row of nulls. */
extern const struct pl_option_help vmdk_create_options[];

/* Reads and checks the options for a disk of `size`.  Texts are the options' own. */
int vmdk_read_request(const struct pl_options *options, uint64_t size, bool has_parent,
                      struct vmdk_request *request, struct pl_err *e) PL_CHECK;

/* Whether the extents are bytes without tables. */
bool vmdk_is_flat(enum vmdk_subformat subformat);

/* Whether the descriptor is inside the one file. */
bool vmdk_is_embedded(enum vmdk_subformat subformat);

/* The name of the file of extent `index`, the caller's to free; null: no memory. */
char *vmdk_extent_name(const struct vmdk_request *r, const struct pl_storage *file, uint64_t index);

/* Bytes of extent `index`. */
uint64_t vmdk_extent_size(const struct vmdk_request *r, uint64_t index);

/* What the file of a split disk has at most; VMware's limit. */
#define VMDK_SPLIT_MAX (2047 * PL_MIB)

/* Makes an empty file extent `index`: its size and its tables.  create.c */
int vmdk_fill_extent(struct pl_storage *file, const struct vmdk_request *r, uint64_t index,
                     struct pl_err *e) PL_CHECK;

/* ---- new_descriptor.c ---- */
/* The text of a new descriptor, malloc'ed.  Random numbers in it differ from call to call, their
 * length does not. */
int vmdk_new_descriptor(const struct vmdk_request *r, const struct pl_create_args *args,
                        char **text, struct pl_err *e) PL_CHECK;

/* ATA's limit: a larger IDE disk is addressed by sector numbers. */
#define VMDK_IDE_CYLINDERS_MAX 16383u

/* Cylinders, heads and sectors as VMware and VirtualBox choose them for that adapter. */
struct vmdk_geometry {
    uint64_t cylinders;
    unsigned heads, sectors;
};
/* That of a disk of `size` bytes. */
struct vmdk_geometry vmdk_geometry_for(const char *adapter, uint64_t size);

/* ---- streams ---- */
/* Whether these arguments ask for a streamOptimized file. */
bool vmdk_creates_stream(const struct pl_create_args *args);
/* What vmdk_create wrote for these arguments, which are for a stream; *text is what->descriptor,
 * the caller's to free.  Its random numbers are other ones. */
int vmdk_describe_stream(const struct pl_create_args *args, struct vmdk_sparse_new *what,
                         char **text, struct pl_err *e) PL_CHECK;

#endif
