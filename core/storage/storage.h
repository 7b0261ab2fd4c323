/* storage.h - bytes at offsets: the only code that touches a file descriptor.
 *
 * Kinds: host file and block device (file.h), window (window.h), memory (memory.h), and in tests
 * flaky (flaky.h).  A read or write is whole or an error: nobody above loops over short counts.
 * Errors name the storage and the offset.
 *
 * Threads: read, write, zero, discard, copy and map may run from many threads at once, on ranges
 * that do not overlap where one of them changes bytes; size may be asked at any time.  resize and
 * close need the storage to themselves. */
#ifndef PL_CORE_STORAGE_STORAGE_H
#define PL_CORE_STORAGE_STORAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct pl_storage;

/* What a file is, however it was reached: equal pairs are the same file. */
struct pl_storage_id {
    uint64_t device;
    uint64_t inode;
};

/* How room is made ahead of data. */
enum pl_prealloc {
    PL_PREALLOC_OFF,      /* sparse */
    PL_PREALLOC_METADATA, /* the format's tables, not the data */
    PL_PREALLOC_FALLOC,   /* reserved blocks, unwritten */
    PL_PREALLOC_FULL,     /* zeros written */
};

/* One kind of storage.  A null slot means what its comment says. */
struct pl_storage_ops {
    const char *kind;
    int (*read)(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e);
    int (*write)(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                 struct pl_err *e); /* null: read-only kind */
    /* Makes a range read as zeros.  null: zeros are written. */
    int (*zero)(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e);
    /* The bytes are no longer needed.  null: nothing happens. */
    int (*discard)(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e);
    int (*resize)(struct pl_storage *st, uint64_t size, struct pl_err *e); /* null: fixed size */
    /* Reserves blocks for a range and extends the size over it.  null: not supported. */
    int (*reserve)(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e);
    /* Hint: writes to the range follow; make room in one go, without changing the size.  null:
     * ignored. */
    void (*reserve_ahead)(struct pl_storage *st, uint64_t off, uint64_t len);
    int (*flush)(struct pl_storage *st, struct pl_err *e); /* null: nothing to do */
    /* See pl_storage_replace.  null: not supported. */
    int (*replace)(struct pl_storage *st, const void *bytes, size_t len, bool *done,
                   struct pl_err *e);
    /* The run that starts at off: *hole and *len (>= 1, <= the len given).  null: all data. */
    int (*map)(struct pl_storage *st, uint64_t off, uint64_t *len, bool *hole, struct pl_err *e);
    uint64_t (*size)(struct pl_storage *st);
    /* Bytes that the host really keeps for it.  null: the size. */
    uint64_t (*disk_usage)(struct pl_storage *st);
    bool (*id)(struct pl_storage *st, struct pl_storage_id *id); /* null: it has none */
    /* Where a range lies in a descriptor, for copies inside the kernel; -1: nowhere.  null: -1. */
    int (*descriptor)(struct pl_storage *st, uint64_t off, uint64_t *fd_off);
    /* Hint: the range was written and is not read again soon; start writing it back and let the
     * page cache go behind it.  null: ignored. */
    void (*settle)(struct pl_storage *st, uint64_t off, uint64_t len);
    int (*close)(struct pl_storage *st, struct pl_err *e); /* releases st even when it fails */
};

struct pl_storage {
    const struct pl_storage_ops *ops; /* all members are set at open, then constant */
    char *name;                       /* for messages; owned */
    char *path;                       /* host path it was opened by, null if none; owned */
    uint32_t block;                   /* I/O in multiples of this is cheapest (>= 512) */
    bool writable;
    bool device;     /* a block device: the size is fixed, contents are never replaced by rename */
    bool sync_later; /* pl_storage_flush does nothing: whoever made the file syncs it as a whole */
    bool sequential; /* a pipe: writes only at ever growing offsets, no reads (or the reverse) */
};

/* Reads exactly len bytes.  PL_E_CORRUPT when the range is not inside the storage; PL_E_SYS. */
int pl_storage_read(struct pl_storage *st, uint64_t off, void *buf, size_t len, struct pl_err *e)
    PL_CHECK;

/* Like pl_storage_read, but what lies past the end reads as zeros. */
int pl_storage_read_padded(struct pl_storage *st, uint64_t off, void *buf, size_t len,
                           struct pl_err *e) PL_CHECK;

/* Writes exactly len bytes, growing the storage if it can grow. */
int pl_storage_write(struct pl_storage *st, uint64_t off, const void *buf, size_t len,
                     struct pl_err *e) PL_CHECK;

/* Makes [off, off + len) read as zeros, growing the storage over it; blocks may be given back. */
int pl_storage_zero(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e) PL_CHECK;

/* Tells the host that the bytes are not needed; they then read as anything. */
int pl_storage_discard(struct pl_storage *st, uint64_t off, uint64_t len, struct pl_err *e)
    PL_CHECK;

/* Cuts or grows (with zeros).  PL_E_UNSUPPORTED for a device or a window. */
int pl_storage_resize(struct pl_storage *st, uint64_t size, struct pl_err *e) PL_CHECK;

/* Makes sure that writes to the range do not run out of space: `how` FALLOC reserves, FULL writes
 * zeros; OFF and METADATA only grow the size.  Grows the size over the range; bytes within the old
 * size are kept by FALLOC and METADATA and OFF. */
int pl_storage_preallocate(struct pl_storage *st, uint64_t off, uint64_t len, enum pl_prealloc how,
                           struct pl_err *e) PL_CHECK;

/* Returns when everything written before is on stable storage; see sync_later. */
int pl_storage_flush(struct pl_storage *st, struct pl_err *e) PL_CHECK;

/* Puts `len` bytes in the place of all that st has, on stable storage: a crash leaves the old bytes
 * or the new ones.  A file is replaced by a new one, as output.h does it, whose storage st is from
 * then on, locked like the old one.  *done, also on failure: the new bytes are there, though
 * perhaps not on stable storage.  Needs st for itself.  PL_E_UNSUPPORTED for other kinds. */
int pl_storage_replace(struct pl_storage *st, const void *bytes, size_t len, bool *done,
                       struct pl_err *e) PL_CHECK;

/* Whether the run at off is a hole (reads as zeros, no blocks), and its length: 1 <= *len <= the
 * *len given.  off + *len must be inside the size. */
int pl_storage_map(struct pl_storage *st, uint64_t off, uint64_t *len, bool *hole, struct pl_err *e)
    PL_CHECK;

/* Copies bytes between two storages (or two ranges of one that do not overlap) in the cheapest way
 * there is: shared blocks (FICLONERANGE, when the ranges are aligned and the file system can), else
 * copy_file_range, else through a buffer.  Reads past the end of src count as zeros. */
int pl_storage_copy(struct pl_storage *dst, uint64_t dst_off, struct pl_storage *src,
                    uint64_t src_off, uint64_t len, struct pl_err *e) PL_CHECK;

/* Whether pl_storage_copy between them can share blocks instead of copying bytes. */
bool pl_storage_can_share(struct pl_storage *dst, struct pl_storage *src);

/* The size in bytes now. */
uint64_t pl_storage_size(struct pl_storage *st);

/* Bytes that the host keeps for it (blocks of a sparse file). */
uint64_t pl_storage_disk_usage(struct pl_storage *st);

/* Whether both are the same file or device. */
bool pl_storage_same(struct pl_storage *a, struct pl_storage *b);

/* See pl_storage_ops.reserve_ahead.  Room past the end is given back by pl_storage_resize. */
void pl_storage_reserve_ahead(struct pl_storage *st, uint64_t off, uint64_t len);

/* See pl_storage_ops.settle. */
void pl_storage_settle(struct pl_storage *st, uint64_t off, uint64_t len);

/* Closes and frees.  Fails where a delayed write failed; st is gone all the same.  Null is fine. */
int pl_storage_close(struct pl_storage *st, struct pl_err *e);

#endif
