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
    bool direct;   /* a new file, see above */
    bool replayed; /* the log held something when the file was opened */
    uint64_t size; /* of the disk */
    uint32_t block_size, block_bits;
    uint32_t sector_size, physical_sector_size;
    uint32_t chunk_bits; /* log2 of the payload blocks that one sector bitmap block describes */
    bool has_parent, keep_blocks;
    struct vhdx_range log, bat, metadata;
    struct vhdx_range *others; /* regions that are not known and not required */
    size_t other_count;
    uint64_t size_item;  /* byte offset in the file of the item Virtual Disk Size */
    uint8_t disk_id[16]; /* as stored */
    char *parent_name;   /* as for pl_layer; null: none */
    struct pl_uuid parent_linkage;
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
    bool changed;          /* the header was dealt with: see above */
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

/* ---- facts.c ---- */
/* What `info` shows. */
int vhdx_info(void *state, struct pl_fact *facts, struct pl_err *e);

#endif
