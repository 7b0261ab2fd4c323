/* change.h - what the parts that change a VHD file offer each other; the order on disk is in vhd.h.
 */
#ifndef PL_FORMATS_VHD_CHANGE_H
#define PL_FORMATS_VHD_CHANGE_H

#include "formats/vhd/vhd.h"

/* A block and where it is. */
struct vhd_block {
    uint32_t sector; /* of its bitmap in the file */
    uint32_t index;
};

/* Bytes that a block takes in the file. */
static inline uint64_t vhd_block_bytes(const struct vhd *v)
{
    return (uint64_t)v->bitmap_size + v->block_size;
}

/* The first byte offset at or behind `off` at which a new block can be: its data are aligned. */
static inline uint64_t vhd_block_place(const struct vhd *v, uint64_t off)
{
    return pl_round_up(off + v->bitmap_size, v->align) - v->bitmap_size;
}

/* ---- prepare.c ---- */
/* PL_E_INVALID, PL_E_SYS when the image must not be changed; before the first change it looks at
 * the tables (PL_E_CORRUPT) and mends the footers. */
int vhd_begin_change(struct vhd *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* The same without looking at the tables. */
int vhd_check_writable(const struct vhd *v, struct pl_err *e) PL_CHECK;
/* All blocks that the BAT names, by their place in the file; the caller frees the list. */
int vhd_sorted_blocks(const struct vhd *v, struct vhd_block **list, size_t *count, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* Lists the room for blocks between what lies in the file, which is settled, as free. */
int vhd_list_free(struct vhd *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Writes the footer and its copy where they are not good. */
int vhd_mend_footers(struct vhd *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* The end of the last thing before the footer. */
uint64_t vhd_end_of_blocks(const struct vhd *v) PL_NEEDS(&v->lock);

/* ---- gaps.c ---- */
/* Something in the file: byte offsets. */
struct vhd_piece {
    uint64_t off, end;
};

/* A walk over the gaps in which there is room for a block. */
struct vhd_gaps {
    const struct vhd *v;
    struct vhd_piece *used; /* by place */
    size_t count;
    size_t next; /* the gap looked at lies before used[next] ... */
    uint64_t at; /* ... and starts here */
};

/* Begins before the first gap between those blocks and what is no block.  vhd_gaps_end frees, also
 * after a failure. */
int vhd_gaps_begin(struct vhd_gaps *gaps, const struct vhd *v, const struct vhd_block *blocks,
                   size_t count, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* The next place for a block, all of it before byte offset `limit`. */
bool vhd_gaps_next(struct vhd_gaps *gaps, uint64_t limit, uint64_t *off);
/* Frees the list. */
void vhd_gaps_end(struct vhd_gaps *gaps);

/* ---- flush.c ---- */
/* Room for a block is free for use. */
int vhd_add_free(struct vhd *v, uint32_t sector, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* pl_storage_flush; a failure breaks the image. */
int vhd_sync(struct vhd *v, struct pl_err *e) PL_CHECK;
/* Writes the footer at byte offset `at` (0: the copy). */
int vhd_write_footer(struct vhd *v, uint64_t at, struct pl_err *e) PL_CHECK;
/* Writes the footer, then its copy; each is on disk before the next step.  A failure breaks the
 * image. */
int vhd_write_footers(struct vhd *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Step 1: makes room up to byte offset `end`, perhaps more, before the footer. */
int vhd_make_room(struct vhd *v, uint64_t end, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Gives room between v->end and the footer back. */
int vhd_trim(struct vhd *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Step 3. */
int vhd_write_back(struct vhd *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Step 3, a sync, and step 4. */
int vhd_settle(struct vhd *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* The driver's flush. */
int vhd_flush(void *state, struct pl_err *e);
/* Changes a BAT entry in memory. */
void vhd_set_entry(struct vhd *v, uint64_t index, uint32_t sector) PL_NEEDS(&v->lock);
/* Takes the entry of a block away; its room becomes free at the next flush. */
int vhd_drop_block(struct vhd *v, uint64_t index, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);

/* ---- write.c ---- */
/* Gives the block an entry, with a bitmap that shows nothing, or zeros. */
int vhd_make_block(struct vhd *v, uint64_t index, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* A place behind everything else for a block, for the caller to fill; *off. */
int vhd_append_room(struct vhd *v, uint64_t *off, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* The sectors of guest [at, at + len), inside one block that exists, are in the block, or are not.
 */
int vhd_set_bits(struct vhd *v, uint64_t at, uint64_t len, bool set, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* Whether the block, which exists, has no sector. */
int vhd_is_bare(struct vhd *v, uint64_t index, bool *bare, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);
/* Room for plain bytes. */
int vhd_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out, struct pl_err *e);
/* Makes map show it. */
int vhd_link(void *state, const struct pl_place *place, struct pl_err *e);

/* ---- zero.c ---- */
/* The driver's zero. */
int vhd_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e);
/* The driver's discard. */
int vhd_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e);
/* The driver's forget. */
int vhd_forget(void *state, uint64_t at, uint64_t len, struct pl_err *e);

/* ---- missing.c: the BAT and all bitmaps are on disk ---- */
/* Makes the sectors that the blocks do not have zeros where they would be. */
int vhd_zero_missing(struct vhd *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Says that the blocks have all their sectors. */
int vhd_set_all_bits(struct vhd *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);

/* ---- resize.c ---- */
/* The footers say v->size from now on. */
int vhd_show_size(struct vhd *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);
/* Writes the header anew, but for its second half: locators stay. */
int vhd_write_header(struct vhd *v, struct pl_err *e) PL_CHECK PL_NEEDS(&v->lock);

/* ---- compact.c ---- */
/* Gives up blocks that say nothing, moves the last ones into gaps, and cuts the file. */
int vhd_close_gaps(struct vhd *v, const struct pl_report *report, struct pl_err *e)
    PL_CHECK PL_NEEDS(&v->lock);

/* ---- create.c, fixed.c, measure.c, resize.c, compact.c, parent.c, check.c: driver's slots ---- */
/* What -o takes. */
extern const struct pl_option_help vhd_create_options[];
/* Writes a new image; of one for a pipe it only checks the arguments. */
int vhd_create(const struct pl_create_args *args, struct pl_err *e);
/* Writes the footer of a fixed disk that went through a pipe. */
int vhd_finish(void *state, struct pl_err *e);
/* Tells what a new image would take. */
int vhd_measure(const struct pl_measure_args *args, struct pl_measure_result *result,
                struct pl_err *e);
/* Grows or shrinks the disk. */
int vhd_resize(void *state, uint64_t size, bool shrink, enum pl_prealloc prealloc,
               struct pl_err *e);
/* Moves the last blocks into gaps before them. */
int vhd_compact(void *state, const struct pl_report *report, uint64_t *freed, struct pl_err *e);
/* Another parent, or none: see parent.c. */
int vhd_set_parent(void *state, const struct pl_parent_ref *parent, struct pl_err *e);
/* Looks for defects and mends them. */
int vhd_check(void *state, enum pl_repair repair, const struct pl_report *report,
              struct pl_check_result *result, struct pl_err *e);

#endif
