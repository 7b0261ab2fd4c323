/* vdi.h - the state of an open VDI file, and what its parts offer each other.
 *
 * Layout: layout.h.  Parts, tied into the driver by vdi.c:
 *   header.c                   the header           create.c, measure.c, parent.c
 *   map_storage.c, block_map.c entries of the map   resize.c
 *   scan.c                     all of them          compact.c
 *   room.c                     places in the file   check.c, facts.c
 *   write.c, zero.c            allocate, link, zero
 *   flush.c                    order on disk
 *
 * Order on disk.  Before the first change the header gets a new modification UUID, synced, unless
 * children cannot see the change (keeps_content).  Then changes of the map gather in the cache and
 * reach the file only by vdi_write_back, in steps:
 *   1. the header's cBlocksAllocated, which is never below a place that the map on disk uses;
 *   2. the file is made long enough for the places; a sync, which waits for guest data too;
 *   3. entries of the map;
 *   4. a sync; only then places that no entry points at any more may be used again.
 * So an entry on disk never points at a place whose bytes are not there, nor at one that has become
 * another block's.  A crash between two steps leaks places and does nothing else.
 *
 * A place past the end of the file reads as zeros once the file has grown over it, and one that is
 * used again is zeroed first: without a parent a block needs no more written than what the guest
 * writes, so the granule is a sector and not the block.  The core locks whole blocks
 * (layer.cluster_size), so no block is given two places at once.
 *
 * Resizing, compacting and repairing have the layer to themselves; each says its own order. */
#ifndef PL_FORMATS_VDI_VDI_H
#define PL_FORMATS_VDI_VDI_H

#include "core/base/lock.h"
#include "core/base/uuid.h"
#include "core/driver.h"
#include "core/storage/table_cache.h"
#include "formats/vdi/layout.h"

/* The largest slice of the map in the cache. */
#define VDI_SLICE_MAX 4096

/* Places that lost their last entry in memory. */
struct vdi_freed {
    uint32_t place, count;
};

/* The places of the data area. */
struct vdi_room {
    uint8_t *used; /* a bit for each place below bits_room; null until the first change */
    uint64_t bits_room;
    uint64_t end;  /* no place at or after this was ever used */
    uint64_t hint; /* no place below this one is unused */
};

struct vdi {
    /* ---- constant after open, but for vdi_resize ---- */
    struct pl_storage *file; /* the core's */
    const struct pl_report *report;
    bool writable;
    bool has_parent;   /* changed by vdi_set_parent alone */
    bool fresh;        /* made a moment ago: no modification to tell of ... */
    bool derive_image; /* ... identifiers follow from the content when it is finished */
    bool derive_modification;
    bool keeps_content;   /* see pl_open_args */
    uint32_t cache_bytes; /* 0: the default */
    uint32_t block_bits;
    uint64_t stride;                /* bytes of a place */
    struct pl_storage *map_storage; /* the map alone; owned */
    uint32_t slice;                 /* bytes of it in the cache at once */

    struct pl_lock lock;            /* guards all below; leaf but for the storage */
    struct vdi_header header;       /* as on disk, or as it will be after vdi_write_header */
    uint8_t raw[VDI_HEADER_SECTOR]; /* the header's bytes; those without a field are kept */
    struct pl_table_cache *cache;   /* slices of map_storage */
    struct vdi_room room;
    struct vdi_freed *freed; /* see step 4 */
    size_t freed_count, freed_room;
    uint64_t given_back; /* places that were released since the image was opened */
    uint64_t file_end;   /* nothing at or after this byte offset of the file was ever used */
    bool looked;         /* room is known, and the map good enough to be changed */
    bool changed;        /* the first change was told */
    bool header_dirty;   /* cBlocksAllocated on disk is too low */
    bool broken;         /* a change failed half-way: refuse to change anything */
};

/* ---- header.c ---- */
/* Reads and checks the header, and derives the constants from it. */
int vdi_read_header(struct vdi *v, struct pl_err *e) PL_CHECK;
/* Sets the bytes of a header: `raw` keeps what no field covers.  Returns how many there are. */
size_t vdi_encode_header(const struct vdi_header *h, uint8_t raw[static VDI_HEADER_SECTOR]);
/* Writes v->header; one sector, so it is there as a whole or not at all.  No sync. */
int vdi_write_header(struct vdi *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Checks what create and open both need: block size, blocks, offsets against each other. */
int vdi_check_geometry(const struct vdi_header *h, struct pl_err *e) PL_CHECK;
/* Whether the header has no offsets, so that the map cannot move. */
bool vdi_is_old(const struct vdi_header *h);
/* Blocks that a disk of `size` bytes has. */
uint64_t vdi_blocks_of(const struct vdi_header *h, uint64_t size);

/* ---- map_storage.c ---- */
/* The map of `count` entries at byte `off` of `file` as a storage of its own, as long as whole
 * slices are: past the last entry it reads as zeros and takes writes without effect.  So a cache
 * over it touches neither the header nor the data around the map.  `file` stays the caller's. */
int vdi_map_storage(struct pl_storage *file, uint64_t off, uint64_t count, struct pl_storage **out,
                    struct pl_err *e) PL_CHECK;

/* ---- block_map.c ---- */
/* Makes map_storage and cache for the map that the header tells of. */
int vdi_open_map(struct vdi *v, struct pl_err *e) PL_CHECK;
/* Frees both; null is fine. */
void vdi_close_map(struct vdi *v);
/* The driver's map. */
int vdi_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e);
/* Whether the entry points at a place. */
bool vdi_is_place(uint32_t entry);
/* How many of `count` entries, from that of block `index` on, say the same as the first: places
 * that follow each other in front of `end`, or one mark. */
uint32_t vdi_run(const struct vdi *v, uint64_t index, const uint8_t *entries, uint32_t count,
                 uint64_t end);
/* Byte offset of a place; its cbBlockExtra bytes come first. */
uint64_t vdi_place_offset(const struct vdi *v, uint64_t place);
/* Guest bytes of a block: all of it, but for the last one of the disk. */
uint64_t vdi_block_len(const struct vdi *v, uint64_t index);
/* Whether what the guest block needs of the place lies in front of `end`; and the place is not so
 * far behind cBlocks that no growing or shrinking put it there: what is known of places is bounded
 * by the map. */
bool vdi_place_inside(const struct vdi *v, uint64_t index, uint32_t place, uint64_t end);
/* PL_E_CORRUPT if not. */
int vdi_check_place(const struct vdi *v, uint64_t index, uint32_t place, uint64_t end,
                    struct pl_err *e) PL_CHECK;

/* The entries of blocks from `index` on that one slice of the cache holds; *entries is good until
 * the next call.  Writes back when the cache is full of changes. */
int vdi_entries(struct vdi *v, uint64_t index, uint8_t **entries, uint32_t *count, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* Changes one of them. */
void vdi_set_entry(struct vdi *v, uint64_t index, uint8_t *entry, uint32_t value)
    PL_NEEDS(&v->lock);
/* Both in one. */
int vdi_change_entry(struct vdi *v, uint64_t index, uint32_t value, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);

/* ---- scan.c ---- */
/* Called for each entry; 0 goes on, else the walk ends with that. */
typedef int vdi_visit(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e);
/* Reads `count` entries from block `from` on as they are on disk, in large pieces; nothing may be
 * dirty in the cache.  The visitor may change the entry that it is called for. */
int vdi_walk(struct vdi *v, uint64_t from, uint64_t count, vdi_visit *visit, void *ctx,
             struct pl_err *e) PL_CHECK;

/* What a look at all entries finds. */
struct vdi_findings {
    uint64_t used;       /* places that a block has to itself or has first */
    uint64_t end;        /* the highest of them + 1 */
    uint64_t outside;    /* blocks whose place is past the end of the file */
    uint64_t shared;     /* blocks whose place another one has already */
    uint64_t beyond;     /* entries with a place behind the disk's last block */
    uint64_t fragmented; /* blocks whose place does not follow that of the block before */
};
/* Fills v->room and counts; `tell`: warns of each defect.  The file is as on disk. */
int vdi_scan(struct vdi *v, const struct pl_report *tell, struct vdi_findings *out,
             struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);

/* ---- room.c ---- */
/* A run of at least 1 and at most `want` neighbouring places; their bytes read as zeros (written to
 * them where they did not).  `below`: no place at or behind it. */
int vdi_take_places(struct vdi *v, uint64_t want, uint64_t below, uint64_t *place, uint64_t *got,
                    struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* They may be taken again at once: nothing on disk points there. */
void vdi_give_places(struct vdi *v, uint64_t place, uint64_t count) PL_NEEDS(&v->lock);
/* The lowest unused place, or room->end. */
uint64_t vdi_lowest_unused(struct vdi *v) PL_NEEDS(&v->lock);
/* Marks one as used; *again: it was.  PL_E_NOMEM. */
int vdi_mark_place(struct vdi_room *room, uint64_t place, bool *again, struct pl_err *e) PL_CHECK;
/* Forgets everything about places. */
void vdi_forget_room(struct vdi_room *room);
/* Remembers that the places lost their entry in memory; step 4 frees them. */
int vdi_free_later(struct vdi *v, uint32_t place, uint32_t count, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);

/* ---- flush.c ---- */
/* PL_E_INVALID for an image opened for reading, PL_E_SYS for one that failed half-way. */
int vdi_check_writable(const struct vdi *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* PL_E_CORRUPT: the map is too wrong to be changed. */
int vdi_refuse_map(const struct vdi_findings *found, struct pl_err *e);
/* What comes before every change: at the first one the map is looked at and the modification UUID
 * changes, on disk, unless the content is kept. */
int vdi_begin_change(struct vdi *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* The steps at the top of this page; `sync_last` adds a sync at the end. */
int vdi_write_back(struct vdi *v, bool sync_last, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* A sync that breaks the image when it fails. */
int vdi_sync(struct vdi *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Writes the header between two syncs; breaks the image when that fails. */
int vdi_switch_header(struct vdi *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* The driver's flush. */
int vdi_flush(void *state, struct pl_err *e);

/* ---- the driver's other slots ---- */
/* write.c: room, and the entries that show it. */
int vdi_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out, struct pl_err *e);
int vdi_link(void *state, const struct pl_place *place, struct pl_err *e); /* map shows it */
void vdi_cancel(void *state, const struct pl_place *place);                /* gives it back */
/* zero.c: ranges become zeros. */
int vdi_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e);
int vdi_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e); /* the same, in any case
                                                                              giving room back */
/* The same: they become what a block is that the image says nothing of.  PL_E_UNSUPPORTED in a
 * static image, PL_E_INVALID for a part of a block over a parent. */
int vdi_forget(void *state, uint64_t at, uint64_t len, struct pl_err *e);
/* create.c: what -o takes, and a new file. */
extern const struct pl_option_help vdi_create_options[];
int vdi_create(const struct pl_create_args *args, struct pl_err *e); /* writes it */
/* parent.c: what a header says of a parent (name null: that it has none).  PL_E_UNSUPPORTED for one
 * that is no VDI image, or not known. */
int vdi_name_parent(struct vdi_header *h, const struct pl_parent_ref *parent,
                    const struct pl_report *report, struct pl_err *e) PL_CHECK;
/* Another parent, or none. */
int vdi_set_parent(void *state, const struct pl_parent_ref *parent, struct pl_err *e);
/* The sizes that a new file has. */
int vdi_measure(const struct pl_measure_args *args, struct pl_measure_result *result,
                struct pl_err *e);
/* Identifiers that follow from the content, where they were asked for. */
int vdi_finish(void *state, struct pl_err *e);
/* Grows or shrinks the disk. */
int vdi_resize(void *state, uint64_t size, bool shrink, enum pl_prealloc prealloc,
               struct pl_err *e);
/* Closes the gaps that were made since the image was opened: the layer has no other user. */
int vdi_seal(void *state, struct pl_err *e);
/* Makes the file shorter. */
int vdi_compact(void *state, const struct pl_report *report, uint64_t *freed, struct pl_err *e);
/* The same for a caller that has the lock and has written back. */
int vdi_close_gaps(struct vdi *v, const struct pl_report *report, uint64_t *freed, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* Looks for defects and mends them. */
int vdi_check(void *state, enum pl_repair repair, const struct pl_report *report,
              struct pl_check_result *result, struct pl_err *e);
/* Facts for `info`. */
int vdi_info(void *state, struct pl_fact *facts, struct pl_err *e);

#endif
