/* vhd.h - the state of an open VHD file, and what its parts offer each other.
 *
 * Specification: Microsoft, Virtual Hard Disk Image Format Specification 1.0.  Layout and limits:
 * layout.h.
 *
 *   fixed         disk | footer
 *   others        copy of the footer | header | BAT, locators | blocks | footer
 *   block         sector bitmap, whole sectors, highest bit first | data
 *
 * A sector whose bit is clear is the parent's, and zeros without a parent.  Where there is no
 * parent all bits of a new block are set, because some readers do not look at them there.
 *
 * Parts, tied into the driver by vhd.c:
 *   footer.c, header.c, locator.c   metadata        create.c, measure.c, facts.c
 *   bat.c, map.c, fixed.c           look-up         resize.c, compact.c
 *   write.c, zero.c                 allocate, link  check.c, repair.c
 *   prepare.c, flush.c              order on disk    parent.c, missing.c   another parent
 *
 * Order on disk.  A block is made by allocate and shows nothing yet: its bits are clear, or its
 * data are zeros.  Steps, each with a sync before it:
 *   1. when the file must grow: a footer behind the new room; the old one is overwritten after it;
 *   2. bitmap (and, in room that was used before, zeros) of the new block, guest data;
 *   3. BAT entries, and bits of sectors that were written;
 *   4. blocks that lost their entry are handed out again.
 * So the file ends with a footer at every instant, an entry on disk never points at a block whose
 * bitmap is not on disk, and a bit is set on disk only behind its data.  A crash between two steps
 * leaks blocks and does nothing else.  flush gives unused room before the footer back. */
#ifndef PL_FORMATS_VHD_VHD_H
#define PL_FORMATS_VHD_VHD_H

#include "core/base/lock.h"
#include "core/base/uuid.h"
#include "core/driver.h"
#include "core/storage/table_cache.h"
#include "formats/vhd/layout.h"

/* A part of the file that is no block. */
struct vhd_own {
    const char *what;
    uint64_t off, len;
};

/* What was found where a footer should be. */
enum vhd_found { VHD_NONE, VHD_BAD_CHECKSUM, VHD_GOOD };

struct vhd {
    /* ---- constant after open ---- */
    struct pl_storage *file; /* the core's */
    const struct pl_report *report;
    bool writable, fixed;
    bool has_parent;      /* a differencing disk; vhd_set_parent, which has the layer alone,
                             changes it */
    uint32_t block_size;  /* guest bytes, a power of two */
    uint32_t block_bits;  /* log2 of that */
    uint32_t bitmap_size; /* bytes of a block's sector bitmap: whole sectors */
    uint32_t align;       /* of the data of new blocks in the file */

    struct pl_lock lock;                  /* guards all below; leaf but for the storage */
    struct vhd_footer footer;             /* as on disk, or as it will be after vhd_write_footers */
    uint8_t raw_footer[VHD_FOOTER_BYTES]; /* its bytes as they were found: reserved ones stay */
    struct vhd_header header;
    uint64_t size;           /* of the disk */
    uint64_t footer_at;      /* byte offset of the footer; of the file's end when it is missing */
    enum vhd_found at_end;   /* what the file has there ... */
    enum vhd_found at_start; /* ... and at its start; of no meaning in fixed disks */
    bool copies_differ;      /* those two, although both are good */
    bool header_damaged;     /* the checksum of the header is wrong: opened for `check` alone */
    struct vhd_own own[3 + VHD_LOCATORS]; /* copy of the footer, header, BAT, locators */
    unsigned own_count;
    uint32_t *bat;                  /* host order; header.max_table_entries of them */
    uint8_t *bat_dirty;             /* one byte for each sector of the BAT; null: read-only */
    struct pl_table_cache *bitmaps; /* slices of one sector */
    uint64_t end;                 /* no block and nothing else lies at or behind this byte offset */
    uint64_t zero_from;           /* from here to the footer the file holds zeros */
    uint64_t ahead_at, ahead_end; /* where new blocks would be from the first to the second byte
                                     offset there are bitmaps; equal: nowhere */
    uint8_t *new_bitmap;          /* the bitmap of a new block; there once begun */
    uint32_t *free;    /* sectors at which there is room for a block, ready for use ... */
    uint32_t *pending; /* ... and those that become free at the next write-back */
    size_t free_count, pending_count;
    size_t free_room, pending_room;
    bool growing; /* the footers say the old size until the next flush: a parent may show in what is
                     new, and the core hides it first */
    bool begun;   /* the tables were found good enough to be changed */
    bool broken;  /* a change failed half-way: refuse to change anything */
};

/* Indexes in vhd.own; the locators follow. */
#define VHD_OWN_HEADER 1
#define VHD_OWN_BAT 2

/* ---- footer.c ---- */
/* What len bytes hold; decodes it in any case but VHD_NONE. */
enum vhd_found vhd_decode_footer(const uint8_t *raw, size_t len, struct vhd_footer *footer);
/* Writes the fields of a footer into its VHD_FOOTER_BYTES bytes, and the checksum of them all. */
void vhd_encode_footer(const struct vhd_footer *footer, uint8_t *raw);
/* The complement of the sum of all bytes but the four of the checksum itself. */
uint32_t vhd_checksum(const uint8_t *raw, size_t len, size_t checksum_at);
/* The size of the disk, as the application that made it means it: bytes, whole sectors. */
uint64_t vhd_virtual_size(const struct vhd_footer *footer);
/* Sets the geometry for a disk of that size. */
void vhd_set_geometry(struct vhd_footer *footer, uint64_t size);
/* Bytes that the geometry stands for. */
uint64_t vhd_geometry_size(const struct vhd_footer *footer);
/* Finds the footer of v->file and the copy, chooses between them and checks what does not depend on
 * the rest.  `tolerant`: a wrong checksum is noted only. */
int vhd_find_footer(struct vhd *v, bool tolerant, struct pl_err *e) PL_CHECK;

/* ---- header.c ---- */
/* Reads and checks the header.  `tolerant`: as above. */
int vhd_read_header(struct vhd *v, bool tolerant, struct pl_err *e) PL_CHECK;
/* Sets the checksum in the VHD_HEADER_BYTES bytes of a header. */
void vhd_seal_header(uint8_t *raw);
/* Derives the constants from v->header.  Used by open and create. */
void vhd_derive(struct vhd *v);

/* ---- locator.c ---- */
/* What the file says about its parent's name: the best locator, as a path of the host, null: none.
 * *name is the caller's to free.  Notes the locators' data in v->own. */
int vhd_read_parent_name(struct vhd *v, char **name, struct pl_err *e) PL_CHECK;

/* ---- bat.c ---- */
/* Reads the BAT into memory. */
int vhd_read_bat(struct vhd *v, struct pl_err *e) PL_CHECK;
/* Says that a block is not inside the file. */
extern const char vhd_past_end[];
/* What block `index`, whose entry is `sector`, must not be upon: the name of something else in the
 * file, or vhd_past_end.  null: nothing is wrong with its place. */
const char *vhd_bad_place(const struct vhd *v, uint64_t index, uint32_t sector);
/* Byte offset of the block's bitmap; PL_E_CORRUPT.  The entry is not VHD_UNUSED. */
int vhd_place(const struct vhd *v, uint64_t index, uint64_t *off, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* Blocks that the disk has, the last of them perhaps in part. */
uint64_t vhd_blocks(const struct vhd *v);

/* ---- map.c ---- */
/* The driver's map. */
int vhd_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e);
/* How many of the bits [first, last) of a bitmap are like the first one, and whether they are set.
 */
uint32_t vhd_bit_run(const uint8_t *bits, uint32_t first, uint32_t last, bool *set);

/* ---- fixed.c ---- */
/* map of a fixed disk. */
int vhd_fixed_map(struct vhd *v, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e)
    PL_CHECK;

/* ---- facts.c ---- */
/* What `info` shows. */
int vhd_info(void *state, struct pl_fact *facts, struct pl_err *e);

#endif
