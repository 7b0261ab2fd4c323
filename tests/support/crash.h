/* crash.h - a crash at any instant of random work on images of one format.
 *
 * A run makes some hundred changes of the file.  Then the file is taken as it could be after a
 * crash at each of them: what was not yet synced is there, is missing, is torn between sectors, or
 * came in another order.  Each such file must open, its tables must be sound (space may be lost),
 * and every sector must hold what the last flush promised or something newer.  From some of them
 * the work goes on.  In further runs every change of the file fails in turn.
 *
 * CRASH_SEED and CRASH_STEPS in the environment choose another run. */
#ifndef TESTS_SUPPORT_CRASH_H
#define TESTS_SUPPORT_CRASH_H

#include "tests/support/history.h"
#include "tests/support/shapes.h"

struct crash_run {
    struct image_run base;
    const struct crash_format *format;
    struct history *history;
    uint8_t *second;  /* a disk, to compare with base.buf */
    uint64_t sectors; /* of the largest disk */
    uint64_t next_value;
    bool may_fail;        /* failures were asked for ... */
    uint64_t error_count; /* ... and so many operations failed, the first of them ... */
    uint64_t error_mark;  /* ... after that was set */
    bool broken;          /* the core would refuse to flush */
};

/* What the frame must know of a format. */
struct crash_format {
    struct image_format image;
    unsigned runs;      /* of each shape, with other seeds */
    unsigned turns;     /* each kind of file comes at every so many-th instant; 0: 1 */
    size_t file_limit;  /* bytes; 0: 64 MiB */
    bool short_parent;  /* the parent ends before every disk does */
    bool read_only_too; /* what opening for reading and for writing show is the same */
    bool silent;        /* opening warns of nothing */
    bool resize_syncs, compact_syncs; /* these end with a flush of their own */
    bool repairs_first;               /* work goes on after a repair, and leaks nothing then */
    enum pl_repair repair;
    unsigned corruptions; /* so many may be found, and are mended by that repair */
    unsigned fail_every;  /* changes fail in turn, but not all of them: steps of so many; 0: all */
    /* After create, in plain memory; or null. */
    void (*prepare)(struct crash_run *run);
    /* One step in twenty-five; or null. */
    void (*own_step)(struct crash_run *run);
    /* Whether a sector of what a crash left may look like that at any time; or null. */
    bool (*excuses)(const struct rig *left, const uint8_t *sector);
};

/* The tests of all shapes: the number of those that failed. */
int crash_tests(const struct crash_format *format, const struct image_shape *shapes, size_t count);

/* ---- for a format's own steps and tests ---- */

/* A new image of the shape, open in a flaky storage (base.rig.st). */
void crash_begin(struct crash_run *run, const struct crash_format *format,
                 const struct image_shape *shape, uint64_t seed);

/* Frees all of a run whose image is closed. */
void crash_end(struct crash_run *run);

/* The result of an operation on the image: it must succeed, unless failures were asked for. */
bool crash_done(struct crash_run *run, int result, const struct pl_err *e);

void crash_write(struct crash_run *run);
void crash_flush(struct crash_run *run);

/* Notes that all until now is safe. */
void crash_flushed(struct crash_run *run);

#endif
