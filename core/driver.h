/* driver.h - the contract of a disk image format.
 *
 * A driver knows one on-disk layout and nothing else: it turns guest addresses into places (map),
 * makes room for guest addresses (allocate, link), and keeps its own tables sound.  It moves no
 * guest bytes: the core reads and writes at the places that the driver names.  It opens no path:
 * files come as storages, further ones through the callbacks in the arguments.  A slot left null is
 * a clear "not supported by this format".
 *
 * Threads: map may run from many threads at once and beside every mutating call.  The mutating
 * calls allocate, link, cancel, zero and discard may run from many threads at once; the core makes
 * sure that no two touch the same granule at the same time, nor the same cluster where
 * layer.cluster_size is larger.  flush may run beside all of those.  All other calls have the layer
 * to themselves.  The driver's own lock keeps its tables consistent.
 *
 * Promise 1 (flushed data survives): when flush has returned, everything linked, zeroed and
 * discarded before it is found again after any crash; at every other instant the file holds the old
 * or the new state of each granule, with at most leaked space.  To that end link, not allocate,
 * changes what map shows, and the core calls link only after the data were written. */
#ifndef PL_CORE_DRIVER_H
#define PL_CORE_DRIVER_H

#include "core/base/facts.h"
#include "core/base/options.h"
#include "core/base/report.h"
#include "core/base/image_types.h"
#include "core/storage/storage.h"

struct pl_codec; /* core/codec/codec.h */

enum pl_state {
    PL_PARENT, /* this layer says nothing: look in the parent; zeros without one */
    PL_ZERO,   /* zeros, whatever the parent has */
    PL_DATA,   /* plain bytes in a storage */
    PL_PACKED, /* inside one compressed unit */
};

/* Where the bytes of one run of guest addresses are.  The core does the I/O. */
struct pl_extent {
    enum pl_state state;
    bool allocated;               /* ZERO only: room is kept for it at st + off */
    uint64_t len;                 /* guest bytes in this run, >= 1 */
    struct pl_storage *st;        /* DATA, PACKED, allocated ZERO: the file ... */
    uint64_t off;                 /* ... and the byte offset in it */
    const struct pl_codec *codec; /* PACKED: what unpacks it ... */
    uint64_t unit_at;             /* ... the guest address at which the unit starts ... */
    uint32_t unit_len;   /* ... the guest bytes it unpacks to (may pass the disk's end) ... */
    uint32_t packed_len; /* ... and the bytes it occupies at most at off */
};

/* The most bytes that a format writes in front of each compressed unit. */
#define PL_PACKED_HEAD_MAX 16

/* Room for a run of guest addresses, as made by allocate. */
struct pl_place {
    uint64_t at, len;      /* guest range, contiguous in st */
    struct pl_storage *st; /* where its bytes go ... */
    uint64_t off;          /* ... and the byte offset there */
    bool fresh; /* not visible until linked; the core writes all of [at, at + len), which is granule
                    aligned (or ends at the disk's end), before it links.  Not fresh: the
                    map points here already, any part may be overwritten, link is not called. */
    bool zeroed;         /* fresh room that reads as zeros already */
    uint32_t packed_len; /* room for one compressed unit of that many bytes, 0: plain */
    uint8_t head[PL_PACKED_HEAD_MAX]; /* compressed unit: layer.packed_head bytes that the core
                                         writes at off, in front of the unit */
    uint64_t token;                   /* the driver's own */
};

/* What opening a file gave: set by the driver's open, read by the core, constant afterwards but for
 * size, which resize changes. */
struct pl_layer {
    void *state;      /* the driver's own */
    uint64_t size;    /* virtual size in bytes */
    uint32_t granule; /* allocate, zero, discard take ranges aligned to this (the end of the disk
                         excepted) */
    uint32_t cluster_size;        /* what `info` shows; 0: the format has none */
    const struct pl_codec *codec; /* of the packed units it can hold; null: none */
    uint32_t unit_len;            /* guest bytes of a packed unit */
    uint32_t packed_head;         /* bytes in front of each packed unit that are the format's own */
    uint32_t packed_align; /* head and unit together fill a multiple of this, with zeros; 0: 1 */
    bool packed_only;    /* it holds nothing but packed units, also where packing makes them larger;
                          they come once, in guest order */
    char *parent_name;   /* as the file says it; null: none.  Owned by the layer, freed by the core,
                          as are the next four */
    char *parent_format; /* null: not said */
    char *identity;      /* what children know it by: words separated by blanks, such as
                              "cid:0123abcd uuid:..."; null: nothing */
    char *parent_identity; /* words, one of which the parent must have among its own; null: any
                              parent.  With it and no parent_name the parent is looked for in the
                              folder */
    char *parent_revision; /* a word that the parent has too unless somebody wrote to it after the
                              child was made, which earns a warning; null: not known */
    bool bitmaps;          /* it can hold persistent bitmaps */
    bool plain;            /* the file's first bytes are the disk's, address for address */
    bool sparse_new;       /* what was never written reads as zeros (or falls to the parent) */
};

struct pl_create_args {
    struct pl_storage *file;          /* empty, or a device; stays the core's */
    uint64_t size;                    /* virtual size in bytes */
    struct pl_parent_ref parent;      /* its name null: none */
    const struct pl_options *options; /* -o; unknown keys are the core's to refuse */
    bool reproducible;                /* identifiers and times derived, not random */
    const struct pl_report *report;
    /* Makes a further file (a data file) that this one names; the storage is the driver's to close.
     */
    int (*create_file)(const struct pl_create_args *args, const char *name, struct pl_storage **out,
                       struct pl_err *e);
    void *ctx; /* of create_file */
};

/* Makes files beside an open image, for a resize that needs more of them. */
struct pl_file_maker {
    /* A new file in the image's folder, locked, under a plain name; the storage is the driver's.
     * PL_E_EXISTS: nothing is replaced. */
    int (*create)(const struct pl_file_maker *maker, const char *name, struct pl_storage **out,
                  struct pl_err *e);
    /* Takes the name away again; `made` is still open. */
    void (*remove)(const struct pl_file_maker *maker, const char *name, struct pl_storage *made);
    void *ctx; /* of both */
};

struct pl_open_args {
    struct pl_storage *file; /* stays the core's */
    bool writable;           /* repairs that the format wants before writing are made by open */
    bool check_only;         /* for `check`: tolerate what repair can mend (dirty, corrupt bits) */
    bool describe_only;      /* for `info`: files that this one names and that are not there are
                                facts; the disk's content is not asked for */
    bool keeps_content;   /* what is written leaves the disk as it reads, or no child can tell: the
                           identity that children know the file by stays */
    bool same_disk;       /* what is written leaves the disk as it reads: records of changes to it
                             stay right */
    const char *snapshot; /* open this internal snapshot (id or name) read-only instead; null */
    uint32_t cache_bytes; /* the most memory for cached tables; 0: the driver's default */
    const struct pl_report *report; /* warnings; may be null */
    /* The driver's create made the file a moment ago, with these arguments, and it is opened for
     * its one writer: what cannot be read back (a stream) is known from them.  null: any other
     * file. */
    const struct pl_create_args *created;
    /* Opens a further file that this one names, by the opener's policy.  The storage is the
     * driver's. */
    int (*open_file)(const struct pl_open_args *args, const char *name, struct pl_storage **out,
                     struct pl_err *e);
    void *ctx;                         /* of open_file */
    const struct pl_file_maker *maker; /* lives as long as the image; null: none can be made */
};

/* What is known of a file whose format is not. */
struct pl_probe {
    const uint8_t *head; /* its first bytes ... */
    size_t len;          /* ... and how many: 4096, or the whole file */
    const uint8_t *tail; /* its last 512 bytes; null: it is shorter, or they are not known */
    uint64_t file_size;
    const char *name; /* the last part of its path; "": it has none */
};

struct pl_driver {
    const char *name;                            /* as in -f and -O */
    const char *const *aliases;                  /* other names, null-terminated; or null */
    const char *spec;                            /* the specification it follows */
    const struct pl_option_help *create_options; /* what -o takes; ends with a row of nulls */
    bool streams; /* with some options at least a new image is written front to back: into a pipe */
    uint32_t block_size; /* bytes of a new image's blocks unless -o block_size= says otherwise; 0:
                            -o cluster_size= is what says it, and 64 KiB are the default */

    /* Whether the file is of this format, by its magic: a broken file is still of its format.
     * null: only when asked for by name. */
    bool (*probe)(const struct pl_probe *probe);
    /* Whether a file that no probe claims could be of this format all the same: it is raw then, and
     * the user is told.  null: never. */
    bool (*perhaps)(const struct pl_probe *probe);
    int (*open)(const struct pl_open_args *args, struct pl_layer *layer, struct pl_err *e);
    /* Where guest [at, at + len) is: one run, clipped to len, at its start.  Inside the size. */
    int (*map)(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e);
    /* Frees the state and closes what open opened.  Writes nothing: flush and seal come before. */
    void (*close)(void *state);

    /* ---- writing ---- */
    /* Room for a prefix of [at, at + len), plain bytes.  Fresh room needs at and len granule
     * aligned (or at + len the size); any range that is all in place already needs no alignment.
     * Consecutive calls get consecutive room where the layout allows it. */
    int (*allocate)(void *state, uint64_t at, uint64_t len, struct pl_place *out, struct pl_err *e);
    /* Room for one compressed unit that starts at `at`.  Consecutive calls get adjacent room. */
    int (*allocate_packed)(void *state, uint64_t at, uint32_t packed_len, struct pl_place *out,
                           struct pl_err *e);
    /* The bytes are written: from now on map shows this place for [at, at + len). */
    int (*link)(void *state, const struct pl_place *place, struct pl_err *e);
    /* The bytes could not be written: gives fresh room back. */
    void (*cancel)(void *state, const struct pl_place *place);
    /* Makes a granule aligned range read as zeros.  `unmap`: give room back, else keep what there
     * is. 1: not possible here, write zeros instead; 0; -1. */
    int (*zero)(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e);
    /* Gives room back; the range then reads as zeros (never as the parent's data).  May skip parts.
     */
    int (*discard)(void *state, uint64_t at, uint64_t len, struct pl_err *e);
    /* The layer says nothing any more of a granule aligned range (the disk's end excepted): it
     * falls through to the parent, and its room is free.  null: not possible here. */
    int (*forget)(void *state, uint64_t at, uint64_t len, struct pl_err *e);
    int (*flush)(void *state, struct pl_err *e);
    /* The last flush of an image that is being closed is over: marks the file as closed properly.
     * null: the format has no such mark. */
    int (*seal)(void *state, struct pl_err *e);
    /* Nothing more is written to a new image: writes what stands behind the data (the tables and
     * the footer of a stream).  Before the last flush.  null: nothing does. */
    int (*finish)(void *state, struct pl_err *e);

    /* ---- the whole image ---- */
    int (*create)(const struct pl_create_args *args, struct pl_err *e);
    /* Grows, or shrinks when `shrink` says that losing data is meant.  The core updates
     * layer->size. */
    int (*resize)(void *state, uint64_t size, bool shrink, enum pl_prealloc prealloc,
                  struct pl_err *e);
    /* Makes the file shorter by moving what lies behind free room into it; the disk's content
     * stays, at every instant.  *freed: the bytes that the file lost. */
    int (*compact)(void *state, const struct pl_report *report, uint64_t *freed, struct pl_err *e);
    /* The file names another parent from now on, or none; no guest address changes its place.  On
     * stable storage when it returns; at every instant the file names the old one or the new one.
     * What the layer says nothing of must read the same below both: the core saw to it, or the user
     * answers for it.  The core updates the texts of the layer, and writes no more to one that had
     * no parent until it was opened again: its granule may be larger over one. */
    int (*set_parent)(void *state, const struct pl_parent_ref *parent, struct pl_err *e);
    /* Changes options of the format in place.  `options` has keys of amend_options alone. */
    int (*amend)(void *state, const struct pl_options *options, const struct pl_report *report,
                 struct pl_err *e);
    const struct pl_option_help *amend_options; /* what amend takes; ends with a row of nulls */
    int (*check)(void *state, enum pl_repair repair, const struct pl_report *report,
                 struct pl_check_result *result, struct pl_err *e);
    /* Bytes a new image of `size` with `data_bytes` (whole clusters) of data would take. */
    int (*measure)(const struct pl_measure_args *args, struct pl_measure_result *result,
                   struct pl_err *e);
    /* What `info` shows under "format-specific": members appended to `facts`. */
    int (*info)(void *state, struct pl_fact *facts, struct pl_err *e);
    /* Internal snapshots, oldest first; *list is malloc'ed, texts inside one block: see
     * pl_snapshots. */
    int (*snapshots)(void *state, struct pl_snapshot **list, size_t *count, struct pl_err *e);
    /* The disk's state is kept under a name; of `facts` all but id and disk_size count.
     * PL_E_EXISTS.  Each of the four flushes what was written before, is on stable storage when it
     * returns and leaves the old or the new state at every instant, with at most leaked space. */
    int (*snapshot_create)(void *state, const struct pl_snapshot *facts, struct pl_err *e);
    /* The disk reads as the snapshot, by id or name, does; *size is its size from now on. */
    int (*snapshot_apply)(void *state, const char *name, uint64_t *size, struct pl_err *e);
    int (*snapshot_delete)(void *state, const char *name, struct pl_err *e);
    int (*snapshot_rename)(void *state, const char *name, const char *new_name, struct pl_err *e);
    /* Bytes that the host keeps for all files of the image.  null: those of its one file. */
    uint64_t (*disk_usage)(void *state);
    /* Flags of the opened file for `info`. */
    void (*flags)(void *state, struct pl_image_flags *flags);

    /* ---- persistent bitmaps ---- */
    int (*bitmaps)(void *state, struct pl_bitmap **list, size_t *count, struct pl_err *e);
    /* One bit a granule of the bitmap, lowest bit of byte 0 first; bits has (size/granularity+7)/8
     * bytes. */
    int (*bitmap_load)(void *state, const char *name, uint8_t *bits, size_t len, struct pl_err *e);
    int (*bitmap_store)(void *state, const struct pl_bitmap *bitmap, const uint8_t *bits,
                        size_t len, struct pl_err *e);
    int (*bitmap_remove)(void *state, const char *name, struct pl_err *e);
};

/* The formats, in the order in which they are probed; null-terminated.  formats/registry.c */
extern const struct pl_driver *const pl_drivers[];

#endif
