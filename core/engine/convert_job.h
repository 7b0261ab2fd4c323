/* convert_job.h - a convert under way, shared by its steps: convert_plan.c (next), convert_work.c
 * (work), convert_place.c (place, finish).
 *
 * The source's addresses are cut into windows, aligned to both sides' clusters.  A window's content
 * becomes a list of pieces; placing turns pieces into writes, each with its room in the target. */
#ifndef PL_CORE_ENGINE_CONVERT_JOB_H
#define PL_CORE_ENGINE_CONVERT_JOB_H

#include <stdatomic.h>

#include "core/codec/codec.h"
#include "core/engine/convert.h"
#include "core/engine/disk.h"
#include "core/engine/rate.h"

enum pl_piece_kind {
    PL_PIECE_ZERO,   /* reads as zeros */
    PL_PIECE_BYTES,  /* plain bytes in memory */
    PL_PIECE_PACKED, /* one compressed unit in memory */
    PL_PIECE_SHARE,  /* plain bytes in a storage, copied without being looked at */
};

struct pl_piece {
    enum pl_piece_kind kind;
    uint64_t at, len;        /* guest range in the target */
    const uint8_t *bytes;    /* BYTES, PACKED: in the unit's buffers */
    uint32_t packed_len;     /* PACKED: bytes there ... */
    uint8_t *frame;          /* ... inside this: the format's head, the bytes, padding ... */
    uint32_t frame_len;      /* ... of so many bytes */
    struct pl_storage *from; /* SHARE: here ... */
    uint64_t from_off;       /* ... at this byte offset */
};

/* Bytes that have their room. */
struct pl_placed {
    struct pl_place place;
    size_t len;              /* bytes to write at place.off */
    const uint8_t *bytes;    /* from here, or ... */
    struct pl_storage *from; /* ... from there */
    uint64_t from_off;
};

/* A range of the target's file that holds zeros. */
struct pl_hole {
    uint64_t off, len;
};

/* One window and what a worker needs for it. */
struct pl_convert_unit {
    struct pl_convert_job *job;
    uint64_t at, len; /* the window, or a run that the plan knows to be zero: */
    bool zero;
    uint8_t *window; /* the window's bytes, padded with zeros to whole clusters */
    uint8_t *packed; /* framed compressed units, one behind the other; null: nothing is packed */
    size_t packed_used;
    uint8_t *foreign; /* one packed unit of the source, for another frame; null: see job->reframe */
    uint8_t *compare; /* the parent's bytes; null: the target has no parent */
    struct pl_codec_state *packer;
    struct pl_piece *pieces;
    size_t piece_count, piece_room;
    struct pl_placed *placed;
    size_t placed_count, placed_room;
};

struct pl_convert_job {
    /* ---- constant while it runs ---- */
    const struct pl_convert_options *options;
    struct pl_disk source;
    struct pl_image *target;
    bool fresh;                   /* the target is new: linked in order, never locked */
    bool over_parent;             /* it is new and has a parent: what both read alike is left out */
    bool write_zeros;             /* the target does not read as zeros where nothing was written */
    bool scan;                    /* zeros are looked for in data */
    bool whole;                   /* what is known to be zero is written as data all the same */
    bool pass_through;            /* compressed units are taken over where codec and size fit */
    bool reframe;                 /* ... or, where the codecs differ in their frame alone */
    bool share;                   /* data is copied by the host, unseen */
    bool sequential;              /* the target is a stream: everything is written in order ... */
    bool readable;                /* ... and it, or the package that it became, can be read again */
    bool reserve;                 /* room is made ahead of writes, at guest addresses (raw) ... */
    bool reserve_file;            /* ... or at the end of the file (other formats) */
    const struct pl_codec *codec; /* packs; null: no */
    int level;
    uint32_t packed_room; /* bytes that a framed compressed unit takes at most */
    uint32_t window;      /* bytes of a window */
    uint32_t step;        /* zeros are told from data in pieces of this many bytes */
    struct pl_rate rate;
    /* ---- the plan's own: under the ordered run's `next` ---- */
    uint64_t planned;              /* guest address up to which units were made */
    atomic_uint_fast64_t reserved; /* room was made up to this guest address; placing reads it */
    /* ---- of the placing: under the ordered run's `place` ---- */
    uint64_t reserved_file; /* room was made up to this byte offset of the target's file */
    struct pl_hole *holes;  /* zeros inside room that was made ahead: given back at the end */
    size_t hole_count, hole_room;
    /* ---- counters ---- */
    atomic_uint_fast64_t done, copied, shared, passed, zero;
};

/* A worker's unit with its buffers.  Null: no memory, said in *e. */
void *pl_convert_new_unit(void *ctx, struct pl_err *e);
/* Frees it.  Null is fine. */
void pl_convert_free_unit(void *unit);
/* The next window, or a run of zeros.  This and the next three are steps of pl_ordered_job. */
int pl_convert_next(void *ctx, void *unit, struct pl_err *e);
/* Reads the window and makes its list of pieces. */
int pl_convert_work(void *ctx, void *unit, struct pl_err *e);
/* Gets room for the pieces, in guest order. */
int pl_convert_place(void *ctx, void *unit, struct pl_err *e);
/* Writes them. */
int pl_convert_finish(void *ctx, void *unit, struct pl_err *e);

/* `end`, an address in the target; the source's end becomes the end of what a new target shows of
 * its last granule, for the format may count in larger units.  A window has zeros there. */
uint64_t pl_convert_end_in_target(const struct pl_convert_job *job, uint64_t end);

/* Gives back what pl_convert_place put on the list of holes. */
int pl_convert_punch(struct pl_convert_job *job, struct pl_err *e);

/* Adds an empty piece.  Null: no memory, said in *e. */
struct pl_piece *pl_convert_add_piece(struct pl_convert_unit *unit, enum pl_piece_kind kind,
                                      uint64_t at, uint64_t len, struct pl_err *e);

#endif
