/* sparse.h - the state of an open sparse extent, and what its parts offer each other.
 *
 * Layout and limits: layout.h.  Hosted sparse and COWD extents differ in their headers, in the size
 * of a grain table and in that a hosted one has everything twice; all else is the same code.
 *
 * Parts:
 *   sparse_header.c   headers and footer        sparse_write.c   room, link, zero, forget
 *   sparse_open.c     open, the descriptor      sparse_room.c    free room in the file
 *   grain_table.c     look-up of entries        sparse_flush.c   order on disk
 *   sparse_map.c      runs                      sparse_create.c, sparse_resize.c
 *   table_change.c    changes of entries        sparse_compact.c, sparse_move_tables.c
 *   sparse_check.c, sparse_usage.c, sparse_repair.c   look for defects, mend them
 *
 * The two copies.  Copy 0 is the grain directory at gdOffset with its tables, copy 1 the redundant
 * one.  Reading uses copy 0, and copy 1 where copy 0 points outside the file or cannot be read.
 * Writing keeps both equal, and refuses an extent whose copy 0 is damaged.
 *
 * Order on disk.  Changes gather in the two caches below and reach the file only by
 * vmdk_sparse_write_back, which makes steps with a sync between them, each left out when it has
 * nothing to do:
 *   1. the header says "not closed properly" (and, COWD, where free room begins), and the file is
 *      as long as the room handed out; guest data, which the core wrote before link;
 *   2. grain tables, both copies;
 *   3. directory entries that point at new tables;
 *   4. grains of the pending list, which no table on disk shows any more, become free room: they
 *      are given back to the host and may be handed out again.
 * flush then syncs and writes a header that says "closed properly"; that write is not synced: the
 * worst that a crash makes of it is a needless warning.  So an entry on disk never points at a
 * grain or a table that is not there, and a grain is never handed out again while an entry on disk
 * may show it.  A crash between two steps leaks room in the file (check -r leaks takes it back) and
 * may leave the two copies different, which opening for writing mends. */
#ifndef PL_FORMATS_VMDK_SPARSE_H
#define PL_FORMATS_VMDK_SPARSE_H

#include "core/base/lock.h"
#include "core/storage/table_cache.h"
#include "formats/vmdk/extent.h"
#include "formats/vmdk/layout.h"

#define VMDK_COPIES 2

/* A run of bytes of the file. */
struct vmdk_run {
    uint64_t off, len;
};

/* Runs in the order of their offsets, none touching another. */
struct vmdk_runs {
    struct vmdk_run *run;
    size_t count, room;
};

struct vmdk_sparse {
    /* ---- constant after open, but for what resize changes (size, directory*) ---- */
    struct pl_storage *file; /* vmdk.c's */
    const struct pl_report *report;
    bool writable;
    bool cowd, compressed, markers;
    bool zeroed_grains; /* an entry of 1 says zeros ... */
    bool may_zero;      /* ... and may be written */
    uint64_t size;      /* guest bytes */
    uint32_t grain_size, grain_bits;
    uint32_t table_entries, table_bits; /* of one grain table, and the logarithm of that */
    uint64_t directory_entries;
    uint64_t directory[VMDK_COPIES]; /* byte offsets; 0: there is no such copy, or it is unusable */
    uint64_t metadata_end; /* of header and descriptor, in bytes: no grain begins before it */

    struct pl_lock lock;       /* guards all below; leaf but for the storage */
    bool has_parent;           /* zeros must be told */
    struct vmdk_header header; /* hosted: as on disk, or as the next write makes it */
    struct vmdk_cowd_header cowd_header;
    struct pl_table_cache *directory_cache, *table_cache; /* sectors of `file` */
    uint64_t file_end;              /* nothing of the file at or behind this was ever used */
    struct vmdk_runs free, pending; /* see above */
    bool marked;                    /* the header on disk says "not closed properly" ... */
    bool was_unclean;               /* ... and did when it was opened: `check -r` alone ends that */
    bool warned;                    /* about a damaged copy */
    bool broken;                    /* a change failed half-way: refuse to change anything */
};

/* Bytes of one grain table. */
static inline uint32_t vmdk_table_bytes(const struct vmdk_sparse *s)
{
    return s->table_entries * VMDK_ENTRY_BYTES;
}

/* Guest bytes that one grain table describes. */
static inline uint64_t vmdk_table_span(const struct vmdk_sparse *s)
{
    return (uint64_t)s->table_entries << s->grain_bits;
}

/* Guest bytes that exist of a grain: less than grain_size at the extent's end. */
static inline uint32_t vmdk_grain_len(const struct vmdk_sparse *s, uint64_t grain)
{
    const uint64_t left = s->size - (grain << s->grain_bits);

    return left < s->grain_size ? (uint32_t)left : s->grain_size;
}

/* Where an entry points; meaningless for NONE and ZEROED. */
static inline uint64_t vmdk_entry_offset(uint32_t entry)
{
    return (uint64_t)entry * VMDK_SECTOR;
}

/* Whether an entry points at bytes of the file. */
static inline bool vmdk_entry_points(const struct vmdk_sparse *s, uint32_t entry)
{
    return entry != VMDK_ENTRY_NONE && !(entry == VMDK_ENTRY_ZEROED && s->zeroed_grains);
}

/* ---- sparse_header.c ---- */
/* Reads and checks the header of a hosted sparse extent; with gdOffset "at the end" what the footer
 * says instead.  PL_E_FORMAT for another magic. */
int vmdk_read_header(struct pl_storage *file, struct vmdk_header *out, struct pl_err *e) PL_CHECK;
/* The header alone, also where a footer will take its place: a stream under way has none yet. */
int vmdk_read_first_header(struct pl_storage *file, struct vmdk_header *out, struct pl_err *e)
    PL_CHECK;
/* The same for a COWD extent. */
int vmdk_read_cowd_header(struct pl_storage *file, struct vmdk_cowd_header *out, struct pl_err *e)
    PL_CHECK;
/* The magic number of a file; 0 where it has less than four bytes. */
int vmdk_read_magic(struct pl_storage *file, uint32_t *magic, struct pl_err *e) PL_CHECK;

/* ---- grain_table.c ---- */
/* How many entries one look at a table covers at most. */
#define VMDK_LOOK_ENTRIES 1024u
/* A copy of consecutive entries, in host order. */
struct vmdk_entries {
    uint32_t count; /* at most VMDK_LOOK_ENTRIES */
    bool keep_lock; /* the file is read under the lock (by what changes tables), not without it */
    uint32_t entry[VMDK_LOOK_ENTRIES];
};
/* Reads io->count entries from byte `off` of the file on, through a cache. */
int vmdk_read_entries(struct vmdk_sparse *s, struct pl_table_cache *tc, uint64_t off,
                      struct vmdk_entries *io, struct pl_err *e) PL_CHECK PL_NEEDS(&s->lock);
/* Checks that the grain table that entry `index` of a directory names is inside the file; *off is
 * its place, 0: none. */
int vmdk_check_table(const struct vmdk_sparse *s, uint32_t entry, uint64_t index, uint64_t *off,
                     struct pl_err *e) PL_CHECK PL_NEEDS(&s->lock);
/* Place of the grain table `index` as one copy of the directory says, 0: none. */
int vmdk_find_table(struct vmdk_sparse *s, unsigned copy, uint64_t index, bool keep_lock,
                    uint64_t *off, struct pl_err *e) PL_CHECK PL_NEEDS(&s->lock);
/* Reads entries from that of `grain` on; io->count is lowered to what is in the grain's table, 0:
 * there is no table.  Uses the redundant copy where it must and may. */
int vmdk_look(struct vmdk_sparse *s, uint64_t grain, struct vmdk_entries *io, struct pl_err *e)
    PL_CHECK PL_NEEDS(&s->lock);
/* How many tables from `index` on, at most up to `last`, are missing or zeros for sure; it may stop
 * early.  Without the lock held. */
uint64_t vmdk_empty_tables(struct vmdk_sparse *s, uint64_t index, uint64_t last);
/* That a grain lies where its entry, which points, may point; `file_end` as in struct vmdk_sparse.
 */
int vmdk_check_entry(const struct vmdk_sparse *s, uint32_t entry, uint64_t grain, uint64_t file_end,
                     struct pl_err *e) PL_CHECK;

/* ---- sparse_map.c ---- */
/* The extent's map. */
int vmdk_sparse_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out,
                    struct pl_err *e);
/* Reads what is in front of a compressed grain: *off and *len are the place of its data. */
int vmdk_packed_place(const struct vmdk_sparse *s, uint32_t entry, uint64_t grain, uint64_t *off,
                      uint32_t *len, struct pl_err *e) PL_CHECK;

/* ---- sparse_room.c: free room; all need s->lock where they take s ---- */
/* Adds a run that is not in the list. */
int vmdk_runs_add(struct vmdk_runs *runs, uint64_t off, uint64_t len, struct pl_err *e) PL_CHECK;
/* Room for at least one grain and at most *len bytes, whole grains in a row: *off and *len, and
 * whether it reads as zeros.  PL_E_LIMIT when entries could not reach it. */
int vmdk_take_room(struct vmdk_sparse *s, uint64_t *off, uint64_t *len, bool *zeroed,
                   struct pl_err *e) PL_CHECK PL_NEEDS(&s->lock);
/* Room of any whole number of sectors at the end of the file. */
int vmdk_append_room(struct vmdk_sparse *s, uint64_t len, uint64_t *off, struct pl_err *e)
    PL_CHECK PL_NEEDS(&s->lock);
/* Room that nothing shows and nothing on disk ever showed is free again. */
void vmdk_return_room(struct vmdk_sparse *s, uint64_t off, uint64_t len) PL_NEEDS(&s->lock);
/* A grain lost its entry in memory: it goes on the pending list. */
int vmdk_free_later(struct vmdk_sparse *s, uint64_t off, struct pl_err *e)
    PL_CHECK PL_NEEDS(&s->lock);
/* Step 4 at the top of this page. */
void vmdk_free_pending(struct vmdk_sparse *s) PL_NEEDS(&s->lock);

/* ---- table_change.c ---- */
/* New entries: that of grain + i becomes entry + i * step. */
struct vmdk_change {
    uint64_t grain, count;
    uint32_t entry, step;
    bool keep_room; /* what the old entries show is not freed */
};
/* Changes both copies in the caches; grains that lose their entry go on the pending list.  Tables
 * that are missing are made, unless the entries say nothing.  On failure some may be changed: then
 * s->broken is set. */
int vmdk_change_entries(struct vmdk_sparse *s, struct vmdk_change change, struct pl_err *e)
    PL_CHECK PL_NEEDS(&s->lock);

/* Makes the tables for a grain, if they are missing. */
int vmdk_make_missing_tables(struct vmdk_sparse *s, uint64_t grain, struct pl_err *e)
    PL_CHECK PL_NEEDS(&s->lock);

/* ---- sparse_flush.c ---- */
/* PL_E_INVALID for an extent that is open for reading only, PL_E_SYS for a broken one. */
int vmdk_sparse_writable(const struct vmdk_sparse *s, struct pl_err *e) PL_CHECK;
/* The steps at the top of this page; `sync_last` adds a sync after the last one that did anything.
 */
int vmdk_sparse_write_back(struct vmdk_sparse *s, bool sync_last, struct pl_err *e)
    PL_CHECK PL_NEEDS(&s->lock);
/* pl_table_cache_get with a write-back when the cache is full. */
int vmdk_sector(struct vmdk_sparse *s, struct pl_table_cache *tc, uint64_t off, uint8_t **bytes,
                struct pl_err *e) PL_CHECK PL_NEEDS(&s->lock);
/* A sector of a new table: all zeros, dirty. */
int vmdk_sector_new(struct vmdk_sparse *s, struct pl_table_cache *tc, uint64_t off, uint8_t **bytes,
                    struct pl_err *e) PL_CHECK PL_NEEDS(&s->lock);
/* Everything written is on stable storage; else the extent is broken. */
int vmdk_sync(struct vmdk_sparse *s, struct pl_err *e) PL_CHECK PL_NEEDS(&s->lock);
/* Writes the field that says whether the extent was closed properly. */
int vmdk_write_mark(struct vmdk_sparse *s, bool unclean, struct pl_err *e)
    PL_CHECK PL_NEEDS(&s->lock);
/* The file is as long as what was handed out of it. */
int vmdk_cover_file(struct vmdk_sparse *s, struct pl_err *e) PL_CHECK PL_NEEDS(&s->lock);
/* The extent's flush. */
int vmdk_sparse_flush(void *state, struct pl_err *e);

/* ---- sparse_write.c: the extent's slots ---- */
/* Room for guest bytes: the grain's own, or new. */
int vmdk_sparse_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out,
                         struct pl_err *e);
/* Makes map show a place. */
int vmdk_sparse_link(void *state, const struct pl_place *place, struct pl_err *e);
/* Gives a place back that was not linked. */
void vmdk_sparse_cancel(void *state, const struct pl_place *place);
/* Makes whole grains read as zeros. */
int vmdk_sparse_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e);
/* Gives the room of whole grains back. */
int vmdk_sparse_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e);

/* What the extent said of whole grains is gone. */
int vmdk_sparse_forget(void *state, uint64_t at, uint64_t len, struct pl_err *e);

/* ---- sparse_create.c ---- */
/* A grain directory with its tables in a row behind it, in sectors. */
struct vmdk_tables {
    uint64_t tables;            /* how many */
    uint64_t directory_sectors; /* of the directory, whole sectors */
    uint64_t table_sectors;     /* of one table */
};
/* What grains for `bytes` of disk need. */
struct vmdk_tables vmdk_tables_for(uint64_t bytes, uint64_t grain_size, uint32_t table_entries);
/* Sectors that directory and tables take. */
uint64_t vmdk_tables_sectors(const struct vmdk_tables *t);
/* Writes a directory of tables in a row from sector `table_sector` on to
 * byte `off`; the rest of its last sector becomes zeros. */
int vmdk_write_directory(struct pl_storage *file, uint64_t off, const struct vmdk_tables *t,
                         uint64_t table_sector, struct pl_err *e) PL_CHECK;

/* ---- table_change.c, continued ---- */
/* Makes entry `index` of one copy of the directory show a table; the cache has it. */
int vmdk_set_table(struct vmdk_sparse *s, unsigned copy, uint64_t index, uint64_t table,
                   struct pl_err *e) PL_CHECK PL_NEEDS(&s->lock);

/* ---- sparse_resize.c ---- */
/* The extent's resize: it grows. */
int vmdk_sparse_resize(void *state, uint64_t size, enum pl_prealloc prealloc, struct pl_err *e);
/* Writes the first sector of the header from s, and syncs; an extent that could not is broken. */
int vmdk_write_first_sector(struct vmdk_sparse *s, struct pl_err *e) PL_CHECK PL_NEEDS(&s->lock);

/* The extent's place_descriptor. */
int vmdk_sparse_place_descriptor(void *state, uint64_t off, uint64_t len, struct pl_err *e);

/* ---- sparse_check.c, sparse_compact.c ---- */
/* The extent's check. */
int vmdk_sparse_check(void *state, enum pl_repair repair, const struct pl_report *report,
                      struct pl_check_result *result, struct pl_err *e);
/* The extent's compact. */
int vmdk_sparse_compact(void *state, const struct pl_report *report, uint64_t *freed,
                        struct pl_err *e);

/* ---- sparse_open.c ---- */
/* Frees the state. */
void vmdk_sparse_close(void *state);

#endif
