/* vhdx.h - the state of an open VHDX file, and what its parts offer each other.
 *
 * Specification: [MS-VHDX].  Layout and limits: layout.h.
 *
 * Parts, tied into the driver by vhdx.c:
 *   header.c, region.c      the first MiB             create.c, measure.c
 *   metadata.c, parent.c    what kind of disk it is   facts.c
 *   log_read.c              the log as it is found    resize.c
 *   log_write.c             our own changes           check.c, repair.c, compact.c, tally.c
 *   bat.c, tables.c         look-up                   room.c    room for blocks
 *   new_bat.c               another region for it     set_parent.c
 *   write.c, zero.c         allocate, link, zero      flush.c   order on disk
 *
 * Order on disk.  Changes of the BAT and of sector bitmaps gather in a cache of sectors and reach
 * the file only by vhdx_commit:
 *   1. the file is made as long as its blocks need, and all of it is synced: guest data, and what
 *      the commit before wrote in its place;
 *   2. one log entry takes all changed sectors, and is synced;
 *   3. the sectors are written in their place.
 * So a crash finds either all changes of a commit or none of them, and the log never holds more
 * than one entry that matters: it is its own tail, and the one before it lies where the new one
 * does not reach.  Before the first change of a file that was opened, its header gets new
 * FileWriteGuid and DataWriteGuid and the log a LogGuid and an empty entry; vhdx_seal takes the
 * LogGuid away.  Room that lost its block is used again after the commit that says so.
 *
 * A file that is being created has no name yet and is synced as a whole: no log, no order. */
#ifndef PL_FORMATS_VHDX_VHDX_H
#define PL_FORMATS_VHDX_VHDX_H

#include "core/base/lock.h"
#include "core/base/uuid.h"
#include "core/driver.h"
#include "core/storage/table_cache.h"
#include "formats/vhdx/layout.h"

/* A range of the file. */
struct vhdx_range {
    uint64_t off, len;
};

struct vhdx {
    /* ---- constant after open, but for resize and compact, which have the layer alone ---- */
    struct pl_storage *file; /* the core's */
    struct pl_storage *view; /* what is read: `file`, or the overlay with the log replayed (owned)
                              */
    const struct pl_report *report;
    bool writable;
    bool keeps_content; /* see pl_open_args */
    bool direct;        /* a new file, see above */
    bool replayed;      /* the log held something when the file was opened */
    uint64_t size;      /* of the disk */
    uint32_t block_size, block_bits;
    uint32_t sector_size, physical_sector_size;
    uint32_t chunk_bits; /* log2 of the payload blocks that one sector bitmap block describes */
    bool has_parent, keep_blocks; /* the first, and what is known of the parent, is changed by
                                     set_parent, which has the layer alone */
    struct vhdx_range log, bat, metadata;
    struct vhdx_range *others; /* regions that are not known and not required */
    size_t other_count;
    uint64_t size_item;       /* byte offset in the file of the item Virtual Disk Size ... */
    uint64_t parameters_item; /* ... and of File Parameters */
    uint8_t disk_id[16];      /* as stored */
    char *parent_name;        /* as for pl_layer; null: none */
    struct pl_uuid parent_linkage;
    struct pl_uuid parent_linkage2; /* what the parent may be known by instead; null: nothing */
    unsigned damaged_headers; /* copies that are not sound ... */
    unsigned damaged_regions; /* ... and those of the region table */

    struct pl_lock lock; /* guards all below; leaf but for the storage */
    struct vhdx_header header;
    unsigned header_slot;          /* which of the two copies it is */
    struct pl_table_cache *tables; /* sectors of the BAT and of sector bitmap blocks */
    uint64_t *dirty;               /* byte offsets of those that were changed, ascending */
    uint32_t dirty_count, dirty_max;
    uint64_t file_end;       /* no block was ever at or after this byte offset */
    uint64_t *freed;         /* byte offsets of room for a block that can be used again after ... */
    uint32_t freed_count;    /* ... the next commit ... */
    uint32_t reusable_count; /* ... and of those that can be now: they stand in front */
    uint32_t freed_room;
    uint64_t log_next;     /* where in the log the next entry goes */
    uint64_t log_sequence; /* of the last entry written */
    bool looked;           /* the BAT was found to be right */
    bool changed;          /* the header was dealt with: see above ... */
    bool data_changed;     /* ... and its DataWriteGuid, too */
    bool broken;           /* a change of the tables failed half-way: refuse to change anything */
};

/* ---- header.c ---- */
/* Reads both headers, and takes the newer one that is sound. */
int vhdx_read_headers(struct vhdx *v, struct pl_err *e) PL_CHECK;
/* Writes v->header over the older copy with the next sequence number, and syncs. */
int vhdx_write_header(struct vhdx *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Encodes a header and its checksum into VHDX_HEADER_BYTES. */
void vhdx_encode_header(const struct vhdx_header *header, uint8_t *raw);
/* Sets the checksum of `len` bytes at its place. */
void vhdx_seal_sum(uint8_t *raw, size_t len);
/* Whether it is right.  The bytes are changed meanwhile. */
bool vhdx_sum_holds(uint8_t *raw, size_t len);
/* Whether the file begins like a VHDX file. */
bool vhdx_probe(const struct pl_probe *probe);

/* ---- region.c ---- */
/* Finds log, BAT and metadata region, and checks that nothing overlaps. */
int vhdx_read_regions(struct vhdx *v, struct pl_err *e) PL_CHECK;
/* The name of a GUID of the file for messages: text form.  Returns buf. */
char *vhdx_guid_text(const uint8_t *raw, char buf[static PL_UUID_TEXT]);
/* Reads a copy of the region table, VHDX_REGION_TABLE_BYTES, and says whether it is sound. */
int vhdx_load_region_table(struct vhdx *v, unsigned copy, uint8_t *raw, bool *sound,
                           struct pl_err *e) PL_CHECK;
/* Whether [off, off + len) has bytes of the headers, the log or a region. */
bool vhdx_on_metadata(const struct vhdx *v, uint64_t off, uint64_t len);

/* ---- metadata.c ---- */
/* Reads the items: size, blocks, sectors, parent. */
int vhdx_read_metadata(struct vhdx *v, struct pl_err *e) PL_CHECK;
/* What the sizes of block and sector imply; PL_E_CORRUPT where they are not allowed. */
int vhdx_derive(struct vhdx *v, struct pl_err *e) PL_CHECK;

/* ---- parent.c ---- */
/* Takes name and identity of the parent from a parent locator item of `len` bytes. */
int vhdx_read_locator(struct vhdx *v, const uint8_t *item, uint32_t len, struct pl_err *e) PL_CHECK;
/* What children of that parent say in it.  PL_E_INVALID, PL_E_UNSUPPORTED where it cannot be the
 * parent of a VHDX image. */
int vhdx_read_linkage(const struct pl_parent_ref *parent, struct pl_uuid *linkage, struct pl_err *e)
    PL_CHECK;
/* Makes such an item of at most VHDX_LOCATOR_BYTES_MAX; *item is the caller's to free. */
int vhdx_make_locator(const char *parent_name, const struct pl_uuid *linkage, uint8_t **item,
                      uint32_t *len, struct pl_err *e) PL_CHECK;

/* ---- log_read.c ---- */
/* Replays a log that is not empty: into the file where it is open for writing, else into
 * v->view. */
int vhdx_replay(struct vhdx *v, struct pl_err *e) PL_CHECK;

/* ---- bat.c ---- */
/* The driver's map. */
int vhdx_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e);
/* Index in the BAT of a payload block. */
static inline uint64_t vhdx_payload_index(const struct vhdx *v, uint64_t block)
{
    return block + (block >> v->chunk_bits);
}
/* Index in the BAT of the sector bitmap block that describes a payload block. */
static inline uint64_t vhdx_bitmap_index(const struct vhdx *v, uint64_t block)
{
    const uint64_t chunk = block >> v->chunk_bits;

    return ((chunk + 1) << v->chunk_bits) + chunk;
}
/* Payload blocks of a disk of `size` bytes. */
static inline uint64_t vhdx_blocks(const struct vhdx *v, uint64_t size)
{
    return pl_div_up(size, v->block_size);
}
/* Entries that the BAT of a disk of `size` bytes has: those behind the last block's are left out
 * unless sector bitmaps are used. */
uint64_t vhdx_bat_entries(const struct vhdx *v, uint64_t size);
/* Checks the entry of a payload block: the state is one, the place lies in the file (`end` bytes)
 * and on nothing else. */
int vhdx_check_payload(const struct vhdx *v, uint64_t entry, uint64_t block, uint64_t end,
                       struct pl_err *e) PL_CHECK;
/* The same for the sector bitmap block of a chunk: *off is its place, 0: it has none. */
int vhdx_check_bitmap(const struct vhdx *v, uint64_t entry, uint64_t chunk, uint64_t end,
                      uint64_t *off, struct pl_err *e) PL_CHECK;
/* Whether the state has a place that is used. */
static inline bool vhdx_is_present(uint64_t entry)
{
    return VHDX_BAT_STATE(entry) >= VHDX_FULLY_PRESENT;
}

/* ---- tables.c: sectors of tables in memory; all need v->lock ---- */
/* The sector of a table that has byte `off` of the file; *bytes is its start and good until the
 * next call. */
int vhdx_table(struct vhdx *v, uint64_t off, uint8_t **bytes, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* That sector, got by the last call, was changed.  Room for it was made by vhdx_reserve. */
void vhdx_table_changed(struct vhdx *v, uint64_t off) PL_NEEDS(&v->lock);
/* Makes sure that `count` more sectors (at most VHDX_RESERVE_MAX) can be changed before the next
 * commit, so that changes that belong together reach the file together. */
int vhdx_reserve(struct vhdx *v, uint32_t count, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
#define VHDX_RESERVE_MAX 64
/* Reads and writes an entry of the BAT, by its index. */
int vhdx_entry(struct vhdx *v, uint64_t index, uint64_t *entry, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* Changes one sector. */
int vhdx_set_entry(struct vhdx *v, uint64_t index, uint64_t entry, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* The place of the sector bitmap block for a payload block, 0: there is none. */
int vhdx_bitmap(struct vhdx *v, uint64_t block, uint64_t *off, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* How many of the sectors of a payload block from guest address `at` on, up to len bytes (whole
 * sectors, within the block), are alike, in bytes, and whether they are in this file.  `bitmap` is
 * the place of the bitmap block. */
int vhdx_bits(struct vhdx *v, uint64_t bitmap, uint64_t at, uint64_t *len, bool *set,
              struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Sets the bits of guest [at, at + len), within one payload block.  Changes up to
 * vhdx_bitmap_sectors(v) sectors. */
int vhdx_set_bits(struct vhdx *v, uint64_t bitmap, uint64_t at, uint64_t len, bool set,
                  struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Whether a partially present block has no sector. */
int vhdx_is_bare(struct vhdx *v, uint64_t block, bool *bare, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* Changes bytes of a table, of the region tables or of metadata. */
int vhdx_put(struct vhdx *v, uint64_t off, const void *bytes, uint64_t len, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* Sectors of a table that the bits of one payload block are in, at most. */
uint32_t vhdx_bitmap_sectors(const struct vhdx *v);
/* The run of equal bits from bit `first` on, at most `count` bits and none past the sector's. */
uint64_t vhdx_equal_bits(const uint8_t *bytes, uint64_t first, uint64_t count, bool *set);

/* ---- log_write.c ---- */
/* A sector of the file and what it becomes. */
struct vhdx_change {
    uint64_t off; /* multiple of VHDX_SECTOR */
    const uint8_t *bytes;
};
/* Sectors that one log entry can take: their descriptors fill one more. */
#define VHDX_CHANGES_MAX 126
/* A random identifier as a header has it. */
void vhdx_new_guid(uint8_t *raw);
/* Begins to use the log: a new LogGuid, an empty entry, a new FileWriteGuid in the header. */
int vhdx_log_start(struct vhdx *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Syncs what was written before, then writes an entry and syncs it: the changes now happen,
 * whatever comes.  The caller makes them. */
int vhdx_log_write(struct vhdx *v, const struct vhdx_change *changes, uint32_t count,
                   struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);

/* ---- flush.c ---- */
/* PL_E_INVALID when the image is open for reading only, PL_E_SYS when it is broken. */
int vhdx_check_writable(const struct vhdx *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* The same, and begins to use the log.  Before any change that the guest does not see.
 * PL_E_CORRUPT when entries of the BAT are wrong or two blocks lie in one place: the first call
 * looks at all. */
int vhdx_begin_upkeep(struct vhdx *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* The same, before any change that the guest sees. */
int vhdx_begin_change(struct vhdx *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* vhdx_begin_upkeep without that look, for the repair. */
int vhdx_begin_repair(struct vhdx *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* What the guest sees is about to change: the header gets another DataWriteGuid. */
int vhdx_new_content(struct vhdx *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* The steps at the top of this page. */
int vhdx_commit(struct vhdx *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Syncs the file; a failure breaks the image. */
int vhdx_sync(struct vhdx *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Makes the file as long as file_end says. */
int vhdx_cover_file(struct vhdx *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* The driver's flush. */
int vhdx_flush(void *state, struct pl_err *e);
/* The driver's seal. */
int vhdx_seal(void *state, struct pl_err *e);

/* ---- room.c ---- all need v->lock ---- */
/* Room of one to `count` blocks in a row; it reads as zeros. */
int vhdx_new_room(struct vhdx *v, uint64_t count, uint64_t *off, uint64_t *got, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* Room for tables at the end of the file, whole MiB; it reads as zeros. */
int vhdx_new_table_room(struct vhdx *v, uint64_t len, uint64_t *off, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* The room of a block is free once the next commit is done. */
void vhdx_free_room(struct vhdx *v, uint64_t off) PL_NEEDS(&v->lock);
/* That commit is done. */
void vhdx_rooms_free_now(struct vhdx *v) PL_NEEDS(&v->lock);

/* ---- write.c, zero.c: the driver's slots ---- */
/* Room for plain bytes. */
int vhdx_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out, struct pl_err *e);
/* Makes map show a place. */
int vhdx_link(void *state, const struct pl_place *place, struct pl_err *e);
/* Gives a place back that was not linked. */
void vhdx_cancel(void *state, const struct pl_place *place);
/* Makes whole sectors read as zeros. */
int vhdx_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e);
/* Gives the room of whole blocks back. */
int vhdx_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e);
/* Makes whole sectors read as the parent's. */
int vhdx_forget(void *state, uint64_t at, uint64_t len, struct pl_err *e);
/* The sector bitmap block for a payload block, made if there is none. */
int vhdx_need_bitmap(struct vhdx *v, uint64_t block, uint64_t *off, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);

/* ---- create.c, measure.c ---- */
/* What -o takes. */
extern const struct pl_option_help vhdx_create_options[];
/* Writes a new image. */
int vhdx_create(const struct pl_create_args *args, struct pl_err *e);
/* Tells what a new image would take. */
int vhdx_measure(const struct pl_measure_args *args, struct pl_measure_result *result,
                 struct pl_err *e);

/* ---- tally.c ---- */
/* Which MiB of the file have an owner. */
struct vhdx_tally {
    uint8_t *used; /* a bit each */
    uint64_t units;
};
/* Headers, log and regions are taken from the start. */
int vhdx_tally_make(const struct vhdx *v, struct vhdx_tally *tally, struct pl_err *e) PL_CHECK;
/* Frees. */
void vhdx_tally_free(struct vhdx_tally *tally);
/* Takes the MiB of [off, off + len); false, and nothing is taken, where one has an owner already.
 * What lies past the last MiB is left out. */
bool vhdx_tally_take(struct vhdx_tally *tally, uint64_t off, uint64_t len);
/* Gives them back. */
void vhdx_tally_drop(struct vhdx_tally *tally, uint64_t off, uint64_t len);
/* Whether a MiB, by its number, has an owner. */
bool vhdx_tally_has(const struct vhdx_tally *tally, uint64_t unit);
/* Byte offset behind the last MiB that has one. */
uint64_t vhdx_tally_end(const struct vhdx_tally *tally);

/* ---- walk.c ---- */
/* An entry of the BAT that is not all zeros. */
struct vhdx_item {
    uint64_t index;
    uint64_t entry;
    bool bitmap;    /* of a sector bitmap block ... */
    uint64_t block; /* ... for the chunk of this payload block; else the payload block */
};
/* Visits the entries of the disk in the order of the BAT; `visit` may change them. */
int vhdx_walk(struct vhdx *v,
              int (*visit)(void *ctx, const struct vhdx_item *item, struct pl_err *e), void *ctx,
              struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Sets entries [first, end) to zero, but for that of index `keep`; payload blocks lose their room.
 */
int vhdx_clear_entries(struct vhdx *v, uint64_t first, uint64_t end, uint64_t keep,
                       struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Takes what all sound entries say. */
int vhdx_tally_blocks(struct vhdx *v, struct vhdx_tally *tally, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* Cuts the file at `end`, behind which nothing is used; nothing is waiting to be committed. */
int vhdx_cut_file(struct vhdx *v, uint64_t end, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);

/* ---- new_bat.c ---- */
/* Where the BAT shall be so that it has room for so many entries; a place that is not v->bat has a
 * copy of it, all of which is in the file.  Nothing is waiting to be committed. */
int vhdx_need_bat(struct vhdx *v, uint64_t entries, struct vhdx_range *bat, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* A copy of the BAT in another place, as long as the old one. */
int vhdx_copy_bat(struct vhdx *v, struct vhdx_range *bat, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* Commits what was put, and that the BAT is there.  A failure breaks the image. */
int vhdx_commit_bat(struct vhdx *v, struct vhdx_range bat, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* That is done: v->bat is another one, and the room of the old one a hole. */
void vhdx_use_bat(struct vhdx *v, struct vhdx_range bat) PL_NEEDS(&v->lock);
/* Moves the BAT to where it was before, which is still free; cuts the file where that was its end.
 */
int vhdx_bring_bat_back(struct vhdx *v, struct vhdx_range place, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);

/* ---- resize.c, check.c, compact.c, set_parent.c: the driver's slots ---- */
/* Another parent, or none. */
int vhdx_set_parent(void *state, const struct pl_parent_ref *parent, struct pl_err *e);
/* Grows or shrinks the disk. */
int vhdx_resize(void *state, uint64_t size, bool shrink, enum pl_prealloc prealloc,
                struct pl_err *e);
/* Looks for defects and mends them. */
int vhdx_check(void *state, enum pl_repair repair, const struct pl_report *report,
               struct pl_check_result *result, struct pl_err *e);
/* Gives back blocks that are zero, and moves the others to the front of the file. */
int vhdx_compact(void *state, const struct pl_report *report, uint64_t *freed, struct pl_err *e);

/* ---- facts.c ---- */
/* What `info` shows. */
int vhdx_info(void *state, struct pl_fact *facts, struct pl_err *e);

#endif
