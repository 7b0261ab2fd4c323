/* qcow2.h - the state of an open qcow2 file, and what its parts offer each other.
 *
 * Specification: QEMU, docs/interop/qcow2.rst.  Layout and limits: layout.h.
 *
 * Parts, tied into the driver by qcow2.c:
 *   header.c, extensions.c,        cluster 0          create.c, new_tables.c, measure.c
 *   replace_header.c, parent.c
 *   l2.c                           look-up            snapshots.c, bitmaps.c, tables.c, facts.c
 *   refcount.c, refcount_table.c   reference counts   bitmap_store.c, bitmap_directory.c
 *   free_clusters.c                room in the file   resize.c, bitmap_resize.c
 *   l2_change.c, write.c           allocate, link     check.c, check_*.c   look for defects
 *   subclusters.c, packed.c, zero.c                   repair.c, rebuild.c  mend them
 *   flush.c                        order on disk      shadow.c          changes shown at once
 *   snapshot_change.c              snapshots change   snapshot_*.c      its parts
 *   amend.c, amend_*.c             options change
 *
 * Order on disk.  Table changes gather in the caches below and reach the file only by
 * qcow2_write_back, which makes steps with a sync between them, each left out when it has nothing
 * to do:
 *   1. refcount blocks (and guest data, which the core wrote before link);
 *   2. entries of the refcount table that point at new blocks;
 *   3. L2 slices;
 *   4. L1 entries that point at new L2 tables;
 *   5. the clusters of the pending list, which nothing points at any more, lose their reference.
 * So: an entry on disk never points at a cluster whose reference is not on disk, and a cluster is
 * never handed out again while an entry on disk may still point at it.  A crash between two steps
 * leaks space and does nothing else.  An L2 cache full of dirty slices causes a write-back, and so
 * does a long pending list; a full refcount cache is merely written, which is safe at any time. */
#ifndef PL_FORMATS_QCOW2_QCOW2_H
#define PL_FORMATS_QCOW2_QCOW2_H

#include "core/base/lock.h"
#include "core/codec/codec.h"
#include "core/driver.h"
#include "core/storage/table_cache.h"
#include "formats/qcow2/layout.h"

/* A header extension that platter does not know: kept as it is. */
struct qcow2_extension {
    struct qcow2_extension *next;
    uint32_t type, len;
    uint8_t data[];
};

/* A run of clusters that lost its last pointer in memory; the reference goes at the next
 * write-back. */
struct qcow2_free {
    uint64_t off;   /* cluster aligned */
    uint64_t count; /* clusters, each loses one reference */
    bool discard;   /* where that was the last one: give the bytes back to the host */
};

struct qcow2_shadow; /* shadow.h */

struct qcow2 {
    /* ---- constant after open ---- */
    struct pl_storage *file; /* the core's */
    struct pl_storage *data; /* guest clusters: `file`, or the external data file (owned) */
    const struct pl_report *report;
    bool writable, snapshot_view;
    bool same_disk; /* no change is one of the disk's content: bitmaps need not know of it */
    uint32_t cluster_size, cluster_bits;
    uint32_t l2_entry_size; /* 8, or 16 with extended L2 entries */
    uint32_t l2_entries;    /* of one table */
    uint32_t l2_bits;       /* log2 of that */
    uint32_t subclusters;   /* of one cluster: 32 with extended L2 entries, else 1 */
    uint32_t subcluster_size;
    uint32_t slice;         /* bytes of an L2 or refcount slice in the caches: <= cluster_size */
    uint32_t refcount_bits; /* 1 to 64 */
    uint64_t refcount_max;
    uint32_t refcounts_per_block; /* entries of one refcount block */
    const struct pl_codec *codec; /* of compressed clusters */

    struct pl_lock lock;        /* guards all below; leaf but for the storage */
    struct qcow2_header header; /* as on disk, or as it will be after qcow2_write_header */
    char *parent_name, *parent_format, *data_file_name; /* null: none */
    struct qcow2_extension *extensions;
    uint64_t *l1; /* host order; header.l1_size entries (of the snapshot in a snapshot view) */
    uint32_t l1_size;
    uint8_t *l1_dirty; /* one byte for each 512-byte sector of the table on disk; null: read-only */
    uint64_t *refcount_table;                         /* host order */
    uint32_t refcount_table_size;                     /* entries */
    uint8_t *refcount_table_dirty;                    /* as l1_dirty */
    struct pl_table_cache *l2_cache, *refcount_cache; /* slices of tables in `file` */
    bool size_waits; /* the header on disk has size_shown until the next flush */
    uint64_t size_shown;
    uint64_t free_hint;   /* no cluster before this index is free */
    uint64_t file_end;    /* no cluster of `file` at or after this byte offset was ever used */
    uint64_t packed_next; /* byte offset where the next compressed unit may go, 0: nowhere */
    struct qcow2_free *pending; /* see above */
    size_t pending_count, pending_room;
    bool header_marked; /* autoclear bits and bitmaps were dealt with at the first change */
    bool miscounted;    /* a cluster in use had no reference: told already */
    bool growing;       /* the refcount table is being enlarged */
    struct qcow2_shadow *shadow; /* a change that one write of the header will show; null: none */
    bool broken;                 /* a table change failed half-way: refuse to change anything */
};

/* One decoded L2 entry: which of its cases it is, for one cluster or one subcluster. */
enum qcow2_kind {
    QCOW2_UNALLOCATED,   /* the parent's */
    QCOW2_ZERO,          /* reads as zeros, no room */
    QCOW2_ZERO_ALLOC,    /* reads as zeros, room is kept */
    QCOW2_UNALLOC_ALLOC, /* subclusters only: the parent's, room is kept */
    QCOW2_NORMAL,
    QCOW2_COMPRESSED,
};

/* An L2 entry in host order. */
struct qcow2_entry {
    uint64_t word;   /* the first 8 bytes */
    uint64_t bitmap; /* extended L2 entries: the second 8 bytes; else 0 */
};

/* ---- header.c ---- */
/* Reads and checks header, names and extensions.  Names unknown incompatible features as the
 * image's own feature name table does.  Fills the constants and the names in q. */
int qcow2_read_header(struct qcow2 *q, struct pl_err *e) PL_CHECK;
/* Writes header, extensions (unknown ones too) and the parent's name into cluster 0; one write. */
int qcow2_write_header(struct qcow2 *q, struct pl_err *e) PL_CHECK;
/* The same bytes in `raw`, a cluster with the file's first header_length bytes and zeros behind
 * them: the name at `name_at` or behind the extensions, whichever is later, nothing at or after
 * byte `limit`.  *used: where they end.  PL_E_LIMIT. */
int qcow2_encode_header(struct qcow2 *q, uint32_t name_at, uint32_t limit, uint8_t *raw,
                        uint32_t *used, struct pl_err *e) PL_CHECK;
/* Derives the constants from q->header.  Used by open and create. */
int qcow2_derive(struct qcow2 *q, struct pl_err *e) PL_CHECK;

/* ---- replace_header.c ---- */
/* Writes the header where more of it has changed than its first sector can take: extensions and
 * names come and go.  On stable storage when it returns; a crash leaves the old header or the new
 * one; version and header_length may have changed too.  A failure breaks the image, but for
 * PL_E_LIMIT: then nothing was written. */
int qcow2_replace_header(struct qcow2 *q, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);

/* ---- l2.c ---- */
/* The driver's map. */
int qcow2_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e);
/* What subcluster `sub` (0 without extended L2) of the entry is; checks reserved bits and
 * alignment, and that its cluster is inside the file.  `index` is the guest cluster, for messages.
 */
int qcow2_classify(const struct qcow2 *q, struct qcow2_entry entry, uint32_t sub, uint64_t index,
                   enum qcow2_kind *kind, struct pl_err *e) PL_CHECK;
/* Byte offset of the L2 table for a guest cluster as the L1 table says (flags removed), 0: none;
 * checked for alignment and for lying inside the file. */
int qcow2_l2_table(const struct qcow2 *q, uint64_t cluster_index, uint64_t *off, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);
/* The same for an entry of any L1 table, whose number `i` is for messages. */
int qcow2_l1_entry(const struct qcow2 *q, uint64_t i, uint64_t entry, uint64_t *off,
                   struct pl_err *e) PL_CHECK;
/* Decodes the entry at its place in a slice of bytes. */
struct qcow2_entry qcow2_load_entry(const struct qcow2 *q, const uint8_t *p);
/* Encodes the entry at its place in a slice of bytes. */
void qcow2_store_entry(const struct qcow2 *q, uint8_t *p, struct qcow2_entry entry);
/* Place and length (at most; whole sectors) of a compressed cluster. */
void qcow2_packed_place(const struct qcow2 *q, uint64_t word, uint64_t *off, uint32_t *len);

/* ---- refcount.c ---- all need q->lock ---- */
/* Reads the references of a cluster (0 past the end of the table). */
int qcow2_refcount(struct qcow2 *q, uint64_t cluster, uint64_t *count, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);
/* Adds `delta` to the references of `count` clusters from byte offset `off` on; grows blocks and
 * table. */
int qcow2_reference(struct qcow2 *q, uint64_t off, uint64_t count, int delta, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);
/* A run of at least 1 and at most `want` (all of them if `contiguous`) neighbouring free clusters
 * of `file`, referenced once.  `got` may be null. */
int qcow2_allocate_clusters(struct qcow2 *q, uint64_t want, bool contiguous, uint64_t *off,
                            uint64_t *got, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* Puts clusters on the pending list; `discard` as in struct qcow2_free. */
int qcow2_free_later(struct qcow2 *q, uint64_t off, uint64_t count, bool discard, struct pl_err *e)
    PL_CHECK PL_NEEDS(&q->lock);

/* ---- flush.c ---- */
/* The steps at the top of this page; `sync_last` adds a sync after the last one that did anything.
 */
int qcow2_write_back(struct qcow2 *q, bool sync_last, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* The driver's flush. */
int qcow2_flush(void *state, struct pl_err *e);
/* pl_table_cache_get and _get_new with a write-back when the cache is full. */
int qcow2_slice(struct qcow2 *q, struct pl_table_cache *tc, uint64_t off, uint8_t **bytes,
                struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);
/* A slice of a new table: all zeros, dirty. */
int qcow2_slice_new(struct qcow2 *q, struct pl_table_cache *tc, uint64_t off, uint8_t **bytes,
                    struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);

/* ---- write.c: the driver's slots ---- */
/* The driver's allocate: room for plain bytes. */
int qcow2_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out, struct pl_err *e);
/* Room for a compressed cluster. */
int qcow2_allocate_packed(void *state, uint64_t at, uint32_t packed_len, struct pl_place *out,
                          struct pl_err *e);
/* Makes map show a place. */
int qcow2_link(void *state, const struct pl_place *place, struct pl_err *e);
/* Gives a place back that was not linked. */
void qcow2_cancel(void *state, const struct pl_place *place);
/* Makes whole granules read as zeros. */
int qcow2_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e);
/* Gives the room of whole granules back. */
int qcow2_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e);
/* Makes whole granules unallocated. */
int qcow2_forget(void *state, uint64_t at, uint64_t len, struct pl_err *e);

/* ---- parent.c ---- */
/* The driver's set_parent. */
int qcow2_set_parent(void *state, const struct pl_parent_ref *parent, struct pl_err *e);

/* ---- create.c, resize.c, check.c, measure.c, snapshots.c, bitmaps.c: the driver's slots ---- */
/* What -o takes. */
extern const struct pl_option_help qcow2_create_options[];
/* Writes a new image; options in create.h. */
int qcow2_create(const struct pl_create_args *args, struct pl_err *e);
/* Grows or shrinks the disk. */
int qcow2_resize(void *state, uint64_t size, bool shrink, enum pl_prealloc prealloc,
                 struct pl_err *e);
/* Looks for defects and mends them. */
int qcow2_check(void *state, enum pl_repair repair, const struct pl_report *report,
                struct pl_check_result *result, struct pl_err *e);
/* Tells what a new image would take. */
int qcow2_measure(const struct pl_measure_args *args, struct pl_measure_result *result,
                  struct pl_err *e);
/* Lists the snapshots in the order of their table. */
int qcow2_snapshots(void *state, struct pl_snapshot **list, size_t *count, struct pl_err *e);
/* Lists the bitmaps, unless they are stale. */
int qcow2_bitmaps(void *state, struct pl_bitmap **list, size_t *count, struct pl_err *e);
/* Reads the bits of one. */
int qcow2_bitmap_load(void *state, const char *name, uint8_t *bits, size_t len, struct pl_err *e);
/* Writes a bitmap, replacing one of that name. */
int qcow2_bitmap_store(void *state, const struct pl_bitmap *bitmap, const uint8_t *bits, size_t len,
                       struct pl_err *e);
/* Removes one, which may be inconsistent; on stable storage when it returns. */
int qcow2_bitmap_remove(void *state, const char *name, struct pl_err *e);
/* Facts in the names and the order of qemu-img. */
int qcow2_info(void *state, struct pl_fact *facts, struct pl_err *e);
/* Finds the snapshot by id, else by name, and makes q show it: L1 table, size.  PL_E_NOT_FOUND. */
int qcow2_select_snapshot(struct qcow2 *q, const char *id_or_name, struct pl_err *e) PL_CHECK;
/* ---- snapshot_change.c: the driver's slots ---- */
/* Keeps the disk's state as a snapshot. */
int qcow2_snapshot_create(void *state, const struct pl_snapshot *facts, struct pl_err *e);
/* The disk becomes what the snapshot is. */
int qcow2_snapshot_apply(void *state, const char *name, uint64_t *size, struct pl_err *e);
/* Removes one, and frees what it alone used. */
int qcow2_snapshot_delete(void *state, const char *name, struct pl_err *e);
/* Gives one another name. */
int qcow2_snapshot_rename(void *state, const char *name, const char *new_name, struct pl_err *e);

/* ---- amend.c: the driver's slot ---- */
/* What it takes. */
extern const struct pl_option_help qcow2_amend_options[];
/* Changes options of the image. */
int qcow2_amend(void *state, const struct pl_options *options, const struct pl_report *report,
                struct pl_err *e);

/* ---- bitmap_store.c ---- */
/* Before the first change of a writable image: the dirty bit is dealt with at open; bitmaps lose
 * their autoclear bit or are marked, with a warning, since what is written is not tracked in them.
 */
int qcow2_before_change(struct qcow2 *q, struct pl_err *e) PL_CHECK PL_NEEDS(&q->lock);

#endif
