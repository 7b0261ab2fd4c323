/* image.h - an open disk image: guest bytes, over its chain of parents.
 *
 * Threads: any number of threads may read and map; reads, writes, zeroing and discards may run at
 * once, the image orders those that overlap.  pl_close, pl_resize, pl_check and what changes
 * snapshots need the image to themselves. */
#ifndef PL_CORE_GRAPH_IMAGE_H
#define PL_CORE_GRAPH_IMAGE_H

#include "core/base/facts.h"
#include "core/base/report.h"
#include "core/base/image_types.h"
#include "core/graph/undo.h"

struct pl_image;

struct pl_open_options {
    const char *format; /* of the image or of the package around it; null: found out from the
                             content */
    const char *disk;   /* which disk of a package: its number from 1, its id or the name of its
                             file; null: the only one */
    const char *authorities; /* file of certificates (PEM) whose owners may have signed a package;
                                null: signatures are not verified */
    const char *snapshot;    /* an internal snapshot, by id or name, read-only; null: the disk */
    bool writable;
    bool no_parent;   /* what the parent would say reads as zeros; the parent is not opened */
    bool force_share; /* read-only, without locks: the content may change meanwhile (qemu-img -U) */
    bool check_only;  /* open what `check` can work on, however damaged */
    bool describe_only; /* open what can be described, though files that it names are missing */
    bool keeps_content; /* see pl_open_args of core/driver.h: children go on knowing the image */
    bool same_disk;     /* the same: bitmaps stay right */
    const char *const *allowed_dirs; /* folders that parents and data files may come from, besides
                                        the image's own; null-terminated, or null */
    struct pl_keep_undo *undo;       /* writable: what changes can be taken back; null: it cannot */
    const struct pl_report *report;  /* warnings while opening; may be null */
};

/* Opens the image at `path` and its parents.  options may be null: read-only, format found out.  A
 * file of no known format is raw.  Parents are opened read-only; a chain that comes back to itself
 * or is deeper than 200 is refused.  PL_E_NOT_FOUND, PL_E_LOCKED, PL_E_FORMAT, PL_E_CORRUPT,
 * PL_E_POLICY, PL_E_UNSUPPORTED, PL_E_SYS. */
PL_API int pl_open(const char *path, const struct pl_open_options *options, struct pl_image **out,
                   struct pl_err *e) PL_CHECK;

/* Compares what the image was read from with the digests of the package that it lies in.  0: they
 * agree, or the image is in no package; 1: the package has none; -1: PL_E_MISMATCH names the file.
 * May run beside reads. */
PL_API int pl_verify_package(struct pl_image *img, const struct pl_report *report, struct pl_err *e)
    PL_CHECK;

/* What a package says of itself: *facts, the caller's to free, and the name of its kind.  Of the
 * options format, allowed_dirs, force_share, authorities and report count.  1: the file is no
 * package. */
PL_API int pl_package_facts(const char *path, const struct pl_open_options *options,
                            const char **format, struct pl_fact **facts, struct pl_err *e) PL_CHECK;

/* Flushes if it was opened for writing, closes and frees, whatever happens.  Null is fine. */
PL_API int pl_close(struct pl_image *img, struct pl_err *e);

/* The virtual size in bytes. */
PL_API uint64_t pl_size(const struct pl_image *img);

/* The name of the format, e.g. "qcow2". */
PL_API const char *pl_format(const struct pl_image *img);

/* Whether the format was found out from the content (true) or given (false). */
PL_API bool pl_format_guessed(const struct pl_image *img);

/* Of a file that was taken for raw: the format that it could have all the same if the user said so;
 * null: none. */
PL_API const char *pl_format_perhaps(const struct pl_image *img);

/* The path as it was opened. */
PL_API const char *pl_path(const struct pl_image *img);

/* The parent in the chain, or null.  It belongs to img. */
PL_API struct pl_image *pl_parent(const struct pl_image *img);

/* The parent's name as the file says it; null: none said. */
PL_API const char *pl_parent_name(const struct pl_image *img);
/* The same for its format. */
PL_API const char *pl_parent_format(const struct pl_image *img);

/* Bytes of the format's cluster (block, grain), 0: it has none. */
PL_API uint32_t pl_cluster_size(const struct pl_image *img);

/* Bytes that the host keeps for this file, not for its parents. */
PL_API uint64_t pl_disk_usage(const struct pl_image *img);
/* The length of the file itself. */
PL_API uint64_t pl_file_size(const struct pl_image *img);

/* What kind of image it is: dirty, corrupt, encrypted. */
PL_API struct pl_image_flags pl_flags(const struct pl_image *img);

/* Format-specific facts, the caller's to free.  PL_E_NOMEM. */
PL_API int pl_format_facts(struct pl_image *img, struct pl_fact **facts, struct pl_err *e) PL_CHECK;

/* One run of guest addresses in one state, seen through the whole chain. */
struct pl_run {
    uint64_t at, len; /* guest range */
    unsigned depth;   /* 0: this image, 1: its parent ... the layer that decides */
    bool present;     /* some layer says something about it */
    bool zero;        /* reads as zeros */
    bool data;        /* has bytes of its own in a file */
    bool compressed;
    bool has_offset;  /* they are plain at ... */
    uint64_t offset;  /* ... this byte offset ... */
    const char *file; /* ... of this file (valid as long as the image) */
};

/* The run that starts at `at`, no longer than len; neighbours of the same kind that follow each
 * other in their file are one run.  PL_E_LIMIT outside the disk. */
PL_API int pl_map(struct pl_image *img, uint64_t at, uint64_t len, struct pl_run *run,
                  struct pl_err *e) PL_CHECK;

/* Reads len bytes at guest address `at`.  PL_E_LIMIT outside the disk, PL_E_CORRUPT, PL_E_SYS; buf
 * is then undefined. */
PL_API int pl_read(struct pl_image *img, uint64_t at, void *buf, size_t len, struct pl_err *e)
    PL_CHECK;

/* Writes; what is overwritten in part keeps its other bytes, from the parent too.  After a failure
 * inside the image's own tables it refuses further writes until it is opened again. */
PL_API int pl_write(struct pl_image *img, uint64_t at, const void *buf, size_t len,
                    struct pl_err *e) PL_CHECK;

/* Makes a range read as zeros, cheaply where the format can; `unmap` gives the room back. */
PL_API int pl_zero(struct pl_image *img, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
    PL_CHECK;

/* Gives room back; whole clusters in the range read as zeros afterwards, the rest is unchanged. */
PL_API int pl_discard(struct pl_image *img, uint64_t at, uint64_t len, struct pl_err *e) PL_CHECK;

/* Whole granules in the range say nothing any more: they read as the parent does, or as zeros
 * without one, and their room is free.  The rest of the range is unchanged.  PL_E_UNSUPPORTED. */
PL_API int pl_forget(struct pl_image *img, uint64_t at, uint64_t len, struct pl_err *e) PL_CHECK;

/* Returns when everything written before survives a crash. */
PL_API int pl_flush(struct pl_image *img, struct pl_err *e) PL_CHECK;

/* Grows (new space reads as zeros), or shrinks if `shrink`.  PL_E_INVALID when it would shrink
 * without. */
PL_API int pl_resize(struct pl_image *img, uint64_t size, bool shrink, unsigned prealloc,
                     struct pl_err *e) PL_CHECK;

/* The file names another parent from now on; parent->name null: none.  What was written before is
 * on stable storage then, and the name with it; at every instant the file names the old one or the
 * new one.  No byte is moved: what the image says nothing of must read the same below both, or the
 * user answers for it (pl_rebase sees to that).  img itself goes on reading from the parent that it
 * was opened with.  Needs the image to itself.  PL_E_UNSUPPORTED, PL_E_LIMIT (a name too long). */
PL_API int pl_set_parent(struct pl_image *img, const struct pl_parent_ref *parent, struct pl_err *e)
    PL_CHECK;

/* Changes options of the format, as -o of `platter amend` gives them; pl_format_find
 * lists them.  All is checked before anything changes; what was changed before a failure stays
 * so, and the disk reads the same at every instant.  What the image says of its format besides
 * pl_format_facts is read again when it is opened the next time.  Needs the image to itself.
 * PL_E_INVALID, PL_E_UNSUPPORTED, PL_E_LIMIT, PL_E_CANCELLED. */
PL_API int pl_amend(struct pl_image *img, const struct pl_options *options,
                    const struct pl_report *report, struct pl_err *e) PL_CHECK;

/* Looks for defects, and mends them if asked (image opened writable).  A defect is no failure: see
 * *result. */
PL_API int pl_check(struct pl_image *img, enum pl_repair repair, const struct pl_report *report,
                    struct pl_check_result *result, struct pl_err *e) PL_CHECK;

/* Internal snapshots, oldest first; *list is the caller's to free.  Formats without have none. */
PL_API int pl_snapshots(struct pl_image *img, struct pl_snapshot **list, size_t *count,
                        struct pl_err *e) PL_CHECK;

/* The four that follow change them: of an image open for writing, of which they flush what was
 * written before.  They need the image to themselves.  When one returns its work is on stable
 * storage; at every instant the file has the state before or the one after it.  A snapshot is named
 * by its id, else by its name.  PL_E_UNSUPPORTED: the format, or this image, has none;
 * PL_E_NOT_FOUND; PL_E_CORRUPT: the image must be repaired first; PL_E_NO_SPACE. */

/* Keeps the disk as it is under facts->name.  What facts say of the virtual machine is recorded; id
 * and disk_size are chosen, and the date where it is 0.  PL_E_EXISTS: there is one of that name;
 * PL_E_INVALID: no name, or one of more than 255 bytes; PL_E_LIMIT: the reference counts or the
 * table of snapshots are at their limit. */
PL_API int pl_snapshot_create(struct pl_image *img, const struct pl_snapshot *facts,
                              struct pl_err *e) PL_CHECK;

/* The disk reads as it did when the snapshot was taken, and has the size of then; what was written
 * since is lost.  Bitmaps that record writes become inconsistent, with a warning. */
PL_API int pl_snapshot_apply(struct pl_image *img, const char *name, struct pl_err *e) PL_CHECK;

/* Removes it and gives its room back; disk and other snapshots stay. */
PL_API int pl_snapshot_delete(struct pl_image *img, const char *name, struct pl_err *e) PL_CHECK;

/* Gives it another name; its id stays.  PL_E_EXISTS: another one has it. */
PL_API int pl_snapshot_rename(struct pl_image *img, const char *name, const char *new_name,
                              struct pl_err *e) PL_CHECK;

/* Persistent bitmaps; *list is the caller's to free. */
PL_API int pl_bitmaps(struct pl_image *img, struct pl_bitmap **list, size_t *count,
                      struct pl_err *e) PL_CHECK;

#endif
