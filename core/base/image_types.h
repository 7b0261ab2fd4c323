/* image_types.h - plain values that drivers fill in and callers of the library read. */
#ifndef PL_CORE_BASE_IMAGE_TYPES_H
#define PL_CORE_BASE_IMAGE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/options.h"

/* An internal snapshot. */
struct pl_snapshot {
    char id[64];            /* cut where longer */
    char name[256];         /* cut where longer */
    uint64_t vm_state_size; /* bytes */
    uint64_t disk_size;     /* virtual size when it was taken */
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec;
    uint64_t icount; /* UINT64_MAX: not recorded */
};

/* A persistent dirty bitmap. */
struct pl_bitmap {
    char name[1024];
    uint64_t granularity; /* bytes a bit */
    bool in_use;          /* it was not written back: its content cannot be trusted */
    bool enabled;         /* tracks writes ("auto") */
};

/* What a file says of its parent. */
struct pl_parent_ref {
    const char *name;     /* null: it has none */
    const char *format;   /* null: not said */
    const char *identity; /* the words that the parent is known by; null: not known */
};

struct pl_image_flags {
    bool encrypted, dirty, corrupt, compressed;
};

/* What is between an image and the parent that it names. */
enum pl_link {
    PL_LINK_NONE,       /* it names none: the chain ends here */
    PL_LINK_SOUND,      /* the parent is there and has the identity wanted, if one is */
    PL_LINK_CHANGED,    /* it is the parent, but was written to after the image was made from it */
    PL_LINK_MISMATCH,   /* what is there has another identity */
    PL_LINK_MISSING,    /* there is nothing */
    PL_LINK_REFUSED,    /* the policy for names in images forbids to look: allowed_dirs */
    PL_LINK_LOOP,       /* it is younger than the image, or the image itself */
    PL_LINK_TOO_DEEP,   /* the chain has as many images already as are opened */
    PL_LINK_UNREADABLE, /* it is there and cannot be opened */
};

enum pl_repair { PL_REPAIR_NONE, PL_REPAIR_LEAKS, PL_REPAIR_ALL };

/* Findings of `check`; counts are of clusters unless said. */
struct pl_check_result {
    uint64_t corruptions, leaks;             /* left over after repair */
    uint64_t corruptions_fixed, leaks_fixed; /* mended in this run */
    uint64_t check_errors;                   /* places that could not be read */
    uint64_t image_end_offset;               /* end of the last cluster in use */
    uint64_t total_clusters, allocated_clusters, fragmented_clusters,
        compressed_clusters; /* guest */
    bool has_allocation;     /* the four counts above are known */
};

struct pl_measure_args {
    uint64_t size;                   /* virtual size */
    uint64_t data_bytes;             /* of whole clusters that hold data, at most size */
    bool with_bitmaps;               /* the source can have persistent bitmaps ... */
    const struct pl_bitmap *bitmaps; /* ... and these are its */
    size_t bitmap_count;
    bool has_parent;
    const struct pl_options *options;
};

struct pl_measure_result {
    uint64_t required;        /* bytes of the file right after a sparse convert */
    uint64_t fully_allocated; /* bytes when every cluster holds data */
    uint64_t bitmaps;         /* bytes that persistent bitmaps add; 0: none */
    bool has_bitmaps;
};

#endif
