/* change.h - what the parts that change a qcow2 file offer each other.
 *
 * Rules that all of them follow, besides the order on disk in qcow2.h:
 *   - references first: a cluster is referenced before an entry points at it in memory;
 *   - entry first: an old cluster is put on the pending list only after the entry that pointed at
 * it was changed in memory, because any later call on a cache may write back and free what is
 * pending;
 *   - a failure between two such steps leaks space; one between two entries of one call sets
 * q->broken. */
#ifndef PL_FORMATS_QCOW2_CHANGE_H
#define PL_FORMATS_QCOW2_CHANGE_H

#include "formats/qcow2/qcow2.h"

/* More pending runs than this are freed before the next change: a bound on memory. */
#define QCOW2_PENDING_MAX 32768

/* The most clusters of new room that one call to allocate looks for. */
#define QCOW2_NEW_ROOM_MAX 512

/* Whether guest clusters are kept in an external data file: no references, guest offset = place. */
static inline bool qcow2_has_data_file(const struct qcow2 *q)
{
    return q->header.incompatible_features & QCOW2_INCOMPAT_DATA_FILE;
}

/* Whether that file must be readable as a raw disk on its own. */
static inline bool qcow2_data_file_raw(const struct qcow2 *q)
{
    return q->header.autoclear_features & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
}

/* Whether the L2 entries are extended ones. */
static inline bool qcow2_extended(const struct qcow2 *q)
{
    return q->subclusters > 1;
}

/* ---- refcount.c ---- */
/* Reads and writes the i-th count of `bits` bits in the bytes of a refcount block. */
uint64_t qcow2_count_get(const uint8_t *bytes, uint32_t bits, uint64_t i);
/* Sets it. */
void qcow2_count_put(uint8_t *bytes, uint32_t bits, uint64_t i, uint64_t count);
/* Byte offset of the refcount block for a cluster, 0: there is none.  PL_E_CORRUPT: a broken entry.
 */
int qcow2_refcount_block(const struct qcow2 *q, uint64_t cluster, uint64_t *off, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);
/* The counts from one cluster to the end of its slice. */
struct qcow2_counts {
    uint8_t *slice; /* valid until the next call on the refcount cache; null: no refcount block */
    uint64_t off;   /* of the slice in the file */
    uint64_t first; /* index in the slice of the cluster's count */
    uint64_t count;
};
/* Looks them up. */
int qcow2_counts(struct qcow2 *q, uint64_t cluster, struct qcow2_counts *out, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);
/* One more reference for each of `count` clusters from byte offset `off` on, which are in use.
 * PL_E_LIMIT: a count is as high as it can be; PL_E_CORRUPT: one is 0. */
int qcow2_share(struct qcow2 *q, uint64_t off, uint64_t count, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

/* ---- free_clusters.c ---- */
/* A run of clusters without references. */
struct qcow2_run {
    uint64_t first,
        count; /* cluster numbers; count 0: `first` is free but has no refcount block yet */
};
/* The first run from cluster `from` on: up to `want` clusters that have refcount blocks, or with
 * `contiguous` exactly `want`, refcount blocks or not. */
int qcow2_find_free(struct qcow2 *q, uint64_t from, uint64_t want, bool contiguous,
                    struct qcow2_run *run, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* PL_E_CORRUPT when bytes that are about to be overwritten are header, L1, refcount or snapshot
 * table. */
int qcow2_guard_metadata(const struct qcow2 *q, uint64_t off, uint64_t len, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);
/* Makes room for n more pending runs, so that qcow2_free_later cannot fail n times. */
int qcow2_pending_room(struct qcow2 *q, size_t n, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);

/* ---- refcount_table.c ---- */
/* Makes sure that all of [first, first + count) has refcount blocks, none of them inside it.  1:
 * blocks were made or the table has grown, look for room again; 0: nothing was missing. */
int qcow2_cover(struct qcow2 *q, uint64_t first, uint64_t count, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);
/* Makes the missing refcount block for free cluster `cluster`, in that very cluster. */
int qcow2_add_own_block(struct qcow2 *q, uint64_t cluster, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

/* Gives up the refcount block in the last cluster in use when it counts nothing but itself.  1: it
 * did; 0. */
int qcow2_drop_own_block(struct qcow2 *q, uint64_t cluster, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

/* ---- flush.c ---- */
/* Stops a change of an image that is read-only or broken. */
int qcow2_check_writable(const struct qcow2 *q, struct pl_err *e) PL_CHECK;
/* The same for a change of the disk's content; does what comes before the first one. */
int qcow2_begin_change(struct qcow2 *q, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* Writes everything back, in order, so that file and memory agree; the last steps may not be on
 * stable storage yet. */
int qcow2_settle(struct qcow2 *q, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* A barrier for all files of the image.  A failure breaks the image. */
int qcow2_sync(struct qcow2 *q, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* Grows the file over its last allocated cluster. */
int qcow2_cover_file(struct qcow2 *q, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* Writes `count` entries to a table in the file. */
int qcow2_write_table(struct qcow2 *q, uint64_t off, const uint64_t *entries, uint64_t count,
                      struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);

/* ---- l2_change.c ---- */
/* Fills the new table at `to` with the one at `from`, or with zeros where from is 0; both are kept
 * in slices of that cache. */
int qcow2_fill_table(struct qcow2 *q, struct pl_table_cache *tc, uint64_t to, uint64_t from,
                     struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* The entries of one L2 slice from one guest cluster on. */
struct qcow2_l2_view {
    uint8_t *entries; /* valid until the next call on the L2 cache; null: there is no table */
    uint64_t off;     /* byte offset of `entries` in the file */
    uint32_t count;   /* entries to the end of the slice, or of the missing table */
};
/* The entries as they are. */
int qcow2_l2_look(struct qcow2 *q, uint64_t index, struct qcow2_l2_view *view, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);
/* Entries that may be changed: makes a missing table, copies one that a snapshot shares.  Room on
 * the pending list for `view->count` runs is there.  The caller calls qcow2_l2_changed. */
int qcow2_l2_open(struct qcow2 *q, uint64_t index, struct qcow2_l2_view *view, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);
/* The entries of the view change: to be called before anything else touches the cache. */
void qcow2_l2_changed(struct qcow2 *q, const struct qcow2_l2_view *view) PL_NEEDS(&q->lock);
/* Puts the clusters that an entry refers to, which no table shows any more, on the pending list. */
int qcow2_release(struct qcow2 *q, struct qcow2_entry entry, bool discard, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);
/* Host clusters that a compressed unit touches. */
void qcow2_packed_clusters(const struct qcow2 *q, uint64_t word, uint64_t *off, uint64_t *count);

/* ---- parent.c ---- */
/* What the header will say of a parent, in QEMU's words; the caller's to free, also after a
 * failure.  null: nothing. */
int qcow2_copy_parent(const struct pl_parent_ref *parent, char **name, char **format,
                      struct pl_err *e) PL_CHECK;

/* ---- subclusters.c: extended L2 entries ---- */
/* The driver's allocate. */
int qcow2_allocate_subclusters(struct qcow2 *q, uint64_t at, uint64_t len, struct pl_place *out,
                               struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* The entry once [at, at + len) of its guest cluster lies in host cluster `off`. */
struct qcow2_entry qcow2_linked_entry(const struct qcow2 *q, struct qcow2_entry old, uint64_t at,
                                      uint64_t len, uint64_t off);
/* Bits 0 - 31: the subclusters of the guest cluster of `at` that [at, at + len) covers wholly; the
 * end of the disk covers all that follows. */
uint32_t qcow2_subcluster_mask(const struct qcow2 *q, uint64_t at, uint64_t len);
/* Gives a guest cluster whose bytes are in shared or packed room a cluster of its own with the same
 * content, and shows that.  With extended entries it may have no bytes yet. */
int qcow2_unshare(struct qcow2 *q, uint64_t index, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);

/* ---- write.c ---- */
/* What link and cancel must know of a place that is not packed. */
enum qcow2_token { QCOW2_IN_PLACE, QCOW2_OLD_ROOM, QCOW2_NEW_ROOM };
/* A fresh range must consist of whole granules; cuts it to that.  PL_E_INVALID. */
int qcow2_whole_granules(const struct qcow2 *q, uint64_t at, uint64_t *len, uint32_t granule,
                         struct pl_err *e) PL_CHECK;

/* ---- bitmap_store.c ---- */
struct qcow2_bitmap;
/* Marks a bitmap as inconsistent in its directory entry; without a sync. */
int qcow2_mark_in_use(struct qcow2 *q, const struct qcow2_bitmap *b, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

/* ---- bitmap_directory.c ---- */
struct qcow2_bitmap_entry;
/* Shows a directory in which `bitmap`, whose table is at `place`, stands for the one called `name`;
 * null: that one is gone.  What the old directory alone pointed at is pending. */
int qcow2_replace_bitmap(struct qcow2 *q, const char *name, const struct pl_bitmap *bitmap,
                         const struct qcow2_bitmap_entry *place, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

/* ---- bitmap_resize.c ---- */
struct qcow2_kept_bitmap {
    struct pl_bitmap shown;
    uint8_t *bits;
};
struct qcow2_kept_bitmaps {
    struct qcow2_kept_bitmap *item;
    size_t count;
};
/* Before the disk gets `size` bytes: reads the bitmaps and marks them on disk as in use.  *kept is
 * empty before, and after a failure; restore frees it.  PL_E_UNSUPPORTED: one cannot follow. */
int qcow2_keep_bitmaps(struct qcow2 *q, uint64_t size, struct qcow2_kept_bitmaps *kept,
                       struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* Writes them for the disk's size as it is now; takes the lock.  Where the disk has grown they have
 * no bit set. */
int qcow2_restore_bitmaps(struct qcow2 *q, struct qcow2_kept_bitmaps *kept, struct pl_err *e)
    PL_CHECK;

/* ---- resize.c ---- */
/* Gives every cluster of [at, at + len), none of which has bytes that the guest sees, room with
 * zeros in it.  Takes the lock itself. */
int qcow2_preallocate(struct qcow2 *q, uint64_t at, uint64_t len, enum pl_prealloc how,
                      struct pl_err *e) PL_CHECK;

/* ---- zero.c ---- */
enum qcow2_punch { QCOW2_PUNCH_KEEP, QCOW2_PUNCH_UNMAP, QCOW2_PUNCH_DISCARD, QCOW2_PUNCH_FORGET };
/* Zeroes (KEEP, UNMAP) or discards whole clusters; FORGET makes them unallocated whatever the
 * parent has.  1: the version cannot express it. */
int qcow2_punch(struct qcow2 *q, uint64_t at, uint64_t len, enum qcow2_punch how, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

#endif
