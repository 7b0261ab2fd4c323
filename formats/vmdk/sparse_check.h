/* sparse_check.h - one pass over an extent's tables: what is used, and what is wrong.
 *
 * Memory is bounded by the file: a bit for each sector that tables may lie in, and one for each
 * unit of the grains, in pages that exist only where a bit is set. */
#ifndef PL_FORMATS_VMDK_SPARSE_CHECK_H
#define PL_FORMATS_VMDK_SPARSE_CHECK_H

#include "formats/vmdk/sparse.h"

/* A bit for each unit of the file. */
struct vmdk_bits {
    uint64_t units;     /* beyond that nothing is noted */
    unsigned unit_bits; /* logarithm of the bytes of a unit */
    uint8_t **page;     /* null: all bits are 0 */
};

enum vmdk_use { VMDK_UNUSED, VMDK_METADATA, VMDK_GRAIN };

enum vmdk_finding {
    VMDK_LEAK,       /* harmless: room is lost, or (after a crash) the copies differ */
    VMDK_CORRUPTION, /* what the guest sees is in danger */
    VMDK_OVERLAP,    /* as CORRUPTION, and cannot be mended */
    VMDK_UNREADABLE,
};

struct vmdk_check {
    struct vmdk_sparse *s;
    const struct pl_report *report;
    enum pl_repair repair; /* what this pass mends */
    bool tell;             /* findings become warnings */
    unsigned told;
    struct pl_check_result result; /* of this pass */
    struct vmdk_bits metadata;     /* header, descriptor, directories, tables; a unit is a sector */
    struct vmdk_bits grains;       /* a unit divides the offsets of all grains */
    struct vmdk_bits walked;       /* tables whose entries were looked at: none is twice */
    uint64_t metadata_end;         /* of the last table */
    uint64_t grain_bytes;          /* sum of the grains that exist */
    uint64_t last_grain_end;       /* file offset behind the last one, in guest order */
};

/* ---- sparse_usage.c ---- */
/* Bits for a file of that many bytes, all 0. */
int vmdk_bits_make(struct vmdk_bits *b, uint64_t bytes, uint64_t unit, struct pl_err *e) PL_CHECK;
/* Frees them. */
void vmdk_bits_free(struct vmdk_bits *b);
/* Sets the bits of all units that [off, off + len) touches.  1: one was set before; 0; -1. */
int vmdk_bits_set(struct vmdk_bits *b, uint64_t off, uint64_t len, struct pl_err *e) PL_CHECK;
/* Whether one of them is set. */
bool vmdk_bits_any(const struct vmdk_bits *b, uint64_t off, uint64_t len);
/* Notes where header, directories and tables are, and the largest unit that grains allow. */
int vmdk_survey(struct vmdk_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->s->lock);
/* What the bytes from `off` on are, and how many of them at least. */
enum vmdk_use vmdk_use_at(const struct vmdk_check *c, uint64_t off, uint64_t *len);
/* Where grains may begin: behind header, descriptor and (hosted) overHead. */
uint64_t vmdk_grains_from(const struct vmdk_sparse *s);

/* ---- sparse_check.c ---- */
/* A pass that looks and, as far as c->repair says, mends. */
int vmdk_check_pass(struct vmdk_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->s->lock);
/* Frees what a pass noted. */
void vmdk_check_end(struct vmdk_check *c);
/* Counts a finding and tells it.  True: this pass is to mend it. */
bool vmdk_found(struct vmdk_check *c, enum vmdk_finding kind, const char *fmt, ...) PL_PRINTF(3, 4);

/* ---- sparse_repair.c ---- */
/* Directories that lie outside the file: the header no longer names them. */
int vmdk_mend_directories(struct vmdk_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->s->lock);
/* A table that one copy of the directory or both name wrongly: made anew at the end of the file,
 * from the other copy where that is sound. */
int vmdk_mend_table(struct vmdk_check *c, uint64_t index, const bool sound[VMDK_COPIES],
                    struct pl_err *e) PL_CHECK PL_NEEDS(&c->s->lock);
/* A copy of a grain table, in the cache, at `to`, which is unused or behind the file's end. */
int vmdk_copy_table(struct vmdk_sparse *s, uint64_t from, uint64_t to, struct pl_err *e)
    PL_CHECK PL_NEEDS(&s->lock);
/* Sets one entry in one copy. */
int vmdk_mend_entry(struct vmdk_check *c, unsigned copy, uint64_t grain, uint32_t entry,
                    struct pl_err *e) PL_CHECK PL_NEEDS(&c->s->lock);
/* A grain that two entries show: this one gets its own copy of the bytes; *entry is where. */
int vmdk_mend_shared(struct vmdk_check *c, uint64_t grain, uint32_t *entry, struct pl_err *e)
    PL_CHECK PL_NEEDS(&c->s->lock);

/* ---- sparse_compact.c ---- */
/* Moves tables and grains into unused room and cuts the file; `c` is a pass that found nothing
 * wrong, and is a new one afterwards. */
int vmdk_move_down(struct vmdk_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->s->lock);

/* ---- sparse_move_tables.c ---- */
/* What is to be fitted in, and what its offset is a multiple of. */
struct vmdk_fit {
    uint64_t size, align;
};
/* The next unused place at or behind *at that ends by `end`; false: there is none. */
bool vmdk_next_place(const struct vmdk_check *c, uint64_t *at, uint64_t end, struct vmdk_fit fit,
                     uint64_t *off);
/* Moves tables into unused room before them, and syncs.  1: some moved; 0; -1. */
int vmdk_move_tables_down(struct vmdk_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->s->lock);
/* Moves tables that have room for a grain somewhere before them to the end of the file, so that the
 * room can be joined with theirs, and syncs.  1: some moved; 0; -1. */
int vmdk_move_tables_away(struct vmdk_check *c, struct pl_err *e) PL_CHECK PL_NEEDS(&c->s->lock);

#endif
